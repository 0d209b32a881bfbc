//! The events of one conversation.
//!
//! Invariants of a timeline:
//! - Seqs are dense: the events are exactly 1 to `last_seq` of the conversation's record, and none is ever removed. An
//!   erased message leaves a tombstone, an event with its seq, cursor, author and time but without its body.
//! - Cursors grow with seqs, so a binary search finds where a subscription resumes.
//! - `message_no` of an event counts the messages up to and including it, tombstones too. It never changes, so the
//!   number of messages between two positions is one subtraction.

use super::{
    context::Context,
    keys,
    records::{require, save},
};
use crate::{
    storage::{self, kv::Read},
    types::{AccountId, ConversationId},
    wire::store::{self, event_record::Kind},
};

/// Appends an event and brings `conversation` up to date. The caller saves that record, as it often has more to change
/// in it.
pub fn append(
    context: &mut Context<'_>,
    id: ConversationId,
    conversation: &mut store::ConversationRecord,
    author: AccountId,
    kind: Kind,
) -> storage::Result<store::EventRecord> {
    let cursor = context.next_cursor();
    conversation.last_seq += 1;
    conversation.last_cursor = cursor.0;
    conversation.message_count += u64::from(matches!(kind, Kind::Body(_)));
    let event = store::EventRecord {
        cursor: cursor.0,
        author_id: author.0,
        time_ms: context.now_ms(),
        message_no: conversation.message_count,
        kind: Some(kind),
    };
    save(context.state, &keys::event(id, conversation.last_seq), &event)?;
    context.conversation_changed(id);
    Ok(event)
}

/// Replaces a message by a tombstone. The caller appends the event that says so, and saves the conversation.
pub fn erase(
    context: &mut Context<'_>,
    id: ConversationId,
    conversation: &mut store::ConversationRecord,
    seq: u64,
    message: store::EventRecord,
) -> storage::Result<()> {
    let tombstone = store::EventRecord { kind: Some(Kind::Erased(store::Present {})), ..message };
    save(context.state, &keys::event(id, seq), &tombstone)?;
    save(context.state, &keys::erased(id, seq), &store::Present {})?;
    conversation.last_erased_seq = conversation.last_erased_seq.max(seq);
    Ok(())
}

/// The event at `seq`, which the caller knows to be at most the timeline's `last_seq`.
pub fn event_at(state: &dyn Read, conversation: ConversationId, seq: u64) -> storage::Result<store::EventRecord> {
    require(state, &keys::event(conversation, seq))
}

/// Whether an event is a message, erased or not.
pub fn is_message(event: &store::EventRecord) -> bool {
    matches!(event.kind, Some(Kind::Body(_) | Kind::Erased(_)))
}

/// Whether an event is a message that was erased for everyone.
pub fn is_erased(event: &store::EventRecord) -> bool {
    matches!(event.kind, Some(Kind::Erased(_)))
}
