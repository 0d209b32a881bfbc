//! Sessions that were alive when last seen.
//!
//! Whether a session is alive is decided when its command is applied. But a command of a forged token should not even
//! reach the log, and looking each one up would cost every write a read. So a node remembers the sessions it has seen
//! alive, a bounded number of them, and forgets one when the log refuses it. Being remembered grants nothing.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::types::{SessionKey, limits};

/// A bounded set of sessions.
#[derive(Debug, Default)]
pub(super) struct SeenAlive(Mutex<HashSet<SessionKey>>);

impl SeenAlive {
    pub fn contains(&self, key: SessionKey) -> bool {
        self.lock().contains(&key)
    }

    /// Adds one. A full set starts anew: each session is then looked up once more.
    pub fn add(&self, key: SessionKey) {
        let mut seen = self.lock();
        if seen.len() >= limits::SESSIONS_REMEMBERED {
            seen.clear();
        }
        seen.insert(key);
    }

    pub fn forget(&self, key: SessionKey) {
        self.lock().remove(&key);
    }

    // A set is whole after any panic, for its operations are.
    fn lock(&self) -> MutexGuard<'_, HashSet<SessionKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> SessionKey {
        SessionKey::of_token(&number.to_string())
    }

    #[test]
    fn a_session_is_remembered_until_forgotten() {
        let seen = SeenAlive::default();
        assert!(!seen.contains(key(1)));
        seen.add(key(1));
        assert!(seen.contains(key(1)));
        seen.forget(key(1));
        assert!(!seen.contains(key(1)));
    }

    #[test]
    fn no_more_are_remembered_than_the_limit() {
        let seen = SeenAlive::default();
        for number in 0..=limits::SESSIONS_REMEMBERED {
            seen.add(key(number));
        }
        assert!(seen.lock().len() <= limits::SESSIONS_REMEMBERED);
        assert!(seen.contains(key(limits::SESSIONS_REMEMBERED)), "the newest is there");
    }
}
