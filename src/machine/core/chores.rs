//! Chores: what remains to be done after an account was deleted, in bounded steps.
//!
//! An account may be in 10,000 conversations and have sent millions of messages, and no command may take that long. So
//! the deletion only marks the account, which is all that readers need: its sessions end, and its messages show as
//! deleted if it asked for that. The rest is a chore:
//!
//! 1. End its memberships, with an event in each room.
//! 2. Delete the rows that only it could see.
//! 3. If it asked for that, erase the bodies of its messages, with events that say which.
//!
//! The deletion does a first, large step. Every later command of anybody does one small step before its own work.
//! Before, not after, so that it makes no difference how commands are batched into entries. While nobody writes, the
//! leader of a cluster with chores proposes `Tend`, a command that does nothing else.
//!
//! Invariant: `Meta.chores` is the number of rows in the table chore. A crash in between loses nothing: a step is part
//! of its log entry, and the row stays until the last step is done.

use super::{
    context::Context,
    keys,
    records::{clear, keys_in, load, require, save},
    roster::{delete_member, remove_from_room},
    timeline::{self, event_at},
};
use crate::{
    storage,
    types::{AccountId, ConversationId, Cursor},
    wire::store::{self, event_record::Kind},
};

/// Rows that the first step touches. Each may cause one event.
const FIRST_STEP: usize = 1_024;
/// Rows that every later step touches.
const STEP: usize = 64;

/// Adds the chore of a deleted account, and does the first step. `erase` asks for the third part.
pub fn start(context: &mut Context<'_>, account: AccountId, erase: bool) -> storage::Result<()> {
    save(context.state, &keys::chore(account), &store::Chore { erase })?;
    context.meta.chores += 1;
    run(context, account, &store::Chore { erase }, FIRST_STEP)
}

/// Does one step of the first chore, if there is a chore.
pub fn run_step(context: &mut Context<'_>) -> storage::Result<()> {
    if context.meta.chores == 0 {
        return Ok(());
    }
    let first = keys_in(context.state, &keys::all(keys::CHORE), 1)?;
    let Some(key) = first.first() else {
        context.meta.chores = 0;
        return Ok(());
    };
    let chore = require(context.state, key)?;
    run(context, AccountId(keys::first_number(key)), &chore, STEP)
}

/// Touches at most `budget` rows. The chore is done when the budget is not used up.
fn run(context: &mut Context<'_>, account: AccountId, chore: &store::Chore, mut budget: usize) -> storage::Result<()> {
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
            budget -= erase_range(context, account, key, budget)?;
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

/// Ends one membership of the deleted account. A direct conversation gets no event: its peer keeps it.
fn leave(context: &mut Context<'_>, account: AccountId, id: ConversationId) -> storage::Result<()> {
    let mut conversation: store::ConversationRecord = require(context.state, &keys::conversation(id))?;
    if conversation.direct {
        delete_member(context, id, &mut conversation, account, Cursor::default())?;
        context.conversation_changed(id);
    } else {
        remove_from_room(context, id, &mut conversation, account, &[account])?;
    }
    context.save_conversation(id, &conversation)
}

/// Erases the account's messages among the first `budget` events of the sent range at `key`. Returns how many events it
/// looked at, at least one.
fn erase_range(context: &mut Context<'_>, account: AccountId, key: &[u8], budget: usize) -> storage::Result<usize> {
    let id = ConversationId(keys::last_number(key));
    let Some(range) = load::<store::SentRange>(context.state, key)? else { return Ok(1) };
    let mut conversation: store::ConversationRecord = require(context.state, &keys::conversation(id))?;
    let last_seq = range.last_seq.min(conversation.last_seq);
    let end = last_seq.min(range.first_seq.saturating_add(budget as u64 - 1));
    let mut seqs = Vec::new();
    for seq in range.first_seq..=end {
        let event = event_at(context.state, id, seq)?;
        if event.author_id == account.0 && matches!(event.kind, Some(Kind::Body(_))) {
            timeline::erase(context, id, &mut conversation, seq, event)?;
            seqs.push(seq);
        }
    }
    if !seqs.is_empty() {
        timeline::append(context, id, &mut conversation, account, Kind::Deletion(store::Seqs { seqs }))?;
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
