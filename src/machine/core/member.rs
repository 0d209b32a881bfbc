//! One account in one conversation: its read mark, and how many messages are unread.
//!
//! The count is derived, never counted up and down, so it cannot drift. A message is unread for a member if it lies
//! beyond the read mark, is not in the member's *sparse set* (the messages beyond the mark that it read one by one,
//! sent or hid) and is not erased for everyone. `message_no` on every event makes that three numbers instead of a walk
//! over the timeline:
//!
//! ```text
//! unread = messages ever sent - message_no at the read mark
//!        - rows of the sparse set beyond the mark
//!        - erased messages beyond the mark that are not in the sparse set
//! ```
//!
//! The mark advances by itself over everything that is read already, which keeps the sparse set small.

use std::ops::ControlFlow;

use super::{
    context::Context,
    error::Result,
    keys::{self, Span},
    lookup::no_conversation,
    records::{clear, count_in, each, exists, load, require, save},
    timeline::{event_at, is_erased, is_message},
};
use crate::{
    storage::{self, kv::Read},
    types::{AccountId, ConversationId},
    wire::store,
};

/// The most events over which one command advances a read mark by itself.
const ADVANCE_STEP: u64 = 1_024;
/// The most rows of the sparse set that one command deletes. Rows at or below the mark that stay behind are never read;
/// a later command deletes them.
pub const CLEAR_STEP: usize = 1_024;

/// One account in one conversation: copies of both records, as a query found them or as a command changes them. A
/// command that changes a copy saves it.
///
/// Invariants of `record`:
/// - `read_seq` never goes back and never exceeds `last_seq`; `read_no` is the `message_no` of the event there.
/// - `read_ahead` is the number of rows in the sparse set beyond `read_seq`.
/// - Every row of the sparse set stands for a message; the message may be erased later. Rows at or below `read_seq`
///   mean nothing.
pub struct Member {
    /// The account.
    pub account: AccountId,
    /// The conversation.
    pub id: ConversationId,
    /// The conversation's record.
    pub conversation: store::ConversationRecord,
    /// The membership's record.
    pub record: store::MemberRecord,
}

impl Member {
    /// The member, or `None` if the account is not in the conversation.
    pub fn find(state: &dyn Read, account: AccountId, id: ConversationId) -> storage::Result<Option<Self>> {
        let Some(record) = load(state, &keys::member(account, id))? else { return Ok(None) };
        let conversation = require(state, &keys::conversation(id))?;
        Ok(Some(Self { account, id, conversation, record }))
    }

    /// The member, or a refusal that does not tell whether the conversation exists.
    pub fn of(state: &dyn Read, account: AccountId, id: ConversationId) -> Result<Self> {
        Self::find(state, account, id)?.ok_or_else(|| no_conversation(id).into())
    }

    /// The member of a row of the table member.
    pub fn of_row(
        state: &dyn Read,
        account: AccountId,
        key: &[u8],
        record: store::MemberRecord,
    ) -> storage::Result<Self> {
        let id = ConversationId(keys::last_number(key));
        Ok(Self { account, id, conversation: require(state, &keys::conversation(id))?, record })
    }

    /// How many messages are unread. Walks over the erased messages beyond the read mark, if there are any.
    pub fn unread(&self, state: &dyn Read) -> storage::Result<u64> {
        let beyond = self.conversation.message_count.saturating_sub(self.record.read_no);
        let unread = beyond.saturating_sub(self.record.read_ahead);
        if unread == 0 || self.conversation.last_erased_seq <= self.record.read_seq {
            return Ok(unread);
        }
        let prefix = keys::all_of(keys::ERASED, self.id.0);
        let span = Span { start: keys::erased(self.id, self.record.read_seq + 1).to_vec(), end: prefix.end };
        let mut erased = 0;
        each(state, &span, |key, _: store::Present| {
            erased += u64::from(!self.is_read_ahead(state, keys::last_number(key))?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(unread.saturating_sub(erased))
    }

    /// Whether this message counts as read.
    pub fn has_read(&self, state: &dyn Read, seq: u64, event: &store::EventRecord) -> storage::Result<bool> {
        Ok(seq <= self.record.read_seq || is_erased(event) || self.is_read_ahead(state, seq)?)
    }

    /// Whether the message is in the sparse set. Most members have an empty set, and need no read of the state.
    fn is_read_ahead(&self, state: &dyn Read, seq: u64) -> storage::Result<bool> {
        Ok(self.record.read_ahead > 0 && exists(state, &keys::read(self.account, self.id, seq))?)
    }

    /// Adds a message to the sparse set, if it lies beyond the mark.
    pub fn read_one(&mut self, context: &mut Context<'_>, seq: u64) -> storage::Result<()> {
        if seq > self.record.read_seq && !self.is_read_ahead(context.state, seq)? {
            save(context.state, &keys::read(self.account, self.id, seq), &store::Present {})?;
            self.record.read_ahead += 1;
        }
        Ok(())
    }

    /// Moves the read mark forward to `seq`, which is at most `last_seq`. Never moves it back.
    pub fn move_mark(&mut self, context: &mut Context<'_>, seq: u64) -> storage::Result<()> {
        let from = self.record.read_seq;
        if seq <= from {
            return Ok(());
        }
        if seq == self.conversation.last_seq {
            self.record.read_ahead = 0;
            self.record.read_no = self.conversation.message_count;
        } else {
            let passed = keys::seqs(keys::READ, self.account, self.id, from + 1, seq);
            self.record.read_ahead -= count_in(context.state, &passed, self.record.read_ahead)?;
            self.record.read_no = event_at(context.state, self.id, seq)?.message_no;
        }
        self.record.read_seq = seq;
        clear(context.state, &keys::seqs(keys::READ, self.account, self.id, 0, seq), CLEAR_STEP)?;
        Ok(())
    }

    /// Advances the read mark over everything that is read already.
    pub fn advance_mark(&mut self, context: &mut Context<'_>) -> storage::Result<()> {
        let mut seq = self.record.read_seq;
        let end = self.conversation.last_seq.min(seq.saturating_add(ADVANCE_STEP));
        while seq < end {
            let event = event_at(context.state, self.id, seq + 1)?;
            if is_message(&event) && !self.has_read(context.state, seq + 1, &event)? {
                break;
            }
            seq += 1;
        }
        self.move_mark(context, seq)
    }

    /// Saves the member. If the read mark has moved from `before`, stamps the move with a cursor, so that subscriptions
    /// deliver it: to the account itself, and in a direct conversation to the peer.
    pub fn save(mut self, context: &mut Context<'_>, before: u64) -> storage::Result<()> {
        if self.record.read_seq > before {
            let cursor = context.next_cursor().0;
            self.record.moved_seq = self.record.read_seq;
            self.record.moved_cursor = cursor;
            if self.conversation.direct {
                self.conversation.mark_cursor = cursor;
                context.save_conversation(self.id, &self.conversation)?;
                context.conversation_changed(self.id);
            }
        }
        save(context.state, &keys::member(self.account, self.id), &self.record)?;
        context.account_changed(self.account);
        Ok(())
    }
}
