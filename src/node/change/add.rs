//! Adding a node.

use super::{
    Progress,
    admission::Resolved,
    checks::Judged,
    operation::ChangeOperation,
    requests::{AddNode, Newcomer},
};
use crate::{
    membership::Change,
    node::Node,
    types::NodeId,
    wire::{Fault, Reason, admin::ChangeProgress},
};

impl Node {
    /// Adds a node: checks, learner, catch-up, voter.
    pub async fn add_node(&self, request: AddNode) -> Result<Progress, Fault> {
        let AddNode { newcomer, learner_only, etag, validate_only } = request;
        let (operation, progress) = self.begin_change(&[newcomer.name.as_str()], &etag, validate_only).await?;
        tokio::spawn(async move {
            let result = operation.add(newcomer, learner_only).await;
            operation.finish(result).await;
        });
        Ok(progress)
    }
}

impl ChangeOperation {
    async fn add(&self, mut newcomer: Newcomer, learner_only: bool) -> Result<ChangeProgress, Fault> {
        let change = if learner_only { Change::AddLearner } else { Change::Add };
        let preflight = match self.resolve_newcomer(&mut newcomer, change, None).await? {
            Resolved::Member { id, answers } => return self.resume_add(id, &newcomer, answers, learner_only).await,
            Resolved::Fresh(preflight) => preflight,
        };
        if let Some(dry_run) = self.report_checks(preflight.judged)? {
            return Ok(dry_run);
        }
        let id = self.add_learner(&newcomer, preflight.adopted_id).await?;
        if learner_only {
            return Ok(self.done(format!("{} is a learner", newcomer.name)));
        }
        self.catch_up(id).await?;
        self.promote_when_safe(id).await?;
        Ok(self.done(format!("{} is a voter", newcomer.name)))
    }

    /// Continues where an earlier run of the same command ended: the node is a learner, or all is done.
    async fn resume_add(
        &self,
        id: NodeId,
        newcomer: &Newcomer,
        answers: bool,
        learner_only: bool,
    ) -> Result<ChangeProgress, Fault> {
        let name = &newcomer.name;
        let silent = if answers { "" } else { ", though it does not answer now" };
        match (self.is_voter(id), learner_only) {
            (true, false) => {
                return Ok(self.done(format!("{name} is a voter already{silent}: nothing was left to do")));
            }
            (false, true) => {
                return Ok(self.done(format!("{name} is a learner already{silent}: nothing was left to do")));
            }
            (true, true) => {
                let fault = Fault::new(Reason::NameTaken, format!("{name} is a voter of this cluster, not a learner"));
                return Err(fault.next(format!("to make it a learner: `chat-admin demote {name}`")));
            }
            (false, false) => {}
        }
        let judged = Judged::tolerance(self.probe_for_promotion().await, Change::Promote(id), false);
        if let Some(dry_run) = self.report_checks(judged)? {
            return Ok(dry_run);
        }
        self.catch_up(id).await?;
        self.promote_when_safe(id).await?;
        Ok(self.done(format!("{name} was a learner already; it is a voter now")))
    }
}
