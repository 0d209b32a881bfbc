//! Reading: read marks, messages read one by one, and the count of what is unread.
//!
//! The count is derived, so that it cannot drift. A message of a conversation is unread for a member if it lies
//! beyond the read mark, is not in the member's sparse set (read one by one, sent or hidden by itself), and is not
//! erased for everyone. With `message_no` on every event, that takes no walk over the timeline:
//!
//! ```text
//! unread = messages ever sent - message_no at the read mark
//!        - rows of the sparse set beyond the mark
//!        - erased messages beyond the mark that are not in the sparse set
//! ```
//!
//! The mark moves on by itself over what is read already, so that the sparse set stays small.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use super::{
    context::Context,
    conversations::{CLEAR_STEP, as_member},
    error::{Result, invalid, refuse},
    keys::{self, Span},
    records::{clear, count_in, each, event_at, exists, is_erased, is_message, save},
    sessions::Actor,
};
use crate::{
    storage::{self, kv::Read},
    types::{AccountId, ConversationId, limits},
    wire::{
        Reason,
        store::{self, outcome::Result as Done},
    },
};

/// Events over which one command lets a read mark move on by itself.
const SETTLE_STEP: u64 = 1_024;

/// One member's place in one conversation, while a command changes it.
pub(super) struct Place {
    pub(super) account: AccountId,
    pub(super) id: ConversationId,
    pub(super) conversation: store::ConversationRecord,
    pub(super) member: store::MemberRecord,
}

impl Place {
    /// The caller's place, if it is a member.
    pub(super) fn of(state: &dyn Read, account: AccountId, id: ConversationId) -> Result<Self> {
        let (conversation, member) = as_member(state, account, id)?;
        Ok(Self { account, id, conversation, member })
    }

    /// How many messages are unread.
    pub(super) fn unread(&self, state: &dyn Read) -> storage::Result<u64> {
        let beyond = self.conversation.message_count.saturating_sub(self.member.read_no);
        let unread = beyond.saturating_sub(self.member.read_ahead);
        if unread == 0 || self.conversation.last_erased_seq <= self.member.read_seq {
            return Ok(unread);
        }
        let prefix = keys::all_of(keys::ERASED, self.id.0);
        let span = Span { start: keys::erased(self.id, self.member.read_seq + 1).to_vec(), end: prefix.end };
        let mut erased = 0;
        each(state, &span, |key, _: store::Present| {
            erased += u64::from(!self.has_row(state, keys::last_number(key))?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(unread.saturating_sub(erased))
    }

    /// Whether this message is read: in the sense of the count.
    pub(super) fn has_read(&self, state: &dyn Read, seq: u64, event: &store::EventRecord) -> storage::Result<bool> {
        Ok(seq <= self.member.read_seq || is_erased(event) || self.has_row(state, seq)?)
    }

    fn has_row(&self, state: &dyn Read, seq: u64) -> storage::Result<bool> {
        Ok(self.member.read_ahead > 0 && exists(state, &keys::read(self.account, self.id, seq))?)
    }

    /// Adds a message to the sparse set, if it lies beyond the mark.
    pub(super) fn read_one(&mut self, context: &mut Context<'_>, seq: u64) -> storage::Result<()> {
        if seq > self.member.read_seq && !self.has_row(context.state, seq)? {
            save(context.state, &keys::read(self.account, self.id, seq), &store::Present {})?;
            self.member.read_ahead += 1;
        }
        Ok(())
    }

    /// Moves the read mark forward to `seq`, which the timeline reaches.
    pub(super) fn move_mark(&mut self, context: &mut Context<'_>, seq: u64) -> storage::Result<()> {
        let from = self.member.read_seq;
        if seq <= from {
            return Ok(());
        }
        if seq == self.conversation.last_seq {
            self.member.read_ahead = 0;
            self.member.read_no = self.conversation.message_count;
        } else {
            let passed = keys::seqs(keys::READ, self.account, self.id, from + 1, seq);
            self.member.read_ahead -= count_in(context.state, &passed, self.member.read_ahead)?;
            self.member.read_no = event_at(context.state, self.id, seq)?.message_no;
        }
        self.member.read_seq = seq;
        clear(context.state, &keys::seqs(keys::READ, self.account, self.id, 0, seq), CLEAR_STEP)?;
        Ok(())
    }

    /// Lets the read mark move on over what is read already.
    pub(super) fn settle(&mut self, context: &mut Context<'_>) -> storage::Result<()> {
        let mut seq = self.member.read_seq;
        let end = self.conversation.last_seq.min(seq.saturating_add(SETTLE_STEP));
        while seq < end {
            let event = event_at(context.state, self.id, seq + 1)?;
            if is_message(&event) && !self.has_read(context.state, seq + 1, &event)? {
                break;
            }
            seq += 1;
        }
        self.move_mark(context, seq)
    }

    /// Saves the place, and tells who may know if the mark has moved from `before`.
    pub(super) fn save(mut self, context: &mut Context<'_>, before: u64) -> storage::Result<()> {
        if self.member.read_seq > before {
            let cursor = context.next_cursor().0;
            self.member.moved_seq = self.member.read_seq;
            self.member.moved_cursor = cursor;
            if self.conversation.direct {
                self.conversation.mark_cursor = cursor;
                context.save_conversation(self.id, &self.conversation)?;
                context.conversation_changed(self.id);
            }
        }
        save(context.state, &keys::member(self.account, self.id), &self.member)?;
        context.account_changed(self.account);
        Ok(())
    }
}

/// Messages that a request refers to, in one conversation.
pub(super) struct Referred {
    pub(super) place: Place,
    pub(super) messages: BTreeMap<u64, store::EventRecord>,
}

/// Looks up what a request refers to: all of it must be messages that the caller may see.
pub(super) fn refer(context: &Context<'_>, actor: &Actor, refs: &[store::MessageRef]) -> Result<Vec<Referred>> {
    if refs.len() > limits::MESSAGE_REFS {
        return invalid(format!("one request may refer to at most {} messages", limits::MESSAGE_REFS));
    }
    let wanted: BTreeSet<(u64, u64)> = refs.iter().map(|wanted| (wanted.conversation_id, wanted.seq)).collect();
    let mut found: Vec<Referred> = Vec::new();
    for (conversation, seq) in wanted {
        let id = ConversationId(conversation);
        if found.last().is_none_or(|last| last.place.id != id) {
            let place = Place::of(context.state, actor.id, id)?;
            found.push(Referred { place, messages: BTreeMap::new() });
        }
        let Some(Referred { place, messages }) = found.last_mut() else { continue };
        let visible = place.member.joined_seq <= seq && seq <= place.conversation.last_seq;
        let event = if visible { Some(event_at(context.state, id, seq)?) } else { None };
        let Some(event) = event.filter(is_message) else {
            return refuse(Reason::MessageNotFound, format!("there is no message {seq} in conversation {id}"));
        };
        messages.insert(seq, event);
    }
    Ok(found)
}

/// Marks messages as read: single ones, or all of a conversation up to a position.
pub(super) fn mark_read(context: &mut Context<'_>, actor: &Actor, verb: &store::MarkRead) -> Result<Done> {
    if verb.messages.is_empty() && verb.conversation_id == 0 {
        return invalid("name the messages, or the conversation, to mark as read");
    }
    let mut places = refer(context, actor, &verb.messages)?;
    let position = ConversationId(verb.conversation_id);
    if position.0 != 0 && places.iter().all(|referred| referred.place.id != position) {
        let place = Place::of(context.state, actor.id, position)?;
        places.push(Referred { place, messages: BTreeMap::new() });
    }
    let mut count = 0;
    for Referred { mut place, messages } in places {
        let unread = place.unread(context.state)?;
        let before = place.member.read_seq;
        if place.id == position {
            let last_seq = place.conversation.last_seq;
            let up_to = if verb.up_to_seq == 0 { last_seq } else { verb.up_to_seq.min(last_seq) };
            place.move_mark(context, up_to)?;
        }
        for (seq, event) in &messages {
            // A row for what counts as read without one, such as an erased message, would be counted twice.
            if !place.has_read(context.state, *seq, event)? {
                place.read_one(context, *seq)?;
            }
        }
        place.settle(context)?;
        let newly_read = unread.saturating_sub(place.unread(context.state)?);
        count += newly_read;
        if newly_read > 0 || place.member.read_seq > before {
            place.save(context, before)?;
        }
    }
    Ok(Done::MarkedRead(store::MarkedRead { count }))
}
