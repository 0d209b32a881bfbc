//! Sessions: log in, log out, and who acts.

use std::ops::ControlFlow;

use super::{
    accounts::check_password_version,
    context::Context,
    error::{Result, invalid, refuse},
    keys,
    records::{account_named, each, exists, keys_in, load, require, save},
};
use crate::{
    fault_injection::{self, Bug},
    storage,
    types::{AccountId, SessionKey, is_printable, limits},
    wire::{
        Reason,
        store::{self, outcome::Result as Done},
    },
};

/// Who acts in a command, and in which session.
pub(super) struct Actor {
    pub(super) id: AccountId,
    pub(super) account: store::AccountRecord,
    pub(super) session: SessionKey,
}

/// Who acts in the session that `key` names, if it is live at log time.
pub(super) fn actor(context: &Context<'_>, key: &[u8]) -> storage::Result<Option<Actor>> {
    let Some(session) = SessionKey::from_bytes(key) else { return Ok(None) };
    let record: Option<store::SessionRecord> = load(context.state, &keys::session(&session))?;
    let Some(record) = record.filter(|record| record.expire_time_ms > context.now_ms()) else { return Ok(None) };
    let id = AccountId(record.account_id);
    let account = context.account(id)?;
    Ok((!account.deleted).then_some(Actor { id, account, session }))
}

pub(super) fn create(context: &mut Context<'_>, verb: &store::CreateSession) -> Result<Done> {
    let Some(key) = SessionKey::from_bytes(&verb.new_session_key) else {
        return invalid("new_session_key must be 32 bytes");
    };
    if verb.device.len() > limits::DEVICE_BYTES || !is_printable(&verb.device) {
        return invalid(format!("device must be at most {} bytes of printable text", limits::DEVICE_BYTES));
    }
    let found = account_named(context.state, &verb.username.to_ascii_lowercase())?;
    let Some((id, account)) = found.filter(|(_, account)| !account.deleted) else {
        return refuse(Reason::BadCredentials, "unknown username or wrong password");
    };
    check_password_version(&account, verb.password_version)?;
    if exists(context.state, &keys::session(&key))? {
        return invalid("new_session_key names a session that exists already");
    }
    make_room(context, id)?;
    let longest = u64::try_from(limits::SESSION_TTL.as_millis()).unwrap_or(u64::MAX);
    let ttl_ms = if verb.ttl_ms == 0 { longest } else { verb.ttl_ms.min(longest) };
    let record = store::SessionRecord {
        account_id: id.0,
        device: verb.device.clone(),
        create_time_ms: context.now_ms(),
        expire_time_ms: context.now_ms().saturating_add(ttl_ms),
    };
    save(context.state, &keys::session(&key), &record)?;
    save(context.state, &keys::session_of(id, record.create_time_ms, &key), &store::Present {})?;
    save(context.state, &keys::session_expiry(record.expire_time_ms, &key), &store::Present {})?;
    Ok(Done::SessionCreated(store::SessionCreated {
        session_id: key.session_id(),
        account_id: id.0,
        device: record.device,
        create_time_ms: record.create_time_ms,
        expire_time_ms: record.expire_time_ms,
    }))
}

/// Ends what has expired, then the oldest, until one more session fits. Pruning may or may not have been there
/// before; looking at the expired ones first makes no difference of that.
fn make_room(context: &mut Context<'_>, account: AccountId) -> storage::Result<()> {
    let mut live = Vec::new();
    for (key, record) in of_account(context, account)? {
        if record.expire_time_ms > context.now_ms() {
            live.push((key, record));
        } else {
            end(context, &key, &record)?;
        }
    }
    let excess = (live.len() + 1).saturating_sub(limits::SESSIONS_PER_ACCOUNT);
    for (key, record) in live.iter().take(excess) {
        end(context, key, record)?;
        context.account_changed(account);
    }
    Ok(())
}

pub(super) fn delete(context: &mut Context<'_>, actor: &Actor, verb: &store::DeleteSession) -> Result<Done> {
    if verb.all {
        let count = end_all(context, actor.id, None)?;
        return Ok(Done::SessionsDeleted(store::SessionsDeleted { count }));
    }
    let wanted = if verb.session_id.is_empty() { actor.session.session_id() } else { verb.session_id.clone() };
    let mut count = 0;
    for (key, record) in of_account(context, actor.id)? {
        if key.session_id() == wanted && record.expire_time_ms > context.now_ms() {
            end(context, &key, &record)?;
            count += 1;
        }
    }
    if count == 0 {
        return refuse(Reason::SessionNotFound, "there is no such session among yours; list them to see their ids");
    }
    context.account_changed(actor.id);
    Ok(Done::SessionsDeleted(store::SessionsDeleted { count }))
}

/// Ends every session of an account, but for one to keep; answers how many.
pub(super) fn end_all(
    context: &mut Context<'_>,
    account: AccountId,
    keep: Option<&SessionKey>,
) -> storage::Result<u32> {
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

/// The sessions of an account, oldest first: at most SESSIONS_PER_ACCOUNT.
fn of_account(context: &Context<'_>, account: AccountId) -> storage::Result<Vec<(SessionKey, store::SessionRecord)>> {
    let mut found = Vec::new();
    each(context.state, &keys::all_of(keys::SESSION_OF, account.0), |row, _: store::Present| {
        let key = keys::session_key(row);
        found.push((key, require(context.state, &keys::session(&key))?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

fn end(context: &mut Context<'_>, key: &SessionKey, record: &store::SessionRecord) -> storage::Result<()> {
    if fault_injection::enabled(Bug::RevokedSessionLives) {
        return Ok(());
    }
    context.state.delete(&keys::session(key))?;
    context.state.delete(&keys::session_of(AccountId(record.account_id), record.create_time_ms, key))?;
    context.state.delete(&keys::session_expiry(record.expire_time_ms, key))
}

/// Drops up to `limit` sessions that have expired.
pub(super) fn prune(context: &mut Context<'_>, limit: usize) -> storage::Result<()> {
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
