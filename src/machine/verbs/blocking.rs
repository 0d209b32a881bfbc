//! Blocking and unblocking an account. What a block forbids is in `core/blocks.rs`.

use crate::{
    machine::core::{
        actor::Actor,
        context::Context,
        error::{Result, invalid, refuse},
        keys,
        lookup::{known_account, live_account},
        records::{exists, save},
    },
    storage,
    types::limits,
    wire::{
        Reason,
        store::{self, outcome::Result as Done},
    },
};

/// Blocks an account. One that is blocked already stays blocked.
pub fn block(context: &mut Context<'_>, actor: &Actor, verb: &store::BlockAccount) -> Result<Done> {
    let (other, _) = live_account(context.state, &verb.username)?;
    if other == actor.id {
        return invalid("username", "username is your own: nobody blocks themselves");
    }
    let key = keys::blocked(actor.id, other);
    if !exists(context.state, &key)? {
        if actor.account.blocked as usize >= limits::BLOCKED_ACCOUNTS {
            let most = limits::BLOCKED_ACCOUNTS;
            return refuse(Reason::LimitExceeded, format!("{most} accounts are blocked, the most there may be"));
        }
        save(context.state, &key, &store::Present {})?;
        save_count(context, actor, actor.account.blocked + 1)?;
    }
    Ok(Done::BlocksChanged(store::BlocksChanged {}))
}

/// Unblocks an account, even a deleted one. One that is not blocked stays as it is.
pub fn unblock(context: &mut Context<'_>, actor: &Actor, verb: &store::UnblockAccount) -> Result<Done> {
    let (other, _) = known_account(context.state, &verb.username)?;
    let key = keys::blocked(actor.id, other);
    if exists(context.state, &key)? {
        context.state.delete(&key)?;
        save_count(context, actor, actor.account.blocked.saturating_sub(1))?;
    }
    Ok(Done::BlocksChanged(store::BlocksChanged {}))
}

fn save_count(context: &mut Context<'_>, actor: &Actor, blocked: u32) -> storage::Result<()> {
    context.save_account(actor.id, &store::AccountRecord { blocked, ..actor.account.clone() })
}
