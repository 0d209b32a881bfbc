//! Removing a node.

use super::{Progress, checks::Judged, operation::ChangeOperation};
use crate::{
    membership::Change,
    node::Node,
    raft::types::ChangeMembers,
    types::NodeId,
    wire::{
        Fault,
        admin::{ChangeProgress, RemoveNodeRequest, change_progress::Phase},
    },
};

impl Node {
    /// Removes a node. A leader that is to leave hands leadership over first and sends the caller to its successor.
    pub async fn remove_node(&self, request: RemoveNodeRequest) -> Result<Progress, Fault> {
        let (operation, progress) = self.begin_change(&[&request.name], &request.etag, request.validate_only).await?;
        let (id, _) = operation.require_member(&request.name)?;
        let judged =
            Judged::tolerance(operation.probe_voters().await, Change::Remove(id), request.accept_lower_tolerance);
        if judged.passed() {
            operation.hand_over_if_leaving(id).await?;
        }
        tokio::spawn(async move {
            let result = operation.remove(id, &request).await;
            operation.finish(result).await;
        });
        Ok(progress)
    }
}

impl ChangeOperation {
    /// Removes the node from the voters and from the membership, in one step.
    async fn remove(&self, id: NodeId, request: &RemoveNodeRequest) -> Result<ChangeProgress, Fault> {
        let based_on = self.expected_membership();
        let accept_lower = request.accept_lower_tolerance;
        let judged = Judged::tolerance(self.probe_voters().await, Change::Remove(id), accept_lower);
        if let Some(dry_run) = self.report_checks(judged)? {
            return Ok(dry_run);
        }
        self.report(self.message(Phase::Joint));
        if self.is_voter(id) {
            self.change_membership_if(based_on, ChangeMembers::RemoveVoters([id].into()), false).await?;
        } else {
            self.change_membership_if(based_on, ChangeMembers::RemoveNodes([id].into()), true).await?;
        }
        Ok(self.done(format!("{} is removed; it stops by itself when it learns of it", request.name)))
    }
}
