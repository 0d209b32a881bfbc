//! Membership changes: add, replace, remove, promote, demote, hand over.
//!
//! Every change is judged first, by who answers now ([`membership::judge`](crate::membership::judge)), and guarded by
//! the membership it was judged on (compare and set). Voters change by joint consensus alone. Each step begins with a
//! look at the membership, so the same command given again after any crash goes on where the first one ended.
//!
//! A change runs in a task of its own on the leader: the client that asked may go away, the change goes on. The leader
//! may die: then the cluster has a learner more, or a joint configuration that the next leader completes (`keeper`).

mod add;
mod address;
mod catch_up;
mod hearing;
mod preflight;
mod promote;
mod remove;
mod step;
mod transfer;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use openraft::async_runtime::WatchReceiver;
use tokio::sync::mpsc;

use super::{Node, replica::Replica, status};
use crate::{
    client::fault_tolerance,
    membership::{Change, Layout, Verdict},
    raft::types::{LogId, Member, Metrics},
    types::NodeId,
    wire::{
        Fault, Reason,
        admin::{ChangeProgress, Check, change_progress::Phase},
    },
};

pub(super) use promote::Ready;
pub use {
    add::{AddNode, ReplaceNode},
    address::SetAddress,
    preflight::Newcomer,
};

/// Progress of a membership change: messages until it is done, or a fault.
pub type Progress = mpsc::Receiver<Result<ChangeProgress, Fault>>;

/// Messages of a change that may wait for a slow reader; older ones are then left out.
const PROGRESS_QUEUE: usize = 64;

/// How long a change waits for another one to take its second step.
const SETTLING: Duration = Duration::from_secs(5);

/// Nodes that a change on this leader is about: a second one about the same node is refused.
#[derive(Clone, Default)]
pub(super) struct Busy(Arc<Mutex<BTreeSet<String>>>);

struct Claim {
    busy: Busy,
    names: Vec<String>,
}

impl Busy {
    fn claim(&self, names: &[&str]) -> Result<Claim, Fault> {
        let mut busy = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        if let Some(taken) = names.iter().find(|name| busy.contains(*name)) {
            let message = format!("a change of node {taken} is under way already");
            return Err(Fault::new(Reason::ChangeInProgress, message)
                .next("`chat-admin status` shows how it goes; repeat the command when it is done"));
        }
        busy.extend(names.iter().cloned());
        Ok(Claim { busy: self.clone(), names })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut busy = self.busy.0.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &self.names {
            busy.remove(name);
        }
    }
}

/// One change under way on this leader.
struct Changing {
    node: Node,
    replica: Arc<Replica>,
    progress: mpsc::Sender<Result<ChangeProgress, Fault>>,
    validate_only: bool,
    /// The membership that the operator has seen, if an etag named it: the first change is guarded by it.
    seen: Option<LogId>,
    _claim: Claim,
}

impl Node {
    /// Begins a change about the nodes called `names`: here only if this node leads and the membership is still the
    /// one that `etag` names (any, if it is empty).
    async fn begin_change(
        &self,
        names: &[&str],
        etag: &str,
        validate_only: bool,
    ) -> Result<(Changing, Progress), Fault> {
        let replica = self.replica()?;
        replica.leadership.ensure_leader()?;
        if !replica.leadership.has_quorum() {
            return Err(replica.leadership.no_quorum());
        }
        settled(&replica).await?;
        self.begin_without_quorum(names, etag, validate_only)
    }

    /// The same for a change that may be what brings the quorum back.
    fn begin_without_quorum(
        &self,
        names: &[&str],
        etag: &str,
        validate_only: bool,
    ) -> Result<(Changing, Progress), Fault> {
        let replica = self.replica()?;
        replica.leadership.ensure_leader()?;
        let claim = self.inner.busy.claim(names)?;
        let (progress, receiver) = mpsc::channel(PROGRESS_QUEUE);
        // The etag is that of the membership as it is now: from here on a compare-and-set holds it.
        let seen = seen_by(etag, &replica.leadership.metrics())?;
        let changing = Changing { node: self.clone(), replica, progress, validate_only, seen, _claim: claim };
        Ok((changing, receiver))
    }
}

/// The log id of the membership that `etag` names, if it is the one of `metrics`; nothing for no etag.
fn seen_by(etag: &str, metrics: &Metrics) -> Result<Option<LogId>, Fault> {
    match etag {
        "" => Ok(None),
        _ if etag == status::etag(metrics) => Ok(*metrics.membership_config.log_id()),
        _ => Err(step::changed_meanwhile(metrics)),
    }
}

/// Waits until no other change is between its two steps: one that a leader left there is finished by the next leader,
/// and the command that began it, given again, should find it done.
async fn settled(replica: &Replica) -> Result<(), Fault> {
    let mut metrics = replica.raft.metrics();
    let uniform = async {
        while metrics.borrow_watched().membership_config.get_joint_config().len() > 1 {
            if metrics.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(SETTLING, uniform).await.map_err(|_| step::under_way())
}

impl Changing {
    fn metrics(&self) -> Metrics {
        self.replica.leadership.metrics()
    }

    /// What the first step of this change is guarded by.
    fn guard(&self) -> Option<LogId> {
        self.seen.or(*self.metrics().membership_config.log_id())
    }

    /// Whether a change is between its two steps.
    fn is_joint(&self) -> bool {
        self.metrics().membership_config.get_joint_config().len() > 1
    }

    /// The membership, and who of it answers now.
    async fn listen(&self) -> Layout {
        hearing::listen(&self.replica).await
    }

    /// The same before learners are promoted.
    async fn listen_for_learners(&self) -> Layout {
        hearing::listen_for_learners(&self.replica, self.node.settings().config.election_timeout_max).await
    }

    /// The member of this name, whatever its case.
    fn member(&self, name: &str) -> Option<(NodeId, Member)> {
        let metrics = self.metrics();
        let mut members = metrics.membership_config.nodes();
        let found = members.find(|(_, member)| member.name.eq_ignore_ascii_case(name));
        found.map(|(id, member)| (*id, member.clone()))
    }

    fn require_member(&self, name: &str) -> Result<(NodeId, Member), Fault> {
        self.member(name).ok_or_else(|| {
            let metrics = self.metrics();
            let names: Vec<_> = metrics.membership_config.nodes().map(|(_, member)| member.name.clone()).collect();
            Fault::new(Reason::NodeNotFound, format!("no node of this cluster is called {name}"))
                .next(format!("its nodes are {}", names.join(", ")))
        })
    }

    fn is_voter(&self, id: NodeId) -> bool {
        self.metrics().membership_config.voter_ids().any(|voter| voter == id)
    }

    fn message(&self, phase: Phase) -> ChangeProgress {
        let metrics = self.metrics();
        ChangeProgress {
            phase: phase.into(),
            tolerance: Some(fault_tolerance(&status::layout(&metrics, |_| status::REACHABLE).tolerance())),
            etag: status::etag(&metrics),
            ..Default::default()
        }
    }

    /// Tells whoever still listens. A reader that lags misses intermediate messages, never the last.
    fn tell(&self, message: ChangeProgress) {
        let _ = self.progress.try_send(Ok(message));
    }

    /// The last message.
    async fn finish(&self, result: Result<ChangeProgress, Fault>) {
        match &result {
            Ok(_) => tracing::info!(node = self.metrics().id, "membership change done"),
            Err(fault) => tracing::warn!(reason = fault.reason.as_str(), %fault, "membership change not done"),
        }
        let _ = self.progress.send(result).await;
    }

    fn done(&self, note: impl Into<String>) -> ChangeProgress {
        ChangeProgress { note: note.into(), ..self.message(Phase::Done) }
    }

    /// The last message of a change that is only to be judged: what the cluster would survive after it.
    fn would_be(&self, before: &Layout, change: &Change) -> ChangeProgress {
        let after = before.after(change).ok().map(|after| fault_tolerance(&after.tolerance()));
        ChangeProgress { tolerance: after, ..self.done("every check passed; nothing was changed") }
    }

    /// Tells of the checks; an error if one of them failed.
    fn checked(&self, checks: Vec<Check>) -> Result<(), Fault> {
        let failed = checks.iter().find(|check| !check.ok).cloned();
        self.tell(ChangeProgress { checks, ..self.message(Phase::Checks) });
        match failed {
            None => Ok(()),
            // What is judged half way of another change says nothing about the time after it.
            Some(_) if self.is_joint() => Err(step::under_way()),
            Some(check) => {
                let message = format!("refused by the check `{}`: {}", check.name, check.detail);
                Err(Fault::new(Reason::Unsafe, message).next(check.hint))
            }
        }
    }
}

/// A verdict as a check, given whether the operator accepts a lower tolerance.
fn verdict_check(verdict: Verdict, accept_lower_tolerance: bool) -> Check {
    let check = |ok, detail: String, hint: String| Check { name: "fault tolerance".into(), ok, detail, hint };
    match verdict {
        Verdict::Ok { warnings } if warnings.is_empty() => check(true, "not lowered".into(), String::new()),
        Verdict::Ok { warnings } => check(true, warnings.join("; "), String::new()),
        Verdict::NeedsFlag { why, warnings } => {
            let detail = std::iter::once(why).chain(warnings).collect::<Vec<_>>().join("; ");
            let hint = format!("give {} if that is meant", crate::membership::ACCEPT_LOWER_TOLERANCE);
            check(accept_lower_tolerance, detail, hint)
        }
        Verdict::Refused { why, next } => check(false, why, next),
    }
}
