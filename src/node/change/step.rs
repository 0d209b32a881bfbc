//! One step of a change: a guarded entry in the log, and what its refusals mean.

use std::time::Duration;

use openraft::errors::ChangeMembershipError;

use super::Changing;
use crate::{
    raft::types::{ChangeMembers, ClientWriteError, LogId, Metrics, Precondition, RaftError},
    wire::{Fault, Reason},
};

/// A step needs one or two quorum rounds. One that takes longer goes on by itself.
const TIMEOUT: Duration = Duration::from_secs(15);

impl Changing {
    /// Changes the membership if it is still the one at `based_on`. Voters change by joint consensus; with `retain`,
    /// voters that leave stay as learners.
    pub async fn change_if(&self, based_on: Option<LogId>, change: ChangeMembers, retain: bool) -> Result<(), Fault> {
        let guard = [Precondition::LastMembershipLogId { last_membership_log_id: based_on }];
        let changing = self.replica.raft.change_membership_if(change, retain, guard);
        match tokio::time::timeout(TIMEOUT, changing).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.refusal(error)),
            Err(_) => Err(Fault::new(Reason::Timeout, "the change was begun but not agreed on in time")
                .next("it goes on by itself; the same command again finishes it")),
        }
    }

    fn refusal(&self, error: RaftError<ClientWriteError>) -> Fault {
        let error = match error {
            RaftError::APIError(error) => error,
            RaftError::Fatal(fatal) => {
                return Fault::new(Reason::Quarantined, format!("this node has stopped: {fatal}"));
            }
        };
        match error {
            ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_) => {
                if self.replica.leadership.is_leader() {
                    self.replica.leadership.no_quorum()
                } else {
                    self.replica.leadership.not_leader()
                }
            }
            ClientWriteError::PreconditionFailed(_) => changed_meanwhile(&self.metrics()),
            ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
            ) => under_way(),
            ClientWriteError::ChangeMembershipError(other) => {
                Fault::new(Reason::Unsafe, format!("the change was refused: {other}"))
            }
        }
    }
}

/// Another change is between its two steps.
pub fn under_way() -> Fault {
    Fault::new(Reason::ChangeInProgress, "another membership change is under way")
        .next("repeat the command when `chat-admin status` shows it done")
}

/// Somebody else has changed the membership since it was looked at.
pub fn changed_meanwhile(metrics: &Metrics) -> Fault {
    let members = metrics.membership_config.nodes();
    let names: Vec<String> = members.map(|(id, member)| format!("{} (id {id})", member.name)).collect();
    let message = format!("the membership has changed meanwhile; its nodes are now {}", names.join(", "));
    let mut fault =
        Fault::new(Reason::EtagMismatch, message).next("look at `chat-admin status` and repeat the command");
    fault.metadata.insert("etag".into(), crate::node::status::etag(metrics));
    fault
}
