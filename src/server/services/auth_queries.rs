//! The state that authentication reads: sessions, and what passwords are checked against.
//!
//! These are queries of one view, beside those of the API in [`crate::machine::query`].

use crate::{
    machine::{QueryError, Refusal, query},
    storage::kv::Read,
    types::{AccountId, RequestId, SessionKey},
    wire::Reason,
};

/// An answer of the state, or its refusal.
pub(super) type Result<T> = std::result::Result<T, QueryError>;

/// What a password is checked against.
pub(super) struct Credentials {
    /// The password's hash as a PHC string.
    pub phc: String,
    /// Counts the account's passwords. The command carries it, and the state machine refuses the command if the
    /// password has changed since the check.
    pub version: u64,
    pub username: String,
}

/// Whether a write may enter the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionState {
    /// Its session is alive and belongs to this account.
    Alive(AccountId),
    /// Its session is over, but this request of it was decided before: the retry gets the outcome.
    Repeated,
    /// Its session is over or unknown, and the request is new.
    Unknown,
}

/// The account of a live session.
///
/// Checked against this node's clock as well: the log's time, by which the state machine ends sessions, stands still
/// while nobody writes.
pub(super) fn live_account(state: &dyn Read, key: SessionKey, now_ms: u64) -> Result<AccountId> {
    let session = query::session(state, &key)?.filter(|session| session.expire_time_ms > now_ms);
    session.map(|session| session.account).ok_or_else(|| session_over("the session is unknown, expired or revoked"))
}

/// Whether a write of session `key` may enter the log.
pub(super) fn session_state(
    state: &dyn Read,
    key: SessionKey,
    now_ms: u64,
    request_id: RequestId,
) -> Result<SessionState> {
    if let Some(session) = query::session(state, &key)?.filter(|session| session.expire_time_ms > now_ms) {
        return Ok(SessionState::Alive(session.account));
    }
    Ok(if query::is_decided(state, request_id, &key)? { SessionState::Repeated } else { SessionState::Unknown })
}

/// The credentials of a username; `None` if no such account exists or it was deleted.
pub(super) fn credentials_of_name(state: &dyn Read, name: &str) -> Result<Option<Credentials>> {
    Ok(query::account_by_name(state, name)?.and_then(credentials))
}

/// The credentials of the acting account; `None` if the request was decided before and nothing is left to check.
pub(super) fn credentials_to_act(
    state: &dyn Read,
    key: SessionKey,
    now_ms: u64,
    request_id: RequestId,
) -> Result<Option<Credentials>> {
    if query::is_decided(state, request_id, &key)? {
        return Ok(None);
    }
    let account = live_account(state, key, now_ms)?;
    match query::account(state, account)?.and_then(credentials) {
        Some(credentials) => Ok(Some(credentials)),
        None => Err(session_over("the account was deleted")),
    }
}

fn credentials(account: query::AccountView) -> Option<Credentials> {
    let (phc, version, username) = (account.password_hash, account.password_version, account.username);
    (!account.deleted).then_some(Credentials { phc, version, username })
}

fn session_over(message: &str) -> QueryError {
    Refusal::new(Reason::SessionInvalid, message).into()
}
