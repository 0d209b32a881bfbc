//! Changes of the membership: sends the request to the leader and follows the stream of progress to its end.
//!
//! If the stream breaks, by a change of leader for example, the same request goes to the next leader. This is safe,
//! because every step of a change first looks at what has been done already.

use std::time::Duration;

use tonic::{Request, Response, Status, Streaming, transport::Channel};

use super::{
    CommandContext,
    args::{Guard, NewNode},
    progress::Progress,
};
use crate::{
    cli::{Exit, Failure, Output, Result},
    client::Cluster,
    types::{NodeName, Zone, limits},
    wire::{
        Address, Fault, Reason,
        admin::{
            AddNodeRequest, ChangeProgress, RemoveNodeRequest, ReplaceNodeRequest, SetAddressRequest, SetRoleRequest,
            admin_service_client::AdminServiceClient,
        },
        cluster::Role,
    },
};

/// How long a stream may be silent before it counts as broken. Leaders report at least once a second.
const SILENCE: Duration = Duration::from_secs(30);
/// How often a change is resumed at most. Each change of leader costs one.
const RESUMPTIONS: u32 = 20;

type Stream = Streaming<ChangeProgress>;

/// The request of a change.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Add(AddNodeRequest),
    Replace(ReplaceNodeRequest),
    Remove(RemoveNodeRequest),
    SetRole(SetRoleRequest),
    SetAddress(SetAddressRequest),
}

impl Change {
    pub(super) fn add(node: &NewNode, learner_only: bool, guard: &Guard) -> Self {
        Self::Add(AddNodeRequest {
            name: node.name.to_string(),
            address: node.address.to_string(),
            zone: zone(node),
            learner_only,
            validate_only: guard.dry_run,
            etag: guard.etag.clone(),
        })
    }

    pub(super) fn replace(old: &NodeName, node: &NewNode, guard: &Guard) -> Self {
        Self::Replace(ReplaceNodeRequest {
            old_name: old.to_string(),
            name: node.name.to_string(),
            address: node.address.to_string(),
            zone: zone(node),
            validate_only: guard.dry_run,
            etag: guard.etag.clone(),
        })
    }

    pub(super) fn remove(name: &NodeName, accept_lower_tolerance: bool, guard: &Guard) -> Self {
        let (name, etag) = (name.to_string(), guard.etag.clone());
        Self::Remove(RemoveNodeRequest { name, accept_lower_tolerance, validate_only: guard.dry_run, etag })
    }

    pub(super) fn promote(name: &NodeName, guard: &Guard) -> Self {
        Self::set_role(name, Role::Voter, false, guard)
    }

    pub(super) fn demote(name: &NodeName, accept_lower_tolerance: bool, guard: &Guard) -> Self {
        Self::set_role(name, Role::Learner, accept_lower_tolerance, guard)
    }

    pub(super) fn set_address(name: &NodeName, address: &Address, guard: &Guard) -> Self {
        Self::SetAddress(SetAddressRequest {
            name: name.to_string(),
            address: address.to_string(),
            validate_only: guard.dry_run,
            etag: guard.etag.clone(),
        })
    }

    fn set_role(name: &NodeName, role: Role, accept_lower_tolerance: bool, guard: &Guard) -> Self {
        Self::SetRole(SetRoleRequest {
            name: name.to_string(),
            role: role.into(),
            accept_lower_tolerance,
            validate_only: guard.dry_run,
            etag: guard.etag.clone(),
        })
    }

    /// The attempt, to follow `cannot`.
    fn attempt(&self) -> String {
        match self {
            Self::Add(request) => format!("add node {}", request.name),
            Self::Replace(request) => format!("replace node {} by {}", request.old_name, request.name),
            Self::Remove(request) => format!("remove node {}", request.name),
            Self::SetRole(request) if request.role() == Role::Voter => format!("promote {}", request.name),
            Self::SetRole(request) => format!("demote {}", request.name),
            Self::SetAddress(request) => format!("move {} to {}", request.name, request.address),
        }
    }

    /// The last line: the leader's note if it sent one, since only it knows whether anything was left to do.
    fn conclusion(&self, note: Option<&str>) -> String {
        match note {
            Some(note) if self.is_dry_run() => format!("dry run ({}): {note}", self.attempt()),
            Some(note) => note.to_owned(),
            None => self.done(),
        }
    }

    /// The result, or what it would be for a dry run.
    fn done(&self) -> String {
        let would = if self.is_dry_run() { "would be " } else { "" };
        match self {
            Self::Add(request) if request.learner_only => format!("{} {would}added as a learner", request.name),
            Self::Add(request) => format!("{} {would}added as a voter", request.name),
            Self::Replace(request) => format!("{} {would}replaced by {}", request.old_name, request.name),
            Self::Remove(request) => format!("{} {would}removed", request.name),
            Self::SetRole(request) if request.role() == Role::Voter => {
                format!("{} {would}promoted to voter", request.name)
            }
            Self::SetRole(request) => format!("{} {would}demoted to learner", request.name),
            Self::SetAddress(request) => format!("{} {would}dialled at {}", request.name, request.address),
        }
    }

    fn is_dry_run(&self) -> bool {
        match self {
            Self::Add(request) => request.validate_only,
            Self::Replace(request) => request.validate_only,
            Self::Remove(request) => request.validate_only,
            Self::SetRole(request) => request.validate_only,
            Self::SetAddress(request) => request.validate_only,
        }
    }

    /// The node that has answered if all checks of the change passed.
    fn node_checked(&self) -> Option<&str> {
        match self {
            Self::SetAddress(request) if !request.validate_only => Some(&request.name),
            _ => None,
        }
    }

    /// The same change for resuming: without its etag, which our own first steps have changed.
    fn resumed(mut self) -> Self {
        match &mut self {
            Self::Add(request) => request.etag.clear(),
            Self::Replace(request) => request.etag.clear(),
            Self::Remove(request) => request.etag.clear(),
            Self::SetRole(request) => request.etag.clear(),
            Self::SetAddress(request) => request.etag.clear(),
        }
        self
    }

    /// Whether `fault`, after resuming, means that the change is complete: the node to remove is gone. As the first
    /// answer it could mean a misspelt name as well.
    fn is_completed_by(&self, fault: &Fault) -> bool {
        matches!(self, Self::Remove(_)) && fault.reason == Reason::NodeNotFound
    }

    async fn call(self, channel: Channel) -> std::result::Result<Response<Stream>, Status> {
        let mut client = AdminServiceClient::new(channel).max_decoding_message_size(limits::RPC_BYTES);
        match self {
            Self::Add(request) => client.add_node(Request::new(request)).await,
            Self::Replace(request) => client.replace_node(Request::new(request)).await,
            Self::Remove(request) => client.remove_node(Request::new(request)).await,
            Self::SetRole(request) => client.set_role(Request::new(request)).await,
            Self::SetAddress(request) => client.set_address(Request::new(request)).await,
        }
    }
}

fn zone(node: &NewNode) -> String {
    node.zone.as_ref().map(Zone::to_string).unwrap_or_default()
}

/// Runs a change and shows its progress, until it is done or refused.
pub(super) async fn run(context: &CommandContext<'_>, change: Change, output: &mut Output) -> Result<()> {
    let mut progress = Progress::new(output);
    let followed = follow(&context.cluster, change.clone(), &mut progress).await;
    progress.clear();
    match followed {
        Ok(()) => {}
        Err(FollowError::Output(failure)) => return Err(failure),
        Err(FollowError::Change(fault)) => return Err(failure(&change, fault)),
    }
    if let Some(failed) = progress.failed_check() {
        let why = format!("cannot {}: the check \"{}\" failed: {}", change.attempt(), failed.name, failed.detail);
        let failure = Failure::new(Exit::Refused, why);
        return Err(if failed.hint.is_empty() { failure } else { failure.next(failed.hint.clone()) });
    }
    let conclusion = change.conclusion(progress.note());
    let answers = change.node_checked().filter(|_| progress.passed_checks());
    progress.conclude(&conclusion, answers, change.is_dry_run())
}

/// The failure of a change, with advice that fits how it ended. After a lost connection the change may be half done, which
/// is safe: running the same command again resumes it.
fn failure(change: &Change, fault: Fault) -> Failure {
    let lost_sight = fault.reason.is_transient();
    let may_be_done = change.is_completed_by(&fault);
    let failure = Failure::from(fault).context(format!("cannot {}", change.attempt()));
    if lost_sight && !change.is_dry_run() {
        return failure.next("`chat-admin status` shows how far it got; the same command resumes it");
    }
    if may_be_done {
        let done_before = "if it was removed before, nothing is left to do";
        let others = failure.next.as_ref().map(|others| format!("; {others}")).unwrap_or_default();
        return failure.next(format!("{done_before}{others}"));
    }
    failure
}

/// Why following a change ended early.
enum FollowError {
    /// The leader refused the change, or the stream broke.
    Change(Fault),
    /// The progress cannot be written to our output.
    Output(Failure),
}

/// Follows a change through changes of leader until it is done, refused, or out of resumptions.
async fn follow(
    cluster: &Cluster,
    mut change: Change,
    progress: &mut Progress<'_>,
) -> std::result::Result<(), FollowError> {
    let mut resumptions = 0;
    loop {
        let asked = cluster.on_leader(|channel| change.clone().call(channel)).await;
        // `on_leader` retries until its deadline, so its fault is final.
        let (fault, may_resume) = match asked {
            Ok(stream) => match drain(stream.into_inner(), progress).await {
                Err(FollowError::Output(failure)) => return Err(FollowError::Output(failure)),
                // The leader says when a change is done. A dry run may end with its checks.
                _ if progress.is_done() => return Ok(()),
                Ok(()) if change.is_dry_run() => return Ok(()),
                Ok(()) => {
                    let fault = Fault::new(Reason::Unreachable, "the leader went away before the change was done");
                    (fault, resumptions < RESUMPTIONS)
                }
                Err(FollowError::Change(fault)) => (fault, resumptions < RESUMPTIONS),
            },
            Err(fault) => (fault, false),
        };
        // The previous leader may have removed the node and died before it could report the end.
        if resumptions > 0 && change.is_completed_by(&fault) {
            return Ok(());
        }
        if !may_resume || !fault.reason.is_transient() {
            return Err(FollowError::Change(fault));
        }
        // `on_leader` waits for the election, so there is no pause here.
        progress.interrupted(&fault);
        change = change.resumed();
        resumptions += 1;
    }
}

/// Shows the messages of a stream until it ends.
async fn drain(mut stream: Stream, progress: &mut Progress<'_>) -> std::result::Result<(), FollowError> {
    loop {
        match tokio::time::timeout(SILENCE, stream.message()).await {
            Ok(Ok(Some(message))) => progress.show(&message).map_err(FollowError::Output)?,
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(status)) => return Err(FollowError::Change(Fault::from_status(&status))),
            Err(_) => {
                let message = format!("the leader has been silent for {} s", SILENCE.as_secs());
                return Err(FollowError::Change(Fault::new(Reason::Timeout, message)));
            }
        }
    }
}
