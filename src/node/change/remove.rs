//! Removing a node, and changing whether it votes.

use super::{Changing, Progress, verdict_check};
use crate::{
    membership::{Change, judge},
    node::Node,
    raft::types::ChangeMembers,
    types::NodeId,
    wire::{
        Fault,
        admin::{ChangeProgress, RemoveNodeRequest, SetRoleRequest, change_progress::Phase},
        cluster::Role,
    },
};

impl Node {
    /// Removes a node. A leader that is to go hands leadership over first and sends the caller to its successor.
    pub async fn remove_node(&self, request: RemoveNodeRequest) -> Result<Progress, Fault> {
        let (changing, progress) = self.begin_change(&[&request.name], &request.etag, request.validate_only).await?;
        let (id, _) = changing.require_member(&request.name)?;
        let check = verdict_check(judge(&changing.listen().await, &Change::Remove(id)), request.accept_lower_tolerance);
        if check.ok {
            changing.step_aside_if(id).await?;
        }
        tokio::spawn(async move {
            let result = changing.remove(id, &request).await;
            changing.finish(result).await;
        });
        Ok(progress)
    }

    /// Promotes a learner or demotes a voter.
    pub async fn set_role(&self, request: SetRoleRequest) -> Result<Progress, Fault> {
        let promote = match request.role() {
            Role::Voter => true,
            Role::Learner => false,
            Role::Unspecified => return Err(Fault::invalid("role", "the role must be voter or learner")),
        };
        let (changing, progress) = self.begin_change(&[&request.name], &request.etag, request.validate_only).await?;
        let (id, _) = changing.require_member(&request.name)?;
        if !promote {
            let check =
                verdict_check(judge(&changing.listen().await, &Change::Demote(id)), request.accept_lower_tolerance);
            if check.ok {
                changing.step_aside_if(id).await?;
            }
        }
        tokio::spawn(async move {
            let result = match promote {
                true => changing.promote(id, &request).await,
                false => changing.demote(id, &request).await,
            };
            changing.finish(result).await;
        });
        Ok(progress)
    }
}

impl Changing {
    async fn remove(&self, id: NodeId, request: &RemoveNodeRequest) -> Result<ChangeProgress, Fault> {
        let based_on = self.guard();
        let (layout, change) = (self.listen().await, Change::Remove(id));
        self.checked(vec![verdict_check(judge(&layout, &change), request.accept_lower_tolerance)])?;
        if self.validate_only {
            return Ok(self.would_be(&layout, &change));
        }
        self.tell(self.message(Phase::Joint));
        if self.is_voter(id) {
            self.change_if(based_on, ChangeMembers::RemoveVoters([id].into()), false).await?;
        } else {
            self.change_if(based_on, ChangeMembers::RemoveNodes([id].into()), true).await?;
        }
        Ok(self.done(format!("{} is removed; it stops by itself when it learns of it", request.name)))
    }

    async fn promote(&self, id: NodeId, request: &SetRoleRequest) -> Result<ChangeProgress, Fault> {
        if self.is_voter(id) {
            return Ok(self.done(format!("{} is a voter already: nothing was left to do", request.name)));
        }
        let (layout, change) = (self.listen_for_learners().await, Change::Promote(id));
        self.checked(vec![verdict_check(judge(&layout, &change), false)])?;
        if self.validate_only {
            return Ok(self.would_be(&layout, &change));
        }
        self.catch_up(id).await?;
        self.promote_when_judged(id).await?;
        Ok(self.done(format!("{} is a voter", request.name)))
    }

    async fn demote(&self, id: NodeId, request: &SetRoleRequest) -> Result<ChangeProgress, Fault> {
        if !self.is_voter(id) {
            return Ok(self.done(format!("{} is a learner already: nothing was left to do", request.name)));
        }
        let based_on = self.guard();
        let (layout, change) = (self.listen().await, Change::Demote(id));
        self.checked(vec![verdict_check(judge(&layout, &change), request.accept_lower_tolerance)])?;
        if self.validate_only {
            return Ok(self.would_be(&layout, &change));
        }
        self.tell(self.message(Phase::Joint));
        self.change_if(based_on, ChangeMembers::RemoveVoters([id].into()), true).await?;
        Ok(self.done(format!("{} is a learner", request.name)))
    }
}
