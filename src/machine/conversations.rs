//! What direct conversations and rooms have in common: who is in them.
//!
//! A membership is two rows, one under the account and one under the conversation, besides a count in either record.
//! Only the functions of this file write them.

use std::ops::ControlFlow;

use super::{
    context::Context,
    error::{Result, refuse},
    keys,
    records::{clear, each, load, membership, save},
};
use crate::{
    storage::{self, kv::Read},
    types::{AccountId, ConversationId, Cursor, limits},
    wire::{
        Reason,
        store::{self, account_event},
    },
};

/// Rows of the sparse set that are cleared in one go; more are left, unseen, for the next time.
pub(super) const CLEAR_STEP: usize = 1_024;

/// The conversation and the caller's place in it, or a refusal that does not tell whether it exists.
pub(super) fn as_member(
    state: &dyn Read,
    account: AccountId,
    id: ConversationId,
) -> Result<(store::ConversationRecord, store::MemberRecord)> {
    match membership(state, account, id)? {
        Some(found) => Ok(found),
        None => not_found(id),
    }
}

/// The refusal of a conversation that does not exist, or not for the caller.
pub(super) fn not_found<T>(id: ConversationId) -> Result<T> {
    refuse(Reason::ConversationNotFound, format!("there is no conversation {id}, or you are not in it"))
}

/// Refuses if the account is in as many conversations as one may be.
pub(super) fn check_capacity(account: &store::AccountRecord) -> Result<()> {
    if account.conversations as usize >= limits::CONVERSATIONS_PER_ACCOUNT {
        let message = format!(
            "{} is in {} conversations, the most there may be; leave one first",
            account.username,
            limits::CONVERSATIONS_PER_ACCOUNT
        );
        return refuse(Reason::LimitExceeded, message);
    }
    Ok(())
}

/// The next conversation id.
pub(super) fn next_id(context: &mut Context<'_>) -> ConversationId {
    context.meta.last_conversation_id += 1;
    ConversationId(context.meta.last_conversation_id)
}

/// Makes an account a member that sees what comes from `member.joined_seq` on. The caller saves the conversation.
pub(super) fn admit(
    context: &mut Context<'_>,
    id: ConversationId,
    conversation: &mut store::ConversationRecord,
    account: AccountId,
    member: &store::MemberRecord,
) -> storage::Result<()> {
    let mut record = context.account(account)?;
    record.conversations += 1;
    conversation.members += 1;
    context.save_account(account, &record)?;
    save(context.state, &keys::member(account, id), member)?;
    let reference = store::MemberRef { username: record.username, joined_seq: member.joined_seq };
    save(context.state, &keys::member_of(id, account), &reference)?;
    context.account_changed(account);
    Ok(())
}

/// Ends a membership. The caller has appended the event that says so, at `left`, and saves the conversation.
///
/// What an account may still read, since a subscription may come back for it, goes to its own log of events; what it
/// has sent is noted, so that it can be erased some day.
pub(super) fn dismiss(
    context: &mut Context<'_>,
    id: ConversationId,
    conversation: &mut store::ConversationRecord,
    account: AccountId,
    left: Cursor,
) -> storage::Result<()> {
    let Some(member) = load::<store::MemberRecord>(context.state, &keys::member(account, id))? else { return Ok(()) };
    let mut record = context.account(account)?;
    record.conversations = record.conversations.saturating_sub(1);
    record.sent_elsewhere += member.sent_count;
    conversation.members = conversation.members.saturating_sub(1);
    context.save_account(account, &record)?;
    context.state.delete(&keys::member(account, id))?;
    context.state.delete(&keys::member_of(id, account))?;
    if member.sent_count > 0 {
        note_sent(context, account, id, &member)?;
    }
    // Of a deleted account, the chores clear whole tables.
    if !record.deleted {
        clear(context.state, &keys::seqs(keys::READ, account, id, 0, u64::MAX), CLEAR_STEP)?;
        let gone = store::LeftConversation {
            conversation_id: id.0,
            joined_seq: member.joined_seq,
            left_seq: conversation.last_seq,
        };
        let event = store::AccountEvent { kind: Some(account_event::Kind::Left(gone)) };
        save(context.state, &keys::account_event(account, left), &event)?;
    }
    context.account_changed(account);
    Ok(())
}

fn note_sent(
    context: &mut Context<'_>,
    account: AccountId,
    id: ConversationId,
    member: &store::MemberRecord,
) -> storage::Result<()> {
    let key = keys::sent(account, id);
    let earlier: Option<store::SentRange> = load(context.state, &key)?;
    let first_seq = earlier.map_or(member.first_sent_seq, |range| range.first_seq);
    save(context.state, &key, &store::SentRange { first_seq, last_seq: member.last_sent_seq })
}

/// The member who has been there longest; of those who came together, the oldest account.
pub(super) fn longest_standing(state: &dyn Read, id: ConversationId) -> storage::Result<Option<AccountId>> {
    let mut first: Option<(u64, u64)> = None;
    each(state, &keys::all_of(keys::MEMBER_OF, id.0), |key, member: store::MemberRef| {
        let standing = (member.joined_seq, keys::last_number(key));
        first = Some(first.map_or(standing, |first| first.min(standing)));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(first.map(|(_, account)| AccountId(account)))
}
