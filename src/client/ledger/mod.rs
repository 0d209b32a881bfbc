//! The ledger: a record of every write and read that was tried and of its outcome, and a checker for it.
//!
//! The load on a cluster records each attempt before it is made and each answer after it came. What stands earlier in
//! the ledger happened earlier in real time, so [`Checker`] can check order without trusting a clock. It compares the
//! ledger with what each replica holds, what each read showed and what each subscriber received.
//!
//! This is a linearizability check with the search left out: each message has one place in its conversation, which the
//! acknowledgement names, so the order of writes is known and each read can be judged alone.
//!
//! # Invariants
//! - Each body is sent by one attempt only. The checker recognises a message by its body, since timelines show no
//!   request_id.
//! - An attempt may be repeated under its request_id at any time. A certain outcome stays; a second outcome that
//!   contradicts the first is a finding.
//! - Only acknowledged messages are deleted. The checker recognises a deleted message by its place.
//! - The timelines given to the checker hold only messages of the ledger, behind the `base` of each conversation.
//! - Checking takes time and memory proportional to the history (and a logarithm for the lookups).
//!
//! It leaves the load and the reading of replicas to [`probe`](super::probe).

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
    /// Sequence number in its conversation.
    pub seq: u64,
    /// Place in the log.
    pub cursor: u64,
    /// The text; empty once the message is deleted.
    pub body: String,
}

impl From<Message> for Entry {
    fn from(message: Message) -> Self {
        Self { seq: message.seq, cursor: message.cursor, body: message.body }
    }
}

/// What one replica holds of each conversation, in the order of the listing.
pub type Timelines = BTreeMap<ConversationId, Vec<Entry>>;

/// The outcome of an attempt. Times count from the start of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It may have taken effect, or may still do so. Also while no answer has come yet.
    Unknown,
    /// The cluster has promised to keep it at this place.
    Acknowledged {
        /// When the answer came.
        at: Duration,
        /// Sequence number in its conversation.
        seq: u64,
        /// Place in the log.
        cursor: u64,
    },
    /// It took no effect and never will.
    Refused {
        /// When the answer came.
        at: Duration,
        /// The reason given.
        reason: Reason,
    },
}

/// The state of the deletion of a message for everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Erasure {
    /// Not asked for.
    None,
    /// Asked for: it may have happened.
    Asked,
    /// Acknowledged, at this position in `Ledger::events`.
    Done(usize),
}

/// One message that was tried to be sent, with all its repetitions.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The request_id of all repetitions.
    pub id: RequestId,
    /// The conversation that it was sent to.
    pub conversation: ConversationId,
    /// The text, which no other attempt has.
    pub body: String,
    /// When it began, from the start of the run.
    pub invoked: Duration,
    /// When it ended, with any outcome; `None` while it is under way.
    pub ended: Option<Duration>,
    /// The outcome.
    pub outcome: Outcome,
    erasure: Erasure,
}

/// One read of a conversation.
#[derive(Debug, Clone)]
struct Read {
    reader: usize,
    conversation: ConversationId,
    /// Where and when, for messages.
    origin: String,
    /// The seq up to which it must show everything; `None`: all that was known when the read began.
    must_show: Option<u64>,
    /// What it showed: a part of the conversation without gaps, up to the end that the read saw.
    entries: Vec<Entry>,
}

/// What happened, with the number of the attempt or read.
#[derive(Debug, Clone, Copy)]
enum Event {
    Invoked(usize),
    Acknowledged(usize),
    ReadBegan(usize),
    ReadEnded(usize),
}

/// The record of all attempts and reads of a run, in order.
///
/// # Invariants
/// - `events` is in real-time order: if A ended before B began, A's end stands before B's begin. The caller records
///   under one lock, a begin before it sends and an end after the answer came.
/// - An attempt changes from `Unknown` to `Acknowledged` or `Refused` at most once, and `ended` is set once.
/// - `Acknowledged` appears in `events` once for an attempt, and only behind its `Invoked`.
/// - Numbers of attempts and reads are positions in `attempts` and `reads`. Nothing is ever taken out.
#[derive(Debug, Default)]
pub struct Ledger {
    /// For each conversation, the last sequence number before the run.
    bases: BTreeMap<ConversationId, u64>,
    attempts: Vec<Attempt>,
    reads: Vec<Read>,
    events: Vec<Event>,
    /// Places in conversations that something other than a message takes.
    notices: BTreeSet<(ConversationId, u64)>,
    /// Attempts that were acknowledged after another certain outcome, with the second outcome.
    contradictions: Vec<(usize, Outcome)>,
}

impl Ledger {
    /// Adds a conversation. What it holds up to `base` is not checked.
    pub fn open(&mut self, conversation: ConversationId, base: u64) {
        self.bases.insert(conversation, base);
    }

    /// Records that an attempt is about to be made. Returns its number.
    pub fn invoke(&mut self, at: Duration, id: RequestId, conversation: ConversationId, body: String) -> usize {
        let number = self.attempts.len();
        let outcome = Outcome::Unknown;
        let erasure = Erasure::None;
        self.attempts.push(Attempt { id, conversation, body, invoked: at, ended: None, outcome, erasure });
        self.events.push(Event::Invoked(number));
        number
    }

    /// Records that the cluster acknowledged an attempt, also one that was given up before.
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

    /// Records that the cluster refused an attempt for good. If the attempt was given up before, the outcome stays
    /// unknown: the earlier try may have taken effect.
    pub fn refuse(&mut self, at: Duration, attempt: usize, reason: Reason) {
        if self.attempts[attempt].ended.is_none() {
            self.end(at, attempt, Outcome::Refused { at, reason });
        }
    }

    /// Records that an attempt was given up and may have taken effect.
    pub fn lose_sight(&mut self, at: Duration, attempt: usize) {
        if self.attempts[attempt].ended.is_none() {
            self.end(at, attempt, Outcome::Unknown);
        }
    }

    fn end(&mut self, at: Duration, attempt: usize, outcome: Outcome) {
        let attempt = &mut self.attempts[attempt];
        // An outcome that becomes known later does not change when the sender gave up.
        attempt.ended.get_or_insert(at);
        attempt.outcome = outcome;
    }

    /// Records that an acknowledged message is about to be deleted for everyone. From now on its text may be gone.
    pub fn begin_erasing(&mut self, attempt: usize) {
        let erasure = &mut self.attempts[attempt].erasure;
        if *erasure == Erasure::None {
            *erasure = Erasure::Asked;
        }
    }

    /// Records that the cluster acknowledged the deletion for everyone. From now on no read may show the text.
    pub fn erased(&mut self, attempt: usize) {
        let erasure = &mut self.attempts[attempt].erasure;
        if !matches!(erasure, Erasure::Done(_)) {
            *erasure = Erasure::Done(self.events.len());
        }
    }

    /// Records that this place of a conversation holds no message but a join, a departure or a deletion.
    pub fn notice(&mut self, conversation: ConversationId, seq: u64) {
        self.notices.insert((conversation, seq));
    }

    /// Records that `reader` is about to read the end of a conversation, linearizably. A reader has one read under way
    /// at a time. `origin` says where and when, for messages. Returns the number of the read.
    pub fn begin_read(&mut self, reader: usize, conversation: ConversationId, origin: impl Into<String>) -> usize {
        self.start_read(reader, conversation, origin.into(), None)
    }

    /// Like [`Ledger::begin_read`], for a read that need not be linearizable. It must show everything up to `seen`, the
    /// last message that its session knows of, and never less than the reader has seen before.
    pub fn begin_session_read(
        &mut self,
        reader: usize,
        conversation: ConversationId,
        origin: impl Into<String>,
        seen: u64,
    ) -> usize {
        self.start_read(reader, conversation, origin.into(), Some(seen))
    }

    fn start_read(
        &mut self,
        reader: usize,
        conversation: ConversationId,
        origin: String,
        must_show: Option<u64>,
    ) -> usize {
        let number = self.reads.len();
        self.reads.push(Read { reader, conversation, origin, must_show, entries: Vec::new() });
        self.events.push(Event::ReadBegan(number));
        number
    }

    /// Records the answer to a read. A read that failed is never ended and proves nothing.
    pub fn end_read(&mut self, read: usize, entries: Vec<Entry>) {
        self.reads[read].entries = entries;
        self.events.push(Event::ReadEnded(read));
    }

    /// The attempts, in the order in which they began.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// The conversations, each with the sequence number up to which it is not checked.
    pub fn bases(&self) -> &BTreeMap<ConversationId, u64> {
        &self.bases
    }

    /// Number of reads that were answered.
    pub fn reads(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::ReadEnded(_))).count()
    }

    /// The largest acknowledged cursor; 0 if there is none.
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
