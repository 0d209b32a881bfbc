//! Joining and leaving a conversation.
//!
//! Invariant: a membership is two rows, one under the account and one under the conversation, and is counted in both
//! their records (`AccountRecord.conversations`, `ConversationRecord.members`). Only this file writes them.
//!
//! A member sees the events from `joined_seq` on. An account that has left reads no history any more, but a
//! subscription that was away still delivers what came up to its leaving.

use std::ops::ControlFlow;

use super::{
    context::Context,
    error::{Result, refuse},
    keys,
    member::CLEAR_STEP,
    records::{clear, each, load, save},
    timeline,
};
use crate::{
    storage::{self, kv::Read},
    types::{AccountId, ConversationId, Cursor, limits},
    wire::{
        Reason,
        store::{self, account_event, event_record::Kind},
    },
};

/// Refuses if the account is in as many conversations as one account may be.
pub fn check_capacity(account: &store::AccountRecord) -> Result<()> {
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

/// Appends the event that these accounts joined, and makes them members from that event on. The caller saves the room.
pub fn add_to_room(
    context: &mut Context<'_>,
    id: ConversationId,
    room: &mut store::ConversationRecord,
    by: AccountId,
    accounts: &[AccountId],
) -> storage::Result<()> {
    let account_ids = accounts.iter().map(|account| account.0).collect();
    timeline::append(context, id, room, by, Kind::Joined(store::AccountIds { account_ids }))?;
    let member = store::MemberRecord {
        joined_seq: room.last_seq,
        read_seq: room.last_seq,
        read_no: room.message_count,
        ..Default::default()
    };
    for account in accounts {
        insert_member(context, id, room, *account, &member)?;
    }
    Ok(())
}

/// Appends the event that these members left, and ends their memberships. If the owner is among them, the member who
/// joined first becomes the owner. A room without members is no longer listed. The caller saves the room.
pub fn remove_from_room(
    context: &mut Context<'_>,
    id: ConversationId,
    room: &mut store::ConversationRecord,
    by: AccountId,
    accounts: &[AccountId],
) -> storage::Result<()> {
    let account_ids = accounts.iter().map(|account| account.0).collect();
    let event = timeline::append(context, id, room, by, Kind::Left(store::AccountIds { account_ids }))?;
    for account in accounts {
        delete_member(context, id, room, *account, Cursor(event.cursor))?;
    }
    // The room's timeline stays, for subscriptions of former members.
    if room.members == 0 {
        context.state.delete(&keys::public(id))?;
    }
    if accounts.contains(&AccountId(room.owner_account_id)) {
        room.owner_account_id = first_member(context.state, id)?.map_or(0, |account| account.0);
    }
    Ok(())
}

/// Makes an account a member. The caller saves the conversation.
pub fn insert_member(
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

/// Ends a membership. The caller has appended the event that says so, at the cursor `left`, and saves the conversation.
///
/// Two things outlive the membership: an account event, from which a subscription that was away learns what it may
/// still read, and the range of the account's own messages, so that deleting the account can erase them.
pub fn delete_member(
    context: &mut Context<'_>,
    id: ConversationId,
    conversation: &mut store::ConversationRecord,
    account: AccountId,
    left: Cursor,
) -> storage::Result<()> {
    let Some(member) = load::<store::MemberRecord>(context.state, &keys::member(account, id))? else { return Ok(()) };
    let mut record = context.account(account)?;
    record.conversations = record.conversations.saturating_sub(1);
    // The member's row goes, so the account's record takes over the count of its messages here.
    record.sent_elsewhere += member.sent_count;
    conversation.members = conversation.members.saturating_sub(1);
    context.save_account(account, &record)?;
    context.state.delete(&keys::member(account, id))?;
    context.state.delete(&keys::member_of(id, account))?;
    if member.sent_count > 0 {
        extend_sent_range(context, account, id, &member)?;
    }
    // Nobody subscribes for a deleted account, and its chores clear its tables as a whole.
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

/// Notes where the member's own messages lie. An account may join and leave several times: the range covers all of it.
fn extend_sent_range(
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

/// The member who joined first; of those who joined together, the one with the lowest account id.
fn first_member(state: &dyn Read, id: ConversationId) -> storage::Result<Option<AccountId>> {
    let mut first: Option<(u64, u64)> = None;
    each(state, &keys::all_of(keys::MEMBER_OF, id.0), |key, member: store::MemberRef| {
        let candidate = (member.joined_seq, keys::last_number(key));
        first = Some(first.map_or(candidate, |first| first.min(candidate)));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(first.map(|(_, account)| AccountId(account)))
}
