//! The loaded part of the open conversation.

use std::collections::{BTreeMap, BTreeSet};

use super::MESSAGES;
use crate::{
    client::Recipient,
    types::{ConversationId, normal_form},
    wire::chat::{ListMessagesResponse, Message, RoomChange},
};

/// The loaded part of the open conversation.
///
/// # Invariants
/// - `messages` has no gap that the service could fill: pages are joined only if they touch. A latest page that does not
///   touch replaces everything. Numbers that are missing inside belong to changes, or to messages hidden from this account.
/// - `changes` reaches back as far as `messages`, with at most [`MESSAGES`] entries.
/// - There are at most [`MESSAGES`] messages at the end of the conversation, twice as many while the person has scrolled
///   up (`rows_below` > 0), and the oldest are dropped first.
/// - At most one page is under way (`loading`).
#[derive(Debug)]
pub(super) struct Timeline {
    /// The recipient of messages written here.
    pub(super) to: Recipient,
    /// Its id; `None` before the first message of a direct conversation.
    pub(super) id: Option<ConversationId>,
    /// Messages by number.
    pub(super) messages: BTreeMap<u64, Message>,
    /// Changes of the room by number.
    pub(super) changes: BTreeMap<u64, RoomChange>,
    /// The oldest message of the conversation is loaded.
    pub(super) complete: bool,
    /// A page has been asked for.
    pub(super) loading: bool,
    /// Rows below the view. At 0 the view follows new messages.
    pub(super) rows_below: usize,
    /// Messages that were asked to be marked as read one by one.
    pub(super) marked: BTreeSet<u64>,
    /// This account's read mark when the conversation was opened with unread messages.
    pub(super) read_before: Option<u64>,
    /// The number up to which the other account has read; 0 in rooms and if receipts are off.
    pub(super) read_by_other: u64,
}

impl Timeline {
    pub(super) fn new(to: Recipient, id: Option<ConversationId>) -> Self {
        let (messages, changes) = (BTreeMap::new(), BTreeMap::new());
        Self {
            to,
            id,
            messages,
            changes,
            complete: false,
            loading: true,
            rows_below: 0,
            marked: BTreeSet::new(),
            read_before: None,
            read_by_other: 0,
        }
    }

    /// The first message that was new to `account` when it opened the conversation, if that is loaded.
    pub(super) fn first_new(&self, account: &str) -> Option<u64> {
        let read_before = self.read_before?;
        let reaches_back = self.complete || self.messages.keys().next().is_some_and(|oldest| *oldest <= read_before);
        let mut later = self.messages.range(read_before + 1..).filter(|_| reaches_back);
        later.find(|(_, message)| is_unread(message, account)).map(|(seq, _)| *seq)
    }

    /// Whether this is the conversation `id`.
    pub(super) fn is(&self, id: &str) -> bool {
        self.id.is_some_and(|own| own.to_string() == id)
    }

    /// Adds a page: older messages if it was asked for with `before`, else the latest.
    pub(super) fn load(&mut self, before: Option<u64>, page: ListMessagesResponse) {
        let (page, changes) = (page.messages, page.changes);
        self.loading = false;
        let oldest = self.messages.keys().next().copied();
        let seqs = page.iter().map(|message| message.seq).chain(changes.iter().map(|change| change.seq));
        let first = seqs.min();
        let reaches_back = before.is_some() || oldest.is_none_or(|oldest| first.is_none_or(|first| first <= oldest));
        if before.is_none() && !reaches_back && !self.joins(first) {
            // So much was missed that there is a gap. Start over from the latest page; scrolling up loads the rest.
            self.messages.clear();
            self.changes.clear();
            self.complete = false;
        }
        if reaches_back || self.messages.is_empty() {
            // Only number 1 proves the beginning. A short page does not: pages are bounded in bytes, too.
            self.complete = first.is_none_or(|first| first == 1);
        }
        page.into_iter().for_each(|message| self.put(message));
        changes.into_iter().for_each(|change| self.put_change(change));
    }

    /// Adds a change of the room.
    pub(super) fn put_change(&mut self, change: RoomChange) {
        self.changes.insert(change.seq, change);
        while self.changes.len() > MESSAGES {
            self.changes.pop_first();
        }
    }

    /// Whether a page that begins with `first` overlaps or touches the loaded messages.
    fn joins(&self, first: Option<u64>) -> bool {
        let newest = self.messages.keys().next_back().copied();
        first.is_none_or(|first| newest.is_some_and(|newest| first <= newest + 1))
    }

    /// Adds or replaces a message.
    pub(super) fn put(&mut self, message: Message) {
        if self.id.is_none() {
            self.id = message.conversation_id.parse().ok();
        }
        self.messages.insert(message.seq, message);
        // While the person reads older messages, new ones must not push them out of view too soon.
        let most = if self.rows_below == 0 { MESSAGES } else { 2 * MESSAGES };
        while self.messages.len() > most {
            self.messages.pop_first();
            self.complete = false;
            let oldest = self.messages.keys().next().copied().unwrap_or(0);
            self.changes = self.changes.split_off(&oldest);
        }
    }

    /// Removes a message that this account has hidden, or empties one that was erased for everyone.
    pub(super) fn delete(&mut self, seq: u64, hidden: bool) {
        if hidden {
            self.messages.remove(&seq);
        } else if let Some(message) = self.messages.get_mut(&seq) {
            message.deleted = true;
            message.body.clear();
        }
    }

    /// Asks for the next page of older messages: the number before which it begins. `None` if there is no older message,
    /// a page is under way, or no more are held.
    pub(super) fn older(&mut self) -> Option<u64> {
        let oldest = self.messages.keys().next().copied()?;
        let wanted = !self.complete && !self.loading && self.messages.len() < MESSAGES;
        self.loading |= wanted;
        wanted.then_some(oldest)
    }

    /// The message nearest to `from` whose body or sender contains `words`, regardless of case and of how accents are
    /// typed: the newest one before
    /// `from` if `backwards`, else the oldest one after it.
    pub(super) fn find(&self, words: &str, from: Option<u64>, backwards: bool) -> Option<u64> {
        let words = normal_form(&words.to_lowercase());
        let holds = |message: &&Message| {
            let text = normal_form(&format!("{}\u{0}{}", message.sender, message.body).to_lowercase());
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

/// Whether `account` had not read the message when it was loaded.
pub(super) fn is_unread(message: &Message, account: &str) -> bool {
    !message.read && !message.sender.eq_ignore_ascii_case(account)
}
