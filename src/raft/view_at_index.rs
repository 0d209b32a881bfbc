//! Views of the state at exact indexes, for callers that ask in time.
//!
//! Replicas are compared by the digest of their state at one index. But entries are applied many at a time, so under
//! steady writes no two replicas stand at the same index when somebody looks. Here a caller asks ahead of time for the
//! state right after the entry at an index: the batch that holds it then ends there, and a view is taken before the next
//! batch begins.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{
    storage::{StateSlot, StateView, StorageError},
    types::limits,
};

/// Hands out views of the state at exact indexes. Cheap to clone; all clones are the same.
///
/// # Invariants
///
/// - `settled <= claimed`; they are equal exactly while no batch is under way.
/// - Every index in `waiting` is above `settled`, and no batch that claims one of them goes beyond it.
/// - At most [`limits::DIGESTS`] callers wait. A view goes to its caller and is never kept here.
///
/// Only the state machine calls `claim` and `settle`, one batch at a time. The lock is also held while `at` opens a view
/// of a settled state, so that no batch begins meanwhile.
#[derive(Clone)]
pub struct ViewAtIndex(Arc<Mutex<State>>);

struct State {
    /// The last index taken into a batch.
    claimed: u64,
    /// The last index committed.
    settled: u64,
    /// The callers, by index.
    waiting: BTreeMap<u64, Vec<oneshot::Sender<StateView>>>,
}

/// Why there is no view at an index.
#[derive(Debug, Clone)]
pub enum NoView {
    /// The state is past it: at least this index is applied, or is being applied.
    Passed(u64),
    /// Too many callers are waiting.
    Full,
    /// The state cannot be read.
    Storage(StorageError),
}

impl ViewAtIndex {
    /// For a state at `applied`.
    pub fn new(applied: u64) -> Self {
        Self(Arc::new(Mutex::new(State { claimed: applied, settled: applied, waiting: BTreeMap::new() })))
    }

    /// The state in `slot` at exactly `index`: at once, or when that index is applied. The receiver fails if a snapshot
    /// skips `index`. Blocks for a moment.
    pub fn at(&self, index: u64, slot: &StateSlot) -> Result<oneshot::Receiver<StateView>, NoView> {
        let mut state = self.lock();
        let (sender, receiver) = oneshot::channel();
        if index <= state.claimed {
            if index < state.claimed || index != state.settled {
                return Err(NoView::Passed(state.claimed));
            }
            // Under the lock no batch can begin, so this is the state at `index` and no later one.
            let view = slot.current().view().map_err(NoView::Storage)?;
            let _ = sender.send(view);
            return Ok(receiver);
        }
        state.drop_cancelled();
        if state.waiting.values().map(Vec::len).sum::<usize>() >= limits::DIGESTS {
            return Err(NoView::Full);
        }
        state.waiting.entry(index).or_default().push(sender);
        Ok(receiver)
    }

    /// The entry at `index` joins the batch under way. Returns whether the batch must end with it.
    pub fn claim(&self, index: u64) -> bool {
        let mut state = self.lock();
        state.claimed = state.claimed.max(index);
        if state.waiting.is_empty() {
            return false;
        }
        state.drop_cancelled();
        state.waiting.contains_key(&index)
    }

    /// The batch under way is committed at `index`. `view` shows that state, if the claim asked for one.
    pub fn settle(&self, index: u64, view: Option<StateView>) {
        let mut state = self.lock();
        state.claimed = state.claimed.max(index);
        state.settled = index;
        let later = state.waiting.split_off(&index.saturating_add(1));
        let mut due = std::mem::replace(&mut state.waiting, later);
        if let (Some(askers), Some(view)) = (due.remove(&index), view) {
            for asker in askers {
                let _ = asker.send(view.clone());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_cancelled(&mut self) {
        self.waiting.retain(|_, askers| {
            askers.retain(|asker| !asker.is_closed());
            !askers.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{DataDir, Open};

    fn slot() -> (tempfile::TempDir, StateSlot) {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::create_or_open(folder.path().join("data")).unwrap();
        let slot = StateSlot::open(&dir, "state.redb", Open::Fresh).unwrap();
        (folder, slot)
    }

    #[test]
    fn a_caller_in_time_gets_the_state_at_that_index() {
        let (_folder, slot) = slot();
        let views = ViewAtIndex::new(5);
        let mut now = views.at(5, &slot).expect("the state stands there");
        assert!(now.try_recv().is_ok());
        let mut later = views.at(8, &slot).expect("still to come");
        assert!(!views.claim(6) && !views.claim(7) && views.claim(8), "the batch ends where a view is asked for");
        views.settle(8, Some(slot.current().view().unwrap()));
        assert!(later.try_recv().is_ok());
        assert!(!views.claim(9), "nobody waits any more");
    }

    #[test]
    fn a_caller_too_late_gets_an_error() {
        let (_folder, slot) = slot();
        let views = ViewAtIndex::new(0);
        views.claim(3);
        assert!(matches!(views.at(3, &slot), Err(NoView::Passed(3))), "a batch under way may go beyond it");
        views.settle(3, None);
        assert!(matches!(views.at(2, &slot), Err(NoView::Passed(3))));
        let mut skipped = views.at(7, &slot).unwrap();
        views.settle(9, None);
        assert!(matches!(skipped.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    }

    #[test]
    fn waiting_callers_are_bounded_and_cancelled_ones_do_not_count() {
        let (_folder, slot) = slot();
        let views = ViewAtIndex::new(0);
        let mut waiting: Vec<_> = (0..limits::DIGESTS).map(|_| views.at(9, &slot).unwrap()).collect();
        assert!(matches!(views.at(9, &slot), Err(NoView::Full)));
        waiting.pop();
        assert!(views.at(9, &slot).is_ok());
        drop(waiting);
        assert!(!views.claim(9), "no caller is left to end a batch for");
    }
}
