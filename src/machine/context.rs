//! What a command is applied with: the state, log time, the next cursor, and the effects so far.

use super::{
    Effect, keys,
    records::{load, save},
};
use crate::{
    storage::{self, StorageError, kv::Write},
    types::{AccountId, ConversationId, Cursor},
    wire::store::{self, event_record::Kind},
};

/// Events that one command may cause, with all its chores; room for so many is made sure of before it is applied.
pub(super) const EVENTS_PER_COMMAND: u64 = 4_096;

/// One log entry being applied.
pub(super) struct Context<'a> {
    pub(super) state: &'a mut dyn Write,
    pub(super) meta: store::Meta,
    pub(super) effects: Vec<Effect>,
    stored: store::Meta,
    index: u64,
    place: u64,
}

impl<'a> Context<'a> {
    /// Begins the entry at `index`, stamped `time_ms` by the leader. Log time never goes back.
    pub(super) fn begin(state: &'a mut dyn Write, index: u64, time_ms: u64) -> storage::Result<Self> {
        if index > Cursor(u64::MAX).index() {
            return Err(StorageError::damaged("the log", format!("index {index} is beyond what a cursor can hold")));
        }
        let stored: store::Meta = load(state, &keys::META_KEY)?.unwrap_or_default();
        let mut meta = stored;
        meta.time_ms = meta.time_ms.max(time_ms);
        Ok(Self { state, meta, effects: Vec::new(), stored, index, place: 0 })
    }

    /// Ends the entry: writes what it counted, and hands out its effects.
    pub(super) fn finish(self) -> storage::Result<Vec<Effect>> {
        if self.meta != self.stored {
            save(self.state, &keys::META_KEY, &self.meta)?;
        }
        Ok(self.effects)
    }

    /// Log time, in Unix milliseconds.
    pub(super) fn now_ms(&self) -> u64 {
        self.meta.time_ms
    }

    /// Whether the entry has cursors left for one more command.
    pub(super) fn has_room(&self) -> bool {
        self.place + EVENTS_PER_COMMAND <= Cursor::EVENTS_PER_ENTRY
    }

    /// A cursor of its own for the next event.
    pub(super) fn next_cursor(&mut self) -> Cursor {
        let cursor = Cursor::new(self.index, self.place);
        self.place += 1;
        cursor
    }

    /// Notes that a conversation has something new.
    pub(super) fn conversation_changed(&mut self, id: ConversationId) {
        self.note(Effect::Conversation(id));
    }

    /// Notes that something changed for an account itself.
    pub(super) fn account_changed(&mut self, id: AccountId) {
        self.note(Effect::Account(id));
    }

    // Deduplicated at the end, by the caller of `finish`; here only the cheap case of a run.
    fn note(&mut self, effect: Effect) {
        if self.effects.last() != Some(&effect) {
            self.effects.push(effect);
        }
    }

    /// Appends an event to a conversation's timeline, bringing its record up to date but leaving it to the caller to
    /// save, who often has more to change in it.
    pub(super) fn append(
        &mut self,
        id: ConversationId,
        conversation: &mut store::ConversationRecord,
        author: AccountId,
        kind: Kind,
    ) -> storage::Result<store::EventRecord> {
        let cursor = self.next_cursor();
        conversation.last_seq += 1;
        conversation.last_cursor = cursor.0;
        conversation.message_count += u64::from(matches!(kind, Kind::Body(_)));
        let event = store::EventRecord {
            cursor: cursor.0,
            author_id: author.0,
            time_ms: self.now_ms(),
            message_no: conversation.message_count,
            kind: Some(kind),
        };
        save(self.state, &keys::event(id, conversation.last_seq), &event)?;
        self.conversation_changed(id);
        Ok(event)
    }

    /// Reads an account.
    pub(super) fn account(&self, id: AccountId) -> storage::Result<store::AccountRecord> {
        super::records::require(self.state, &keys::account(id))
    }

    /// Writes an account.
    pub(super) fn save_account(&mut self, id: AccountId, account: &store::AccountRecord) -> storage::Result<()> {
        save(self.state, &keys::account(id), account)
    }

    /// Writes a conversation.
    pub(super) fn save_conversation(
        &mut self,
        id: ConversationId,
        conversation: &store::ConversationRecord,
    ) -> storage::Result<()> {
        save(self.state, &keys::conversation(id), conversation)
    }
}
