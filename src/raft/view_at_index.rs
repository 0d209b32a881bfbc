//! Views of the state at exact indexes, for those who asked in time.
//!
//! Entries are applied many at a time, so under steady writes no two replicas ever stand at the same index when somebody
//! looks. Here one may ask, ahead of time, for the state right after the entry at an index: the batch that holds it then
//! ends there, and a view is taken before the next one begins.
//!
//! Invariant: `settled <= claimed`; equal exactly while no batch is under way. Views go to their askers and are gone with
//! them; askers are bounded by [`limits::DIGESTS`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{
    storage::{StateSlot, StateView, StorageError},
    types::limits,
};

/// Where views are asked for and handed out. Cheap to clone.
#[derive(Clone)]
pub struct Cuts(Arc<Mutex<State>>);

struct State {
    /// The last index taken into a batch.
    claimed: u64,
    /// The last index committed.
    settled: u64,
    waiting: BTreeMap<u64, Vec<oneshot::Sender<StateView>>>,
}

/// Why there is no view at an index.
#[derive(Debug, Clone)]
pub enum NoCut {
    /// The state is past it: at least this index is applied or being applied.
    Passed(u64),
    /// Too many are waiting.
    Full,
    /// The state cannot be read.
    Storage(StorageError),
}

impl Cuts {
    /// For a state at `applied`.
    pub fn new(applied: u64) -> Self {
        Self(Arc::new(Mutex::new(State { claimed: applied, settled: applied, waiting: BTreeMap::new() })))
    }

    /// The state in `slot` at exactly `index`: at once, or when that is applied. The receiver fails if `index` is
    /// stepped over by a snapshot. Blocks for a moment.
    pub fn at(&self, index: u64, slot: &StateSlot) -> Result<oneshot::Receiver<StateView>, NoCut> {
        let mut state = self.lock();
        let (sender, receiver) = oneshot::channel();
        if index <= state.claimed {
            if index < state.claimed || index != state.settled {
                return Err(NoCut::Passed(state.claimed));
            }
            // Under the lock no batch can begin, so this is the state at `index` and no later one.
            let view = slot.current().view().map_err(NoCut::Storage)?;
            let _ = sender.send(view);
            return Ok(receiver);
        }
        state.forget_the_gone();
        if state.waiting.values().map(Vec::len).sum::<usize>() >= limits::DIGESTS {
            return Err(NoCut::Full);
        }
        state.waiting.entry(index).or_default().push(sender);
        Ok(receiver)
    }

    /// The entry at `index` joins the batch under way. Answers whether the batch must end with it.
    pub fn claim(&self, index: u64) -> bool {
        let mut state = self.lock();
        state.claimed = state.claimed.max(index);
        if state.waiting.is_empty() {
            return false;
        }
        state.forget_the_gone();
        state.waiting.contains_key(&index)
    }

    /// The state is committed at `index`; `view` shows it, if the claim asked for one.
    pub fn settle(&self, index: u64, view: Option<StateView>) {
        let mut state = self.lock();
        state.claimed = state.claimed.max(index);
        state.settled = index;
        let later = state.waiting.split_off(&(index + 1));
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
    fn forget_the_gone(&mut self) {
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
    fn whoever_asks_in_time_gets_the_state_at_that_index() {
        let (_folder, slot) = slot();
        let cuts = Cuts::new(5);
        let mut now = cuts.at(5, &slot).expect("the state stands there");
        assert!(now.try_recv().is_ok());
        let mut later = cuts.at(8, &slot).expect("still to come");
        assert!(!cuts.claim(6) && !cuts.claim(7) && cuts.claim(8), "the batch ends where a view is asked for");
        cuts.settle(8, Some(slot.current().view().unwrap()));
        assert!(later.try_recv().is_ok());
        assert!(!cuts.claim(9), "nobody waits any more");
    }

    #[test]
    fn whoever_asks_too_late_is_told() {
        let (_folder, slot) = slot();
        let cuts = Cuts::new(0);
        cuts.claim(3);
        assert!(matches!(cuts.at(3, &slot), Err(NoCut::Passed(3))), "a batch under way may go beyond it");
        cuts.settle(3, None);
        assert!(matches!(cuts.at(2, &slot), Err(NoCut::Passed(3))));
        let mut stepped_over = cuts.at(7, &slot).unwrap();
        cuts.settle(9, None);
        assert!(matches!(stepped_over.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    }

    #[test]
    fn those_who_wait_are_bounded_and_those_who_left_do_not_count() {
        let (_folder, slot) = slot();
        let cuts = Cuts::new(0);
        let mut waiting: Vec<_> = (0..limits::DIGESTS).map(|_| cuts.at(9, &slot).unwrap()).collect();
        assert!(matches!(cuts.at(9, &slot), Err(NoCut::Full)));
        waiting.pop();
        assert!(cuts.at(9, &slot).is_ok());
        drop(waiting);
        assert!(!cuts.claim(9), "nobody is left to cut a batch for");
    }
}
