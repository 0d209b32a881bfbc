//! From learner to voter.
//!
//! Learners that have caught up at the same time are promoted together: the first operation proposes for all that are
//! ready. None waits for others; while one joint change is under way, the next learners become ready by themselves.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    checks::{Judged, tolerance_check},
    operation::ChangeOperation,
};
use crate::{
    membership::{Change, Layout},
    raft::types::ChangeMembers,
    types::NodeId,
    wire::{Fault, Reason, admin::change_progress::Phase},
};

/// How often a promotion is judged and proposed when another change keeps coming first.
const TRIES: u32 = 20;
/// Pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Learners on this leader that have caught up and wait to become voters.
///
/// Each is registered by the operation that promotes it, which removes it when it ends, however it ends. Another operation
/// may promote it earlier. The lock is never held across an `await`.
#[derive(Clone, Default)]
pub struct ReadyLearners(Arc<Mutex<BTreeSet<NodeId>>>);

/// Registers one learner until it is dropped.
struct ReadyGuard {
    ready: ReadyLearners,
    id: NodeId,
}

impl ReadyLearners {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, id: NodeId) -> ReadyGuard {
        self.lock().insert(id);
        ReadyGuard { ready: self.clone(), id }
    }
}

impl Drop for ReadyGuard {
    fn drop(&mut self) {
        self.ready.lock().remove(&self.id);
    }
}

impl ChangeOperation {
    /// Promotes the learner `id` by joint consensus, once that is safe. Other changes may come in between, so each try is
    /// judged on the membership that it is conditional on.
    pub async fn promote_when_safe(&self, id: NodeId) -> Result<(), Fault> {
        let guard = self.node.inner.ready_learners.register(id);
        let mut tries = 0;
        loop {
            if self.is_voter(id) && !self.is_joint() {
                return Ok(());
            }
            let result = self.try_promote(&guard).await;
            tries += 1;
            match result {
                Err(fault) if tries < TRIES && self.is_temporary(&fault) => tokio::time::sleep(RETRY_PAUSE).await,
                result => return result,
            }
        }
    }

    /// Promotes the learner of `guard`, and every other ready one whose promotion is safe as well.
    async fn try_promote(&self, guard: &ReadyGuard) -> Result<(), Fault> {
        let based_on = *self.metrics().membership_config.log_id();
        let layout = self.probe_for_promotion().await;
        let judged = Judged::tolerance(layout, Change::Promote(guard.id), false);
        if let Some(fault) = judged.refusal() {
            let message = format!("the node was not promoted: {}", fault.message);
            return Err(Fault { message, ..fault });
        }
        let others = guard.ready.lock().clone();
        let together = promotable(judged.layout, guard.id, others);
        tracing::info!(learners = ?together, "promoting");
        self.report(self.message(Phase::Joint));
        self.change_membership_if(based_on, ChangeMembers::AddVoterIds(together), true).await
    }

    fn is_temporary(&self, fault: &Fault) -> bool {
        matches!(fault.reason, Reason::EtagMismatch | Reason::ChangeInProgress) || self.is_joint()
    }
}

/// `first`, whose promotion is safe, and each of `others` whose promotion is safe after those before it.
fn promotable(layout: Layout, first: NodeId, others: BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let mut chosen = BTreeSet::from([first]);
    let Ok(mut layout) = layout.after(&Change::Promote(first)) else { return chosen };
    for id in others.into_iter().filter(|id| *id != first) {
        let change = Change::Promote(id);
        if tolerance_check(&layout, &change, false).ok
            && let Ok(after) = layout.after(&change)
        {
            layout = after;
            chosen.insert(id);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Node;

    #[test]
    fn learners_that_are_ready_together_are_promoted_together_but_none_that_is_silent() {
        let node = |id, healthy| Node { id, name: format!("n{id}"), zone: String::new(), healthy };
        let layout = Layout::new([node(1, true), node(2, true), node(3, true), node(4, false)], [1]);
        assert_eq!(promotable(layout, 2, [2, 3, 4].into()), [2, 3].into());
    }
}
