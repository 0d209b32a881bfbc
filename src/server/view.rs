//! What the edge asks the state, beside the queries of the API.

use super::call::session_fault;
use crate::{
    machine::{QueryError, Refusal, query},
    storage::{self, kv::Read},
    types::{AccountId, RequestId, SessionKey},
    wire::{Fault, Reason},
};

/// An answer of the state, or its refusal.
pub(super) type Result<T> = std::result::Result<T, QueryError>;

/// What a password is checked against.
pub(super) struct Credentials {
    pub phc: String,
    pub version: u64,
    pub username: String,
}

/// Whether a write may enter the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Its session is alive, and this account's.
    Alive(AccountId),
    /// Its session is not, but the request was decided before and has an outcome to give.
    Repeated,
    /// Neither.
    Unknown,
}

/// Parts the caller's refusals, which become faults, from the disk's errors, which stop the node.
pub(super) fn part<T>(answer: Result<T>) -> storage::Result<std::result::Result<T, Fault>> {
    let parted = QueryError::part(answer)?;
    Ok(parted.map_err(|Refusal { reason, message, field }| match reason {
        Reason::SessionInvalid => session_fault(&message),
        _ => Fault { field: field.map(str::to_owned), ..Fault::new(reason, message) },
    }))
}

/// The account of a live session. Log time stands still while nobody writes, so the session must not have expired by
/// this node's clock either.
pub(super) fn live_account(state: &dyn Read, key: SessionKey, now_ms: u64) -> Result<AccountId> {
    let session = query::session(state, &key)?.filter(|session| session.expire_time_ms > now_ms);
    session.map(|session| session.account).ok_or_else(|| {
        Refusal::new(Reason::SessionInvalid, "the session is unknown, expired or revoked").into()
    })
}

/// Whether a write of session `key` may enter the log.
pub(super) fn admission(state: &dyn Read, key: SessionKey, now_ms: u64, request_id: RequestId) -> Result<Admission> {
    if let Some(session) = query::session(state, &key)?.filter(|session| session.expire_time_ms > now_ms) {
        return Ok(Admission::Alive(session.account));
    }
    Ok(if query::is_decided(state, request_id)? { Admission::Repeated } else { Admission::Unknown })
}

/// What the password of a username is checked against; `None` for an account that is not or no longer there.
pub(super) fn credentials_of_name(state: &dyn Read, name: &str) -> Result<Option<Credentials>> {
    Ok(query::account_by_name(state, name)?.and_then(credentials))
}

/// What the password of the acting account is checked against; `None` if the request was decided before, so that there
/// is nothing to check any more.
pub(super) fn credentials_to_act(
    state: &dyn Read,
    key: SessionKey,
    now_ms: u64,
    request_id: RequestId,
) -> Result<Option<Credentials>> {
    if query::is_decided(state, request_id)? {
        return Ok(None);
    }
    let account = live_account(state, key, now_ms)?;
    match query::account(state, account)?.and_then(credentials) {
        Some(credentials) => Ok(Some(credentials)),
        None => Err(Refusal::new(Reason::SessionInvalid, "the account was deleted").into()),
    }
}

fn credentials(account: query::AccountView) -> Option<Credentials> {
    let (phc, version, username) = (account.password_hash, account.password_version, account.username);
    (!account.deleted).then_some(Credentials { phc, version, username })
}
