//! Blocking: an account may keep another one from writing to it and from inviting it.
//!
//! A refusal says that the caller may not, and nothing more; whom it has been blocked by it is not told. Rooms that
//! both are in stay as they are: a room is its members' affair. Neither sees the other's read receipts any more.

use super::{
    accounts::{live_account, shown},
    context::Context,
    error::{Result, invalid, refuse},
    keys,
    records::{account_named, exists, save},
    sessions::Actor,
};
use crate::{
    storage::{self, kv::Read},
    types::{AccountId, limits},
    wire::{
        Reason,
        store::{self, outcome::Result as Done},
    },
};

/// Whether `account`, of which this is the record, has blocked `other`.
pub(super) fn has_blocked(
    state: &dyn Read,
    (account, record): (AccountId, &store::AccountRecord),
    other: AccountId,
) -> storage::Result<bool> {
    Ok(record.blocked > 0 && exists(state, &keys::blocked(account, other))?)
}

/// Refuses if `target` has blocked the caller.
pub(super) fn check_welcome(
    context: &Context<'_>,
    actor: &Actor,
    target: (AccountId, &store::AccountRecord),
) -> Result<()> {
    if has_blocked(context.state, target, actor.id)? {
        return refuse(Reason::NotAllowed, format!("you may not write to {} or invite it", target.1.username));
    }
    Ok(())
}

/// Refuses a direct message between accounts of which either has blocked the other.
pub(super) fn check_direct(
    context: &Context<'_>,
    actor: &Actor,
    target: (AccountId, &store::AccountRecord),
) -> Result<()> {
    check_welcome(context, actor, target)?;
    if has_blocked(context.state, (actor.id, &actor.account), target.0)? {
        let message = format!("you have blocked {}; unblock it to write to it", target.1.username);
        return refuse(Reason::NotAllowed, message);
    }
    Ok(())
}

pub(super) fn block(context: &mut Context<'_>, actor: &Actor, verb: &store::BlockAccount) -> Result<Done> {
    let (other, _) = live_account(context, &verb.username)?;
    if other == actor.id {
        return invalid("username is your own: nobody blocks themselves");
    }
    let key = keys::blocked(actor.id, other);
    if !exists(context.state, &key)? {
        if actor.account.blocked as usize >= limits::BLOCKED_ACCOUNTS {
            let most = limits::BLOCKED_ACCOUNTS;
            return refuse(Reason::LimitExceeded, format!("{most} accounts are blocked, the most there may be"));
        }
        save(context.state, &key, &store::Present {})?;
        count(context, actor, actor.account.blocked + 1)?;
    }
    Ok(Done::BlocksChanged(store::BlocksChanged {}))
}

/// Deleted accounts can be unblocked, too. One that is not blocked is left as it is.
pub(super) fn unblock(context: &mut Context<'_>, actor: &Actor, verb: &store::UnblockAccount) -> Result<Done> {
    let Some((other, _)) = account_named(context.state, &verb.username.to_ascii_lowercase())? else {
        let name = shown(&verb.username);
        return refuse(Reason::AccountNotFound, format!("there is no account named {name:?}"));
    };
    let key = keys::blocked(actor.id, other);
    if exists(context.state, &key)? {
        context.state.delete(&key)?;
        count(context, actor, actor.account.blocked.saturating_sub(1))?;
    }
    Ok(Done::BlocksChanged(store::BlocksChanged {}))
}

fn count(context: &mut Context<'_>, actor: &Actor, blocked: u32) -> storage::Result<()> {
    context.save_account(actor.id, &store::AccountRecord { blocked, ..actor.account.clone() })
}
