//! Sessions: log in and log out.
//!
//! The edge checks the password and makes the token. A command carries only the token's hash, so neither the log nor
//! the state ever holds a token. The rows of a session are in `core/session_table.rs`.

use crate::{
    machine::core::{
        actor::{Actor, check_password_version},
        context::Context,
        error::{Result, invalid, refuse},
        keys,
        lookup::account_named,
        records::exists,
        session_table,
    },
    storage,
    types::{AccountId, SessionKey, is_printable, limits},
    wire::{
        Reason,
        store::{self, outcome::Result as Done},
    },
};

/// Starts a session for a user whose password the edge has checked.
pub fn create(context: &mut Context<'_>, verb: &store::CreateSession) -> Result<Done> {
    let Some(key) = SessionKey::from_bytes(&verb.new_session_key) else {
        return invalid("new_session_key", "new_session_key must be 32 bytes");
    };
    if verb.device.len() > limits::DEVICE_BYTES || !is_printable(&verb.device) {
        let message = format!("device must be at most {} bytes of printable text", limits::DEVICE_BYTES);
        return invalid("device", message);
    }
    let found = account_named(context.state, &verb.username)?;
    let Some((id, account)) = found.filter(|(_, account)| !account.deleted) else {
        // The same words as for a wrong password, so that a login does not reveal which names exist.
        return refuse(Reason::BadCredentials, "unknown username or wrong password");
    };
    check_password_version(&account, verb.password_version)?;
    if exists(context.state, &keys::session(&key))? {
        return invalid("new_session_key", "new_session_key names a session that exists already");
    }
    // The last check is done: from here on the command changes the state.
    end_excess(context, id)?;
    let longest = u64::try_from(limits::SESSION_TTL.as_millis()).unwrap_or(u64::MAX);
    let ttl_ms = if verb.ttl_ms == 0 { longest } else { verb.ttl_ms.min(longest) };
    let record = store::SessionRecord {
        account_id: id.0,
        device: verb.device.clone(),
        create_time_ms: context.now_ms(),
        expire_time_ms: context.now_ms().saturating_add(ttl_ms),
    };
    session_table::insert(context, &key, &record)?;
    Ok(Done::SessionCreated(store::SessionCreated {
        session_id: key.session_id(),
        account_id: id.0,
        device: record.device,
        create_time_ms: record.create_time_ms,
        expire_time_ms: record.expire_time_ms,
    }))
}

/// Ends expired sessions, then the oldest ones, until one more fits. Expired ones go first, so that the outcome does
/// not depend on whether pruning came by before.
fn end_excess(context: &mut Context<'_>, account: AccountId) -> storage::Result<()> {
    let mut live = Vec::new();
    for (key, record) in session_table::of_account(context, account)? {
        if record.expire_time_ms > context.now_ms() {
            live.push((key, record));
        } else {
            session_table::end(context, &key, &record)?;
        }
    }
    let excess = (live.len() + 1).saturating_sub(limits::SESSIONS_PER_ACCOUNT);
    for (key, record) in live.iter().take(excess) {
        session_table::end(context, key, record)?;
        context.account_changed(account);
    }
    Ok(())
}

/// Ends the named session of the caller, the acting one if none is named, or all of them.
pub fn delete(context: &mut Context<'_>, actor: &Actor, verb: &store::DeleteSession) -> Result<Done> {
    if verb.all {
        let count = session_table::end_all(context, actor.id, None)?;
        return Ok(Done::SessionsDeleted(store::SessionsDeleted { count }));
    }
    let wanted = if verb.session_id.is_empty() { actor.session.session_id() } else { verb.session_id.clone() };
    let mut count = 0;
    for (key, record) in session_table::of_account(context, actor.id)? {
        if key.session_id() == wanted && record.expire_time_ms > context.now_ms() {
            session_table::end(context, &key, &record)?;
            count += 1;
        }
    }
    if count == 0 {
        return refuse(Reason::SessionNotFound, "there is no such session among yours; list them to see their ids");
    }
    context.account_changed(actor.id);
    Ok(Done::SessionsDeleted(store::SessionsDeleted { count }))
}
