//! Sessions that were alive when last seen.
//!
//! Whether a session is alive is decided when its command is applied. But a command of a forged token should not even
//! reach the log, and looking each one up would cost every write a read. So a node remembers the sessions it has seen
//! alive, a bounded number of them, and forgets one when the log refuses it. Being remembered grants nothing.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::types::{AccountId, SessionKey, limits};

/// A bounded set of sessions, each with its account.
#[derive(Debug, Default)]
pub(super) struct SeenAlive(Mutex<HashMap<SessionKey, AccountId>>);

impl SeenAlive {
    pub fn account(&self, key: SessionKey) -> Option<AccountId> {
        self.lock().get(&key).copied()
    }

    /// Adds one. A full set starts anew: each session is then looked up once more.
    pub fn add(&self, key: SessionKey, account: AccountId) {
        let mut seen = self.lock();
        if seen.len() >= limits::SESSIONS_REMEMBERED {
            seen.clear();
        }
        seen.insert(key, account);
    }

    pub fn forget(&self, key: SessionKey) {
        self.lock().remove(&key);
    }

    // A set is whole after any panic, for its operations are.
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, AccountId>> {
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
        assert_eq!(seen.account(key(1)), None);
        seen.add(key(1), AccountId(7));
        assert_eq!(seen.account(key(1)), Some(AccountId(7)));
        seen.forget(key(1));
        assert_eq!(seen.account(key(1)), None);
    }

    #[test]
    fn no_more_are_remembered_than_the_limit() {
        let seen = SeenAlive::default();
        for number in 0..=limits::SESSIONS_REMEMBERED {
            seen.add(key(number), AccountId(1));
        }
        assert!(seen.lock().len() <= limits::SESSIONS_REMEMBERED);
        assert!(seen.account(key(limits::SESSIONS_REMEMBERED)).is_some(), "the newest is there");
    }
}
