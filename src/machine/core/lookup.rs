//! Accounts and conversations by what a caller calls them, and the refusals when there are none.

use super::{
    error::{Refusal, Result, refuse},
    keys,
    records::{load, require},
};
use crate::{
    storage::{self, kv::Read},
    types::{AccountId, ConversationId, limits},
    wire::{Reason, store},
};

/// The account of this name, in any case, deleted or not.
pub fn account_named(state: &dyn Read, name: &str) -> storage::Result<Option<(AccountId, store::AccountRecord)>> {
    let key = keys::name(&name.to_ascii_lowercase());
    let Some(store::AccountRef { account_id }) = load(state, &key)? else { return Ok(None) };
    let id = AccountId(account_id);
    Ok(Some((id, require(state, &keys::account(id))?)))
}

/// The account of this name, or a refusal. Deleted accounts are found.
pub fn known_account(state: &dyn Read, name: &str) -> Result<(AccountId, store::AccountRecord)> {
    match account_named(state, name)? {
        Some(found) => Ok(found),
        None => refuse(Reason::AccountNotFound, format!("there is no account named {:?}", shown(name))),
    }
}

/// The account of this name, or a refusal. Deleted accounts are refused.
pub fn live_account(state: &dyn Read, name: &str) -> Result<(AccountId, store::AccountRecord)> {
    let (id, account) = known_account(state, name)?;
    if account.deleted {
        return refuse(Reason::AccountNotFound, format!("the account {} was deleted", account.username));
    }
    Ok((id, account))
}

/// The other account of a direct conversation; the account itself in notes to oneself.
pub fn peer_of(conversation: &store::ConversationRecord, account: AccountId) -> AccountId {
    let other = conversation.low_account_id ^ conversation.high_account_id ^ account.0;
    AccountId(other)
}

/// The refusal of a conversation that does not exist, or that the caller is not in. The two read the same, so that
/// nobody can probe for private rooms.
pub fn no_conversation(id: ConversationId) -> Refusal {
    Refusal::new(Reason::ConversationNotFound, format!("there is no conversation {id}, or you are not in it"))
}

/// As much of a caller's text as an error message repeats.
fn shown(text: &str) -> &str {
    let end = text.char_indices().nth(limits::USERNAME_BYTES).map_or(text.len(), |(end, _)| end);
    &text[..end]
}
