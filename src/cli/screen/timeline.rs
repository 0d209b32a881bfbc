//! The open conversation: its messages by number, and what has not become one yet.

use std::collections::BTreeMap;

use super::MESSAGES;
use crate::{
    client::Recipient,
    types::ConversationId,
    wire::chat::{ListMessagesResponse, Message, RoomChange},
};

/// The open conversation.
#[derive(Debug)]
pub(super) struct Timeline {
    /// How its messages are addressed.
    pub(super) to: Recipient,
    /// Its id, once there is one: a direct conversation begins with its first message.
    pub(super) id: Option<ConversationId>,
    pub(super) messages: BTreeMap<u64, Message>,
    /// What happened to the room, as far back as its messages are here.
    pub(super) changes: BTreeMap<u64, RoomChange>,
    /// Nothing is older than what is here.
    pub(super) complete: bool,
    /// A page is on its way.
    pub(super) loading: bool,
    /// Rows that the view stands above the end; 0 follows what comes.
    pub(super) above: usize,
    /// How far the other one in a direct conversation has read, if both show that.
    pub(super) read_by_other: u64,
}

impl Timeline {
    pub(super) fn new(to: Recipient, id: Option<ConversationId>) -> Self {
        let (messages, changes) = (BTreeMap::new(), BTreeMap::new());
        Self { to, id, messages, changes, complete: false, loading: true, above: 0, read_by_other: 0 }
    }

    /// Whether it is this conversation's.
    pub(super) fn is(&self, id: &str) -> bool {
        self.id.is_some_and(|own| own.to_string() == id)
    }

    /// Takes a page of older messages, or of the latest.
    pub(super) fn load(&mut self, before: Option<u64>, page: ListMessagesResponse) {
        let (page, changes) = (page.messages, page.changes);
        self.loading = false;
        let oldest = self.messages.keys().next().copied();
        let seqs = page.iter().map(|message| message.seq).chain(changes.iter().map(|change| change.seq));
        let first = seqs.min();
        let reaches_back = before.is_some() || oldest.is_none_or(|oldest| first.is_none_or(|first| first <= oldest));
        if before.is_none() && !reaches_back && !self.joins(first) {
            // So much was missed that the latest page does not join on: what is between is asked for when wanted.
            self.messages.clear();
            self.changes.clear();
            self.complete = false;
        }
        if reaches_back || self.messages.is_empty() {
            // A short page is no proof: pages are bounded in bytes, too.
            self.complete = first.is_none_or(|first| first == 1);
        }
        page.into_iter().for_each(|message| self.put(message));
        changes.into_iter().for_each(|change| self.put_change(change));
    }

    /// Takes what happened to the room.
    pub(super) fn put_change(&mut self, change: RoomChange) {
        self.changes.insert(change.seq, change);
        while self.changes.len() > MESSAGES {
            self.changes.pop_first();
        }
    }

    /// Whether a page beginning with `first` overlaps with or touches what is here.
    fn joins(&self, first: Option<u64>) -> bool {
        let newest = self.messages.keys().next_back().copied();
        first.is_none_or(|first| newest.is_some_and(|newest| first <= newest + 1))
    }

    /// Takes one message.
    pub(super) fn put(&mut self, message: Message) {
        if self.id.is_none() {
            self.id = message.conversation_id.parse().ok();
        }
        self.messages.insert(message.seq, message);
        // What is in view does not vanish from under the reader, unless too much comes meanwhile.
        let most = if self.above == 0 { MESSAGES } else { 2 * MESSAGES };
        while self.messages.len() > most {
            self.messages.pop_first();
            self.complete = false;
            let oldest = self.messages.keys().next().copied().unwrap_or(0);
            self.changes = self.changes.split_off(&oldest);
        }
    }

    /// A message's body was erased, or it was hidden.
    pub(super) fn delete(&mut self, seq: u64, hidden: bool) {
        if hidden {
            self.messages.remove(&seq);
        } else if let Some(message) = self.messages.get_mut(&seq) {
            message.deleted = true;
            message.body.clear();
        }
    }

    /// The page of older messages to ask for, if there may be some.
    pub(super) fn older(&mut self) -> Option<u64> {
        let oldest = self.messages.keys().next().copied()?;
        let wanted = !self.complete && !self.loading && self.messages.len() < MESSAGES;
        self.loading |= wanted;
        wanted.then_some(oldest)
    }

    /// The newest message whose body or sender holds `words`, before (or after) `from`.
    pub(super) fn find(&self, words: &str, from: Option<u64>, backwards: bool) -> Option<u64> {
        let words = words.to_lowercase();
        let holds = |message: &&Message| {
            let text = format!("{}\u{0}{}", message.sender, message.body).to_lowercase();
            !words.is_empty() && text.contains(&words)
        };
        if backwards {
            self.messages.range(..from.unwrap_or(u64::MAX)).rev().map(|(_, message)| message).find(holds)
        } else {
            self.messages.range(from.map_or(0, |from| from + 1)..).map(|(_, message)| message).find(holds)
        }
        .map(|message| message.seq)
    }
}
