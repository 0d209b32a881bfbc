//! Who has blocked whom, and what that forbids.
//!
//! A blocked account may not write to the account that blocked it, nor invite it. The refusal says that it may not and
//! no more: it does not say that it was blocked. Neither sees the other's read receipts. Rooms that both are in stay as
//! they are.

use super::{
    actor::Actor,
    context::Context,
    error::{Result, refuse},
    keys,
    records::exists,
};
use crate::{
    storage::{self, kv::Read},
    types::AccountId,
    wire::{Reason, store},
};

/// Whether `account`, whose record is `record`, has blocked `other`.
pub fn has_blocked(
    state: &dyn Read,
    (account, record): (AccountId, &store::AccountRecord),
    other: AccountId,
) -> storage::Result<bool> {
    Ok(record.blocked > 0 && exists(state, &keys::blocked(account, other))?)
}

/// Refuses if `target` has blocked the caller.
pub fn check_not_blocked_by(
    context: &Context<'_>,
    actor: &Actor,
    target: (AccountId, &store::AccountRecord),
) -> Result<()> {
    if has_blocked(context.state, target, actor.id)? {
        return refuse(Reason::NotAllowed, format!("you may not write to {} or invite it", target.1.username));
    }
    Ok(())
}

/// Refuses a direct message if either account has blocked the other.
pub fn check_may_write_to(
    context: &Context<'_>,
    actor: &Actor,
    target: (AccountId, &store::AccountRecord),
) -> Result<()> {
    check_not_blocked_by(context, actor, target)?;
    if has_blocked(context.state, (actor.id, &actor.account), target.0)? {
        let message = format!("you have blocked {}; unblock it to write to it", target.1.username);
        return refuse(Reason::NotAllowed, message);
    }
    Ok(())
}
