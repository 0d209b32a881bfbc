//! What remains to be done after an account was deleted, in bounded steps.
//!
//! An account may be in 10,000 conversations and have sent millions of messages, and a command must not take that
//! long. So the deletion itself only marks the account, which is all that readers need: its sessions are over, and its
//! messages show as deleted if it asked for that. Then it takes a first large step of what follows, and each later
//! command of anyone a small one, before its own work, so that the way in which commands are batched changes nothing:
//!
//! 1. its memberships end, with an event in each room;
//! 2. the rows that it alone could see go;
//! 3. if it asked for it, the bodies of its messages are erased, with an event that says which.
//!
//! Where nobody sends commands, a leader with chores proposes `Tend`, a command that is nothing but the step before it.

use super::{
    context::Context,
    conversations::dismiss,
    deleting::erase,
    keys,
    records::{clear, event_at, keys_in, load, require, save},
    rooms::see_off,
};
use crate::{
    storage,
    types::{AccountId, ConversationId, Cursor},
    wire::store::{self, event_record::Kind},
};

/// Rows touched by the command that deletes an account. Each may cause one event.
const FIRST_STEP: usize = 1_024;
/// Rows touched before each later command, as long as there are chores.
const STEP: usize = 64;

/// Notes that an account was deleted, and begins.
pub(super) fn begin(context: &mut Context<'_>, account: AccountId, erase: bool) -> storage::Result<()> {
    save(context.state, &keys::chore(account), &store::Chore { erase })?;
    context.meta.chores += 1;
    step(context, account, &store::Chore { erase }, FIRST_STEP)
}

/// Goes on with the first chore, if there is one.
pub(super) fn go_on(context: &mut Context<'_>) -> storage::Result<()> {
    if context.meta.chores == 0 {
        return Ok(());
    }
    let first = keys_in(context.state, &keys::all(keys::CHORE), 1)?;
    let Some(key) = first.first() else {
        context.meta.chores = 0;
        return Ok(());
    };
    let chore = require(context.state, key)?;
    step(context, AccountId(keys::first_number(key)), &chore, STEP)
}

fn step(context: &mut Context<'_>, account: AccountId, chore: &store::Chore, mut budget: usize) -> storage::Result<()> {
    for key in keys_in(context.state, &keys::all_of(keys::MEMBER, account.0), budget)? {
        leave(context, account, ConversationId(keys::last_number(&key)))?;
        budget -= 1;
    }
    for table in [keys::READ, keys::HIDDEN, keys::ACCOUNT_EVENT, keys::BLOCKED] {
        budget -= clear(context.state, &keys::all_of(table, account.0), budget)?;
    }
    while budget > 0 {
        let first = keys_in(context.state, &keys::all_of(keys::SENT, account.0), 1)?;
        let Some(key) = first.first() else { break };
        if chore.erase {
            budget -= erase_some(context, account, key, budget)?;
        } else {
            context.state.delete(key)?;
            budget -= 1;
        }
    }
    if budget > 0 {
        context.state.delete(&keys::chore(account))?;
        context.meta.chores -= 1;
    }
    Ok(())
}

fn leave(context: &mut Context<'_>, account: AccountId, id: ConversationId) -> storage::Result<()> {
    let mut conversation: store::ConversationRecord = require(context.state, &keys::conversation(id))?;
    if conversation.direct {
        dismiss(context, id, &mut conversation, account, Cursor::default())?;
        context.conversation_changed(id);
    } else {
        see_off(context, id, &mut conversation, account, &[account])?;
    }
    context.save_conversation(id, &conversation)
}

/// Erases the account's messages in the first `budget` events of a range; answers how many events it looked at, at
/// least one.
fn erase_some(context: &mut Context<'_>, account: AccountId, key: &[u8], budget: usize) -> storage::Result<usize> {
    let id = ConversationId(keys::last_number(key));
    let Some(range) = load::<store::SentRange>(context.state, key)? else { return Ok(1) };
    let mut conversation: store::ConversationRecord = require(context.state, &keys::conversation(id))?;
    let last_seq = range.last_seq.min(conversation.last_seq);
    let end = last_seq.min(range.first_seq.saturating_add(budget as u64 - 1));
    let mut seqs = Vec::new();
    for seq in range.first_seq..=end {
        let event = event_at(context.state, id, seq)?;
        if event.author_id == account.0 && matches!(event.kind, Some(Kind::Body(_))) {
            erase(context, id, &mut conversation, seq, event)?;
            seqs.push(seq);
        }
    }
    if !seqs.is_empty() {
        context.append(id, &mut conversation, account, Kind::Deletion(store::Seqs { seqs }))?;
        context.save_conversation(id, &conversation)?;
    }
    if end >= last_seq {
        context.state.delete(key)?;
    } else {
        save(context.state, key, &store::SentRange { first_seq: end + 1, last_seq: range.last_seq })?;
    }
    let looked_at = end.saturating_sub(range.first_seq).saturating_add(1);
    Ok(usize::try_from(looked_at).unwrap_or(budget).min(budget))
}
