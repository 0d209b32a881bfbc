//! The rows of a session.
//!
//! Invariant: a session is three rows, which are written and deleted together, by this file alone: the record under its
//! key, a row that lists it under its account (oldest first), and a row that orders it by expiry (for pruning).
//!
//! A session ends when log time reaches its expiry. Its rows go later, when somebody prunes them, so every reader
//! compares `expire_time_ms` with log time itself.

use std::ops::ControlFlow;

use super::{
    context::Context,
    keys,
    records::{each, keys_in, require, save},
};
use crate::{
    fault_injection::{self, Bug},
    storage,
    types::{AccountId, SessionKey},
    wire::store,
};

/// Writes a new session.
pub fn insert(context: &mut Context<'_>, key: &SessionKey, record: &store::SessionRecord) -> storage::Result<()> {
    let account = AccountId(record.account_id);
    save(context.state, &keys::session(key), record)?;
    save(context.state, &keys::session_of(account, record.create_time_ms, key), &store::Present {})?;
    save(context.state, &keys::session_expiry(record.expire_time_ms, key), &store::Present {})
}

/// The sessions of an account, oldest first, expired ones included: at most SESSIONS_PER_ACCOUNT.
pub fn of_account(
    context: &Context<'_>,
    account: AccountId,
) -> storage::Result<Vec<(SessionKey, store::SessionRecord)>> {
    let mut found = Vec::new();
    each(context.state, &keys::all_of(keys::SESSION_OF, account.0), |row, _: store::Present| {
        let key = keys::session_key(row);
        found.push((key, require(context.state, &keys::session(&key))?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// Ends one session.
pub fn end(context: &mut Context<'_>, key: &SessionKey, record: &store::SessionRecord) -> storage::Result<()> {
    if fault_injection::enabled(Bug::RevokedSessionLives) {
        return Ok(());
    }
    context.state.delete(&keys::session(key))?;
    context.state.delete(&keys::session_of(AccountId(record.account_id), record.create_time_ms, key))?;
    context.state.delete(&keys::session_expiry(record.expire_time_ms, key))
}

/// Ends every session of an account except `keep`, and returns how many.
pub fn end_all(context: &mut Context<'_>, account: AccountId, keep: Option<&SessionKey>) -> storage::Result<u32> {
    let mut count = 0;
    for (key, record) in of_account(context, account)? {
        if Some(&key) != keep {
            end(context, &key, &record)?;
            count += 1;
        }
    }
    context.account_changed(account);
    Ok(count)
}

/// Deletes the rows of up to `limit` expired sessions.
pub fn prune(context: &mut Context<'_>, limit: usize) -> storage::Result<()> {
    let now_ms = context.now_ms();
    for row in keys_in(context.state, &keys::all(keys::SESSION_EXPIRY), limit)? {
        if keys::first_number(&row) > now_ms {
            break;
        }
        let key = keys::session_key(&row);
        let record: store::SessionRecord = require(context.state, &keys::session(&key))?;
        end(context, &key, &record)?;
    }
    Ok(())
}
