//! One step of a change: a guarded entry in the log, and the meaning of openraft's refusals.

use std::time::Duration;

use openraft::errors::ChangeMembershipError;

use super::{
    faults::{change_in_progress, membership_changed},
    operation::ChangeOperation,
};
use crate::{
    raft::{
        self,
        types::{ChangeMembers, ClientWriteError, LogId, Precondition, RaftError},
    },
    wire::{Fault, Reason},
};

/// A step takes one or two quorum rounds. A step that takes longer is not cancelled.
const TIMEOUT: Duration = Duration::from_secs(15);

impl ChangeOperation {
    /// Changes the membership if it is still the one at `based_on`.
    ///
    /// openraft changes voters by joint consensus: one entry with the old and the new set, then one with the new set. With
    /// `retain`, voters that leave the set stay as learners.
    pub async fn change_membership_if(
        &self,
        based_on: Option<LogId>,
        change: ChangeMembers,
        retain: bool,
    ) -> Result<(), Fault> {
        let guard = [Precondition::LastMembershipLogId { last_membership_log_id: based_on }];
        let changing = self.replica.raft.change_membership_if(change, retain, guard);
        match tokio::time::timeout(TIMEOUT, changing).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.refusal(error)),
            Err(_) => Err(Fault::new(Reason::Timeout, "the change was begun but not agreed on in time")
                .next("it goes on by itself; repeat the command to finish it")),
        }
    }

    fn refusal(&self, error: RaftError<ClientWriteError>) -> Fault {
        let error = match error {
            RaftError::APIError(error) => error,
            RaftError::Fatal(fatal) => return raft::stopped(fatal),
        };
        match error {
            ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_) => {
                if self.replica.leadership.is_leader() {
                    self.replica.leadership.no_quorum()
                } else {
                    self.replica.leadership.not_leader()
                }
            }
            ClientWriteError::PreconditionFailed(_) => membership_changed(&self.metrics()),
            ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
            ) => change_in_progress(),
            ClientWriteError::ChangeMembershipError(other) => {
                Fault::new(Reason::Unsafe, format!("the change was refused: {other}"))
            }
        }
    }
}
