//! Several timelines merged by cursor.
//!
//! The merge holds one position for each timeline, not its events: one event of each of 10,000 conversations, with
//! messages of 32 KiB, would be too much memory. Where to begin in a timeline is a binary search, because seqs are
//! dense and cursors grow with them.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{
    machine::core::timeline::event_at,
    storage::{self, kv::Read},
    types::{ConversationId, Cursor},
    wire::store,
};

/// An event of the merge.
pub(super) struct Merged {
    /// The number of its timeline, in the order in which they were added.
    pub(super) source: usize,
    pub(super) id: ConversationId,
    pub(super) seq: u64,
    pub(super) event: store::EventRecord,
}

/// A merge in progress.
///
/// Invariant: `heads` holds exactly one entry for each timeline that has events left, with the seq of its next event.
pub(super) struct TimelineMerge<'a> {
    state: &'a dyn Read,
    /// Each timeline with its last seq.
    sources: Vec<(ConversationId, u64)>,
    /// Cursor, source and seq of the next event of each timeline, the least cursor on top.
    heads: BinaryHeap<Reverse<(u64, usize, u64)>>,
}

impl<'a> TimelineMerge<'a> {
    pub(super) fn new(state: &'a dyn Read) -> Self {
        Self { state, sources: Vec::new(), heads: BinaryHeap::new() }
    }

    /// Adds the events of a timeline with `first <= seq <= last` and a cursor above `after`.
    pub(super) fn add(&mut self, id: ConversationId, first: u64, last: u64, after: Cursor) -> storage::Result<()> {
        let source = self.sources.len();
        self.sources.push((id, last));
        if first > last || self.cursor(id, last)? <= after {
            return Ok(());
        }
        // New events are mostly few and at the end: gallop back from there, then search in between.
        let (mut low, mut high, mut step) = (first, last, 1);
        while high > first {
            let probe = last.saturating_sub(step).max(first);
            if self.cursor(id, probe)? <= after {
                low = probe + 1;
                break;
            }
            high = probe;
            step *= 2;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if self.cursor(id, middle)? <= after {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let cursor = self.cursor(id, high)?;
        self.heads.push(Reverse((cursor.0, source, high)));
        Ok(())
    }

    /// The cursor of the next event.
    pub(super) fn peek(&self) -> Option<Cursor> {
        self.heads.peek().map(|Reverse((cursor, ..))| Cursor(*cursor))
    }

    /// The next event.
    pub(super) fn next(&mut self) -> storage::Result<Option<Merged>> {
        let Some(Reverse((_, source, seq))) = self.heads.pop() else { return Ok(None) };
        let (id, last) = self.sources[source];
        if seq < last {
            let cursor = self.cursor(id, seq + 1)?;
            self.heads.push(Reverse((cursor.0, source, seq + 1)));
        }
        let event = event_at(self.state, id, seq)?;
        Ok(Some(Merged { source, id, seq, event }))
    }

    fn cursor(&self, id: ConversationId, seq: u64) -> storage::Result<Cursor> {
        Ok(Cursor(event_at(self.state, id, seq)?.cursor))
    }
}
