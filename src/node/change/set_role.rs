//! Changing whether a node votes.

use super::{Progress, checks::Judged, operation::ChangeOperation};
use crate::{
    membership::Change,
    node::Node,
    raft::types::ChangeMembers,
    types::NodeId,
    wire::{
        Fault,
        admin::{ChangeProgress, SetRoleRequest, change_progress::Phase},
        cluster::Role,
    },
};

impl Node {
    /// Promotes a learner or demotes a voter.
    pub async fn set_role(&self, request: SetRoleRequest) -> Result<Progress, Fault> {
        let promote = match request.role() {
            Role::Voter => true,
            Role::Learner => false,
            Role::Unspecified => return Err(Fault::invalid("role", "the role must be voter or learner")),
        };
        let (operation, progress) = self.begin_change(&[&request.name], &request.etag, request.validate_only).await?;
        let (id, _) = operation.require_member(&request.name)?;
        if !promote {
            let judged =
                Judged::tolerance(operation.probe_voters().await, Change::Demote(id), request.accept_lower_tolerance);
            if judged.passed() {
                operation.hand_over_if_leaving(id).await?;
            }
        }
        tokio::spawn(async move {
            let result = match promote {
                true => operation.promote(id, &request).await,
                false => operation.demote(id, &request).await,
            };
            operation.finish(result).await;
        });
        Ok(progress)
    }
}

impl ChangeOperation {
    async fn promote(&self, id: NodeId, request: &SetRoleRequest) -> Result<ChangeProgress, Fault> {
        if self.is_voter(id) {
            return Ok(self.done(format!("{} is a voter already: nothing was left to do", request.name)));
        }
        let judged = Judged::tolerance(self.probe_for_promotion().await, Change::Promote(id), false);
        if let Some(dry_run) = self.report_checks(judged)? {
            return Ok(dry_run);
        }
        self.catch_up(id).await?;
        self.promote_when_safe(id).await?;
        Ok(self.done(format!("{} is a voter", request.name)))
    }

    async fn demote(&self, id: NodeId, request: &SetRoleRequest) -> Result<ChangeProgress, Fault> {
        if !self.is_voter(id) {
            return Ok(self.done(format!("{} is a learner already: nothing was left to do", request.name)));
        }
        let based_on = self.expected_membership();
        let accept_lower = request.accept_lower_tolerance;
        let judged = Judged::tolerance(self.probe_voters().await, Change::Demote(id), accept_lower);
        if let Some(dry_run) = self.report_checks(judged)? {
            return Ok(dry_run);
        }
        self.report(self.message(Phase::Joint));
        self.change_membership_if(based_on, ChangeMembers::RemoveVoters([id].into()), true).await?;
        Ok(self.done(format!("{} is a learner", request.name)))
    }
}
