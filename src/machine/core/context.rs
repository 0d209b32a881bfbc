//! One log entry being applied: the state, log time, the next cursor, and the effects so far.

use super::{
    keys,
    records::{load, require, save},
};
use crate::{
    storage::{self, StorageError, kv::Write},
    types::{AccountId, ConversationId, Cursor},
    wire::store,
};

/// The most events that one command may cause, its chores included. The largest causes are a deletion's first step of
/// chores (1,024 rows, an event each) and a request that names 500 messages in as many conversations.
pub const EVENTS_PER_COMMAND: u64 = 4_096;

/// Tells subscribers where to look for news. They read the news itself from the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// The conversation has a new event, or it is a direct one in which a read mark moved.
    Conversation(ConversationId),
    /// The account joined or left a conversation, read or hid something, ended a session or was deleted.
    Account(AccountId),
}

/// One log entry being applied. It exists from [`begin`](Self::begin) to [`finish`](Self::finish), and while it exists
/// nothing else changes the state.
///
/// Invariants:
/// - Log time goes back only by the command `CorrectTime`: `meta.time_ms` is the largest stamp of this entry and all
///   before it, back to the last correction.
/// - Cursors given out ascend, within the entry and from entry to entry: log index above, event number below.
/// - `meta` lives here while the entry is applied and is written once, by `finish`. Until then the stored row is stale
///   and nothing may read it.
/// - Nothing survives a crash by itself: the caller commits the whole batch with its applied index, or drops it.
pub struct Context<'a> {
    /// The rows, as this entry has changed them so far.
    pub state: &'a mut dyn Write,
    /// Log time, the last ids given out, and how many chores are open.
    pub meta: store::Meta,
    effects: Vec<Effect>,
    stored: store::Meta,
    index: u64,
    /// Events of this entry so far: the number of the next one.
    events: u64,
}

impl<'a> Context<'a> {
    /// Begins the entry at `index`, which the leader stamped with `time_ms`.
    ///
    /// # Errors
    /// When the state cannot be read, or `index` has no room in a cursor.
    pub fn begin(state: &'a mut dyn Write, index: u64, time_ms: u64) -> storage::Result<Self> {
        if index > Cursor(u64::MAX).index() {
            return Err(StorageError::damaged("the log", format!("index {index} is beyond what a cursor can hold")));
        }
        let stored: store::Meta = load(state, &keys::META_KEY)?.unwrap_or_default();
        let mut meta = stored;
        meta.time_ms = meta.time_ms.max(time_ms);
        Ok(Self { state, meta, effects: Vec::new(), stored, index, events: 0 })
    }

    /// Ends the entry: writes `meta` if it changed, and hands out the effects in order of occurrence. Effects may
    /// repeat.
    pub fn finish(self) -> storage::Result<Vec<Effect>> {
        if self.meta != self.stored {
            save(self.state, &keys::META_KEY, &self.meta)?;
        }
        Ok(self.effects)
    }

    /// Log time, in Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.meta.time_ms
    }

    /// Whether the entry has enough cursors left for one more command. A command is refused when it has not.
    pub fn has_room(&self) -> bool {
        self.events + EVENTS_PER_COMMAND <= Cursor::EVENTS_PER_ENTRY
    }

    /// Takes the next cursor.
    pub fn next_cursor(&mut self) -> Cursor {
        let cursor = Cursor::new(self.index, self.events);
        self.events += 1;
        cursor
    }

    /// Takes the next conversation id.
    pub fn next_conversation_id(&mut self) -> ConversationId {
        self.meta.last_conversation_id += 1;
        ConversationId(self.meta.last_conversation_id)
    }

    /// Notes that a conversation has something new.
    pub fn conversation_changed(&mut self, id: ConversationId) {
        self.note(Effect::Conversation(id));
    }

    /// Notes that an account has something new.
    pub fn account_changed(&mut self, id: AccountId) {
        self.note(Effect::Account(id));
    }

    // Drops only repetitions in a row, which is cheap; the caller of `finish` drops the rest.
    fn note(&mut self, effect: Effect) {
        if self.effects.last() != Some(&effect) {
            self.effects.push(effect);
        }
    }

    /// Reads an account that another record names.
    pub fn account(&self, id: AccountId) -> storage::Result<store::AccountRecord> {
        require(self.state, &keys::account(id))
    }

    /// Writes an account.
    pub fn save_account(&mut self, id: AccountId, account: &store::AccountRecord) -> storage::Result<()> {
        save(self.state, &keys::account(id), account)
    }

    /// Writes a conversation.
    pub fn save_conversation(
        &mut self,
        id: ConversationId,
        conversation: &store::ConversationRecord,
    ) -> storage::Result<()> {
        save(self.state, &keys::conversation(id), conversation)
    }
}
