//! From learner to voter.
//!
//! Learners that have caught up at the same time are promoted together: whoever comes first proposes for all who wait.
//! Nobody waits for company; while one joint change is under way, the next ones gather by themselves.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Changing, verdict_check};
use crate::{
    membership::{Change, Layout, judge},
    raft::types::ChangeMembers,
    types::NodeId,
    wire::{Fault, Reason, admin::change_progress::Phase},
};

/// Promotions are judged anew and tried again when another change came first.
const TRIES: u32 = 20;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Learners on this leader that have caught up and wait to become voters.
#[derive(Clone, Default)]
pub struct Ready(Arc<Mutex<BTreeSet<NodeId>>>);

struct Waiting {
    ready: Ready,
    id: NodeId,
}

impl Ready {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, id: NodeId) -> Waiting {
        self.lock().insert(id);
        Waiting { ready: self.clone(), id }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.ready.lock().remove(&self.id);
    }
}

impl Changing {
    /// Promotes by joint consensus, judged on the membership of that very moment: other changes may come between.
    pub async fn promote_when_judged(&self, id: NodeId) -> Result<(), Fault> {
        let waiting = self.node.inner.ready_learners.wait(id);
        let mut tries = 0;
        loop {
            if self.is_voter(id) && !self.is_joint() {
                return Ok(());
            }
            let result = self.promote_all(&waiting).await;
            tries += 1;
            match result {
                Err(fault) if tries < TRIES && self.may_pass(&fault) => tokio::time::sleep(PAUSE).await,
                result => return result,
            }
        }
    }

    async fn promote_all(&self, waiting: &Waiting) -> Result<(), Fault> {
        let based_on = *self.metrics().membership_config.log_id();
        let layout = self.listen_for_learners().await;
        let verdict = verdict_check(judge(&layout, &Change::Promote(waiting.id)), false);
        if !verdict.ok {
            let message = format!("the node was not promoted: {}", verdict.detail);
            return Err(Fault::new(Reason::Unsafe, message).next(verdict.hint));
        }
        let others = waiting.ready.lock().clone();
        let together = promotable(layout, waiting.id, others);
        tracing::info!(learners = ?together, "promoting");
        self.tell(self.message(Phase::Joint));
        self.change_if(based_on, ChangeMembers::AddVoterIds(together), true).await
    }

    fn may_pass(&self, fault: &Fault) -> bool {
        matches!(fault.reason, Reason::EtagMismatch | Reason::ChangeInProgress) || self.is_joint()
    }
}

/// `first`, whose promotion is safe, and those of `others` whose promotion is safe after it.
fn promotable(layout: Layout, first: NodeId, others: BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let mut chosen = BTreeSet::from([first]);
    let Ok(mut layout) = layout.after(&Change::Promote(first)) else { return chosen };
    for id in others.into_iter().filter(|id| *id != first) {
        let change = Change::Promote(id);
        if verdict_check(judge(&layout, &change), false).ok
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
    fn learners_that_wait_together_are_promoted_together_but_none_that_is_silent() {
        let node = |id, healthy| Node { id, name: format!("n{id}"), zone: String::new(), healthy };
        let layout = Layout::new([node(1, true), node(2, true), node(3, true), node(4, false)], [1]);
        assert_eq!(promotable(layout, 2, [2, 3, 4].into()), [2, 3].into());
    }
}
