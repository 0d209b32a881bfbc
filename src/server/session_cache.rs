//! A cache of sessions that were recently alive.
//!
//! A write with a forged token must not reach the log, where it would cost every replica work. Looking the session up
//! costs each write a read, so the node remembers sessions that it has found alive. The cache grants nothing: the state
//! machine checks the session again when it applies the command, and a session that it refuses leaves the cache.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::types::{AccountId, SessionKey, limits};

/// Sessions, each with its account.
///
/// Holds at most [`limits::SESSIONS_REMEMBERED`]. An entry may be out of date in one direction: its session may have
/// ended. It never names the wrong account, because no two logins derive the same token and a key is a token's hash.
#[derive(Debug, Default)]
pub(super) struct SessionCache(Mutex<HashMap<SessionKey, AccountId>>);

impl SessionCache {
    pub fn account(&self, key: SessionKey) -> Option<AccountId> {
        self.lock().get(&key).copied()
    }

    /// Adds a session. A full cache is emptied first; each live session then costs one more lookup.
    pub fn add(&self, key: SessionKey, account: AccountId) {
        let mut sessions = self.lock();
        if sessions.len() >= limits::SESSIONS_REMEMBERED {
            sessions.clear();
        }
        sessions.insert(key, account);
    }

    pub fn forget(&self, key: SessionKey) {
        self.lock().remove(&key);
    }

    // No operation leaves the map half changed when it panics, so a poisoned lock is safe to use.
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
        let cache = SessionCache::default();
        assert_eq!(cache.account(key(1)), None);
        cache.add(key(1), AccountId(7));
        assert_eq!(cache.account(key(1)), Some(AccountId(7)));
        cache.forget(key(1));
        assert_eq!(cache.account(key(1)), None);
    }

    #[test]
    fn no_more_are_remembered_than_the_limit() {
        let cache = SessionCache::default();
        for number in 0..=limits::SESSIONS_REMEMBERED {
            cache.add(key(number), AccountId(1));
        }
        assert!(cache.lock().len() <= limits::SESSIONS_REMEMBERED);
        assert!(cache.account(key(limits::SESSIONS_REMEMBERED)).is_some(), "the newest is there");
    }
}
