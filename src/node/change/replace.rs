//! Replacing a node by a fresh one.

use super::{
    Progress,
    admission::Resolved,
    checks::Judged,
    operation::ChangeOperation,
    requests::{Newcomer, ReplaceNode},
};
use crate::{
    membership::Change,
    node::Node,
    raft::types::ChangeMembers,
    types::NodeId,
    wire::{
        Fault,
        admin::{ChangeProgress, change_progress::Phase},
    },
};

/// The node that comes in place of another.
enum Replacement {
    /// It is a member already.
    Member(NodeId),
    /// It is to be added, under this id if an earlier run gave it one.
    Fresh { adopted_id: Option<NodeId> },
}

impl Node {
    /// Replaces a node by a fresh one, in one joint change. A leader that is to leave hands leadership over first and
    /// sends the caller to its successor.
    pub async fn replace_node(&self, request: ReplaceNode) -> Result<Progress, Fault> {
        let ReplaceNode { old_name, newcomer, etag, validate_only } = request;
        let names = [old_name.as_str(), newcomer.name.as_str()];
        if names[0].eq_ignore_ascii_case(names[1]) {
            return Err(Fault::invalid("name", "the new node needs a name of its own, because both run for a while"));
        }
        let (operation, progress) = self.begin_change(&names, &etag, validate_only).await?;
        if let Some((old, _)) = operation.member(old_name.as_str())
            && operation.may_replace_leader(old, &newcomer).await
        {
            operation.hand_over_if_leaving(old).await?;
        }
        tokio::spawn(async move {
            let result = operation.replace(old_name.as_str(), newcomer).await;
            operation.finish(result).await;
        });
        Ok(progress)
    }
}

impl ChangeOperation {
    async fn replace(&self, old_name: &str, mut newcomer: Newcomer) -> Result<ChangeProgress, Fault> {
        let old = match (self.member(old_name), self.existing_member(&newcomer)) {
            (Some((old, _)), _) => old,
            (None, Some((new, _))) if self.is_voter(new) => {
                let note = format!("{} has replaced {old_name} already: nothing was left to do", newcomer.name);
                return Ok(self.done(note));
            }
            (None, _) => self.require_member(old_name)?.0,
        };
        let (replacement, judged) = self.judge_replacement(old, &mut newcomer).await?;
        if let Some(dry_run) = self.report_checks(judged)? {
            return Ok(dry_run);
        }
        let new = match replacement {
            Replacement::Member(id) => id,
            Replacement::Fresh { adopted_id } => self.add_learner(&newcomer, adopted_id).await?,
        };
        if !self.is_voter(new) {
            self.catch_up(new).await?;
        }
        self.swap(old, new).await?;
        Ok(self.done(format!("{} has replaced {old_name}", newcomer.name)))
    }

    /// Runs every check on replacing `old` by `newcomer`.
    async fn judge_replacement(&self, old: NodeId, newcomer: &mut Newcomer) -> Result<(Replacement, Judged), Fault> {
        let change = |new| Change::Replace { old, new };
        match self.resolve_newcomer(newcomer, change, Some(old)).await? {
            Resolved::Member { id, .. } => {
                let judged = Judged::tolerance(self.probe_voters().await, self.remaining_change(old, id), false);
                Ok((Replacement::Member(id), judged))
            }
            Resolved::Fresh(preflight) => {
                Ok((Replacement::Fresh { adopted_id: preflight.adopted_id }, preflight.judged))
            }
        }
    }

    /// Whether `old` is this leader and every check passes. Reports nothing: the leader must not hand over for a change
    /// that is refused afterwards, and its successor runs the checks again.
    async fn may_replace_leader(&self, old: NodeId, newcomer: &Newcomer) -> bool {
        if old != self.replica.identity.node_id || self.validate_only {
            return false;
        }
        matches!(self.judge_replacement(old, &mut newcomer.clone()).await, Ok((_, judged)) if judged.passed())
    }

    /// The change that remains when `new` is a member. If it votes and `old` does not, an interrupted run has swapped their
    /// votes already.
    fn remaining_change(&self, old: NodeId, new: NodeId) -> Change {
        match self.is_voter(new) && !self.is_voter(old) {
            true => Change::Remove(old),
            false => Change::Swap { old, new },
        }
    }

    /// Swaps the votes of both in one joint change, so that the tolerance never dips in between. Judges once more, because
    /// catching up may have taken long.
    async fn swap(&self, old: NodeId, new: NodeId) -> Result<(), Fault> {
        let based_on = *self.metrics().membership_config.log_id();
        let judged = Judged::tolerance(self.probe_voters().await, self.remaining_change(old, new), false);
        if let Some(fault) = judged.refusal() {
            let message = format!("the node was not replaced: {}", fault.message);
            return Err(Fault { message, ..fault });
        }
        self.report(self.message(Phase::Joint));
        if !self.is_voter(old) {
            return self.change_membership_if(based_on, ChangeMembers::RemoveNodes([old].into()), true).await;
        }
        let change = ChangeMembers::Batch(vec![
            ChangeMembers::AddVoterIds([new].into()),
            ChangeMembers::RemoveVoters([old].into()),
        ]);
        self.change_membership_if(based_on, change, false).await
    }
}
