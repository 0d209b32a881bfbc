//! The ledger: what was attempted and what came of it, and the checker that holds the cluster to it.
//!
//! Whoever puts load on a cluster writes down every attempt before it is made and every answer after it came. What
//! stands earlier in the ledger happened earlier in real time, so that order is checked without trusting a clock.
//! Afterwards [`Checker`] compares it with what each replica holds and what each subscriber was told.
//!
//! # Invariants
//! - Every body is sent by one attempt only: it is how a message is recognised, since no timeline shows request ids.
//! - An attempt may be repeated under its request id at any time, whatever came of it: what is certain about it stays,
//!   and a second outcome that contradicts it is found.
//! - Only what was acknowledged is deleted: the place is how what is left of it is recognised.
//! - The timelines checked hold messages of the ledger only, from the `base` given for each conversation on.
//! - Checking takes time and memory proportional to the history.
//!
//! Left to others: making the load and reading the replicas ([`probe`](super::probe)).

mod check;
mod findings;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub use check::Checker;
pub use findings::{EXAMPLES, Findings, Kind, Violation};

use crate::{
    types::{ConversationId, RequestId},
    wire::{Reason, chat::Message},
};

/// A message as a timeline, a read or a stream shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in its conversation.
    pub seq: u64,
    /// Its place in the log.
    pub cursor: u64,
    /// What it says; empty once it is deleted.
    pub body: String,
}

impl From<Message> for Entry {
    fn from(message: Message) -> Self {
        Self { seq: message.seq, cursor: message.cursor, body: message.body }
    }
}

/// What one replica holds of each conversation, in the order in which it was listed.
pub type Timelines = BTreeMap<ConversationId, Vec<Entry>>;

/// What became of an attempt. Times count from the start of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It may have taken effect. Also while no answer has come yet.
    Unknown,
    /// The cluster promised to keep it, at this place.
    Acknowledged {
        /// When the answer came.
        at: Duration,
        /// Its place in its conversation.
        seq: u64,
        /// Its place in the log.
        cursor: u64,
    },
    /// It took no effect and never will.
    Refused {
        /// When the answer came.
        at: Duration,
        /// Why.
        reason: Reason,
    },
}

/// How far the deletion of a message for everyone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Erasure {
    /// Nobody has asked for it.
    None,
    /// It may have happened.
    Asked,
    /// It was acknowledged, at this place in the order of events.
    Done(usize),
}

/// One message that was sent, or tried to be.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The request_id that all repetitions bore.
    pub id: RequestId,
    /// To which conversation.
    pub conversation: ConversationId,
    /// What it says, unlike any other.
    pub body: String,
    /// When it was begun, from the start of the run.
    pub invoked: Duration,
    /// When it ended, however; `None` while it is under way.
    pub ended: Option<Duration>,
    /// What became of it.
    pub outcome: Outcome,
    erasure: Erasure,
}

/// One read of a conversation.
#[derive(Debug, Clone)]
struct Read {
    reader: usize,
    conversation: ConversationId,
    /// Where and when, for people.
    whence: String,
    /// The seq up to which it must show everything; `None`: all that was known when it began.
    owed: Option<u64>,
    /// What it showed. Contiguous to the end of the conversation as the read saw it.
    entries: Vec<Entry>,
}

/// What happened, in the order in which it did.
#[derive(Debug, Clone, Copy)]
enum Event {
    Invoked(usize),
    Acknowledged(usize),
    ReadBegan(usize),
    ReadEnded(usize),
}

/// Every attempt and every read, in order.
#[derive(Debug, Default)]
pub struct Ledger {
    bases: BTreeMap<ConversationId, u64>,
    attempts: Vec<Attempt>,
    reads: Vec<Read>,
    events: Vec<Event>,
    /// Places at which something stands that is no message.
    notices: BTreeSet<(ConversationId, u64)>,
    /// Attempts that were acknowledged after a certain outcome, and where.
    contradictions: Vec<(usize, Outcome)>,
}

impl Ledger {
    /// A conversation enters the ledger: what it held up to `base` is not looked at.
    pub fn open(&mut self, conversation: ConversationId, base: u64) {
        self.bases.insert(conversation, base);
    }

    /// An attempt is about to be made. Answers with its number.
    pub fn invoke(&mut self, at: Duration, id: RequestId, conversation: ConversationId, body: String) -> usize {
        let number = self.attempts.len();
        let outcome = Outcome::Unknown;
        let erasure = Erasure::None;
        self.attempts.push(Attempt { id, conversation, body, invoked: at, ended: None, outcome, erasure });
        self.events.push(Event::Invoked(number));
        number
    }

    /// The cluster acknowledged an attempt; one of unknown outcome may still be.
    pub fn acknowledge(&mut self, at: Duration, attempt: usize, seq: u64, cursor: u64) {
        let now = Outcome::Acknowledged { at, seq, cursor };
        match self.attempts[attempt].outcome {
            Outcome::Unknown => {
                self.end(at, attempt, now);
                self.events.push(Event::Acknowledged(attempt));
            }
            Outcome::Acknowledged { seq: first, cursor: at_first, .. } if (first, at_first) == (seq, cursor) => {}
            Outcome::Acknowledged { .. } | Outcome::Refused { .. } => self.contradictions.push((attempt, now)),
        }
    }

    /// The cluster refused an attempt for good. That settles nothing if an earlier try of it may have taken effect.
    pub fn refuse(&mut self, at: Duration, attempt: usize, reason: Reason) {
        if self.attempts[attempt].ended.is_none() {
            self.end(at, attempt, Outcome::Refused { at, reason });
        }
    }

    /// An attempt was given up, and may have taken effect.
    pub fn lose_sight(&mut self, at: Duration, attempt: usize) {
        if self.attempts[attempt].ended.is_none() {
            self.end(at, attempt, Outcome::Unknown);
        }
    }

    fn end(&mut self, at: Duration, attempt: usize, outcome: Outcome) {
        let attempt = &mut self.attempts[attempt];
        // Settling an unknown outcome later on does not change when the sender gave up.
        attempt.ended.get_or_insert(at);
        attempt.outcome = outcome;
    }

    /// An acknowledged message is about to be deleted for everyone: from now on its text may be gone.
    pub fn begin_erasing(&mut self, attempt: usize) {
        let erasure = &mut self.attempts[attempt].erasure;
        if *erasure == Erasure::None {
            *erasure = Erasure::Asked;
        }
    }

    /// The cluster acknowledged that a message is deleted for everyone: nobody is shown its text any more.
    pub fn erased(&mut self, attempt: usize) {
        let erasure = &mut self.attempts[attempt].erasure;
        if !matches!(erasure, Erasure::Done(_)) {
            *erasure = Erasure::Done(self.events.len());
        }
    }

    /// Somebody was told that at this place of a conversation no message stands, but a join, a departure, a deletion.
    pub fn notice(&mut self, conversation: ConversationId, seq: u64) {
        self.notices.insert((conversation, seq));
    }

    /// `reader`, who reads one thing at a time, is about to read the end of a conversation, linearizably; `whence` tells
    /// people where and when. Answers with the read's number.
    pub fn begin_read(&mut self, reader: usize, conversation: ConversationId, whence: impl Into<String>) -> usize {
        self.start_read(reader, conversation, whence.into(), None)
    }

    /// The same for a read that need not be linearizable: it shows at least everything up to `seen`, the last that its
    /// session was told of, and never less than it has shown before.
    pub fn begin_session_read(
        &mut self,
        reader: usize,
        conversation: ConversationId,
        whence: impl Into<String>,
        seen: u64,
    ) -> usize {
        self.start_read(reader, conversation, whence.into(), Some(seen))
    }

    fn start_read(&mut self, reader: usize, conversation: ConversationId, whence: String, owed: Option<u64>) -> usize {
        let number = self.reads.len();
        self.reads.push(Read { reader, conversation, whence, owed, entries: Vec::new() });
        self.events.push(Event::ReadBegan(number));
        number
    }

    /// A read was answered. One that failed is never ended, and proves nothing.
    pub fn end_read(&mut self, read: usize, entries: Vec<Entry>) {
        self.reads[read].entries = entries;
        self.events.push(Event::ReadEnded(read));
    }

    /// Every attempt, in the order in which they were begun.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// The conversations, each with the seq up to which it is not looked at.
    pub fn bases(&self) -> &BTreeMap<ConversationId, u64> {
        &self.bases
    }

    /// How many reads were answered.
    pub fn reads(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::ReadEnded(_))).count()
    }

    /// The largest cursor acknowledged; 0 if none was.
    pub fn newest_cursor(&self) -> u64 {
        let cursor = |attempt: &Attempt| match attempt.outcome {
            Outcome::Acknowledged { cursor, .. } => Some(cursor),
            _ => None,
        };
        self.attempts.iter().filter_map(cursor).max().unwrap_or(0)
    }

    /// The numbers of the attempts whose outcome is unknown.
    pub fn unknown(&self) -> Vec<usize> {
        let unknown = |(_, attempt): &(usize, &Attempt)| attempt.outcome == Outcome::Unknown;
        self.attempts.iter().enumerate().filter(unknown).map(|(number, _)| number).collect()
    }
}
