//! A rate limit for each of many keys, in bounded memory.
//!
//! Uses the generic cell rate algorithm (ITU-T I.371), which keeps one instant for each key: the time at which the key
//! will be idle again. A take moves that instant ahead by one interval. A take that would move it further ahead than a
//! burst is refused with the time to wait.
//!
//! A key whose instant has passed carries no information and is forgotten. When the table is full, the key closest to
//! idle makes room, so the busiest keys are remembered longest.
//!
//! The crate `governor` does the same arithmetic, but it does not bound its keys and does not run on the clock of the
//! simulation.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::config::Rate;

/// Idle keys that one take may forget. More than one, so that the table shrinks while it is used.
const SWEEP: usize = 4;

/// A rate limit for each key. Without a rate it lets everything through and remembers nothing.
pub(super) struct Buckets<K> {
    rate: Option<Rate>,
    most: usize,
    keys: Mutex<Keys<K>>,
}

/// When each key will be idle.
///
/// Invariants: both collections hold the same pairs, one for each key, and never more than `most` of them when the lock
/// is free.
struct Keys<K> {
    idle_at: HashMap<K, Instant>,
    order: BTreeSet<(Instant, K)>,
}

impl<K: Clone + Ord + Hash> Buckets<K> {
    /// Remembers at most `most` keys at a time.
    pub fn new(rate: Option<Rate>, most: usize) -> Self {
        let keys = Mutex::new(Keys { idle_at: HashMap::new(), order: BTreeSet::new() });
        Self { rate, most, keys }
    }

    /// Counts one event of `key`.
    ///
    /// # Errors
    /// The time to wait until the next event is allowed. A refused event costs nothing.
    pub fn take(&self, key: &K) -> Result<(), Duration> {
        let Some(rate) = self.rate else { return Ok(()) };
        let now = Instant::now();
        let mut keys = self.lock();
        keys.sweep(now);
        let idle_at = keys.idle_at.get(key).copied().unwrap_or(now).max(now) + rate.interval;
        let ahead = idle_at.duration_since(now);
        let most_ahead = rate.interval.saturating_mul(rate.burst);
        if ahead > most_ahead {
            return Err(ahead.saturating_sub(most_ahead));
        }
        keys.set(key, Some(idle_at));
        while keys.idle_at.len() > self.most {
            keys.forget_first();
        }
        Ok(())
    }

    /// Takes back one counted event.
    pub fn give_back(&self, key: &K) {
        let Some(rate) = self.rate else { return };
        let mut keys = self.lock();
        if let Some(idle_at) = keys.idle_at.get(key).copied() {
            keys.set(key, idle_at.checked_sub(rate.interval));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Keys<K>> {
        // No operation leaves the two collections different when it panics, so a poisoned lock is safe to use.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Ord + Hash> Keys<K> {
    /// Sets or forgets the instant of `key`.
    fn set(&mut self, key: &K, idle_at: Option<Instant>) {
        if let Some(before) = self.idle_at.remove(key) {
            self.order.remove(&(before, key.clone()));
        }
        if let Some(idle_at) = idle_at {
            self.idle_at.insert(key.clone(), idle_at);
            self.order.insert((idle_at, key.clone()));
        }
    }

    /// Forgets a few keys that are idle at `now`.
    fn sweep(&mut self, now: Instant) {
        for _ in 0..SWEEP {
            if self.order.first().is_none_or(|(idle_at, _)| *idle_at > now) {
                break;
            }
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.order.pop_first() {
            self.idle_at.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn buckets(burst: u32, most: usize) -> Buckets<u32> {
        Buckets::new(Some(Rate { interval: SECOND, burst }), most)
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_let_through_and_then_one_in_each_interval() {
        let buckets = buckets(3, 10);
        for _ in 0..3 {
            assert_eq!(buckets.take(&1), Ok(()));
        }
        assert_eq!(buckets.take(&1), Err(SECOND), "told how long to wait");
        assert_eq!(buckets.take(&2), Ok(()), "another key has a burst of its own");
        tokio::time::advance(SECOND / 2).await;
        assert_eq!(buckets.take(&1), Err(SECOND / 2), "a refused take costs nothing");
        tokio::time::advance(SECOND / 2).await;
        assert_eq!((buckets.take(&1), buckets.take(&1)), (Ok(()), Err(SECOND)));
        tokio::time::advance(SECOND * 60).await;
        assert_eq!((0..9).filter(|_| buckets.take(&1).is_ok()).count(), 3, "a pause is worth no more than a burst");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_back_can_be_taken_again() {
        let buckets = buckets(1, 10);
        for _ in 0..5 {
            assert_eq!(buckets.take(&1), Ok(()));
            buckets.give_back(&1);
        }
        assert_eq!((buckets.take(&1), buckets.take(&1)), (Ok(()), Err(SECOND)));
        buckets.give_back(&7);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_the_key_closest_to_idle_makes_room() {
        let buckets = buckets(3, 2);
        for key in [1, 1, 1, 2, 3] {
            assert_eq!(buckets.take(&key), Ok(()));
        }
        assert_eq!(buckets.lock().idle_at.len(), 2);
        assert!(buckets.take(&1).is_err(), "the busiest is still known");
        for key in 0..1_000 {
            let _ = buckets.take(&key);
        }
        let keys = buckets.lock();
        assert_eq!((keys.idle_at.len(), keys.order.len()), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_keys_are_forgotten() {
        let buckets = buckets(3, 1_000);
        (0..SWEEP as u32).for_each(|key| assert_eq!(buckets.take(&key), Ok(())));
        tokio::time::advance(SECOND * 4).await;
        assert_eq!(buckets.take(&99), Ok(()));
        assert_eq!(buckets.lock().idle_at.len(), 1);
    }

    #[tokio::test]
    async fn without_a_rate_everything_is_let_through() {
        let buckets = Buckets::new(None, 1);
        assert!((0..1_000).all(|_| buckets.take(&1).is_ok()));
        assert!(buckets.lock().idle_at.is_empty());
    }
}
