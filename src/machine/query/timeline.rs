//! Several timelines merged by cursor.
//!
//! Holds a cursor for each timeline, not its events: with 10,000 conversations of 32 KiB messages, one event of each
//! would be too much to hold. Seqs are dense and cursors grow with them, so where to begin is a binary search.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{
    machine::records::event_at,
    storage::{self, kv::Read},
    types::{ConversationId, Cursor},
    wire::store,
};

/// An event, and where it comes from.
pub(super) struct Next {
    /// The number of the timeline, in the order in which they were added.
    pub(super) source: usize,
    pub(super) id: ConversationId,
    pub(super) seq: u64,
    pub(super) event: store::EventRecord,
}

/// The merge under way.
pub(super) struct Timelines<'a> {
    state: &'a dyn Read,
    sources: Vec<(ConversationId, u64)>,
    // Cursor, source, seq: of the next event of each timeline that is not yet at its end.
    heads: BinaryHeap<Reverse<(u64, usize, u64)>>,
}

impl<'a> Timelines<'a> {
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
        // What is new is mostly short, and at the end: gallop back from there, then search in between.
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

    /// The cursor of the event that comes next.
    pub(super) fn peek(&self) -> Option<Cursor> {
        self.heads.peek().map(|Reverse((cursor, ..))| Cursor(*cursor))
    }

    /// The event that comes next.
    pub(super) fn next(&mut self) -> storage::Result<Option<Next>> {
        let Some(Reverse((_, source, seq))) = self.heads.pop() else { return Ok(None) };
        let (id, last) = self.sources[source];
        if seq < last {
            let cursor = self.cursor(id, seq + 1)?;
            self.heads.push(Reverse((cursor.0, source, seq + 1)));
        }
        let event = event_at(self.state, id, seq)?;
        Ok(Some(Next { source, id, seq, event }))
    }

    fn cursor(&self, id: ConversationId, seq: u64) -> storage::Result<Cursor> {
        Ok(Cursor(event_at(self.state, id, seq)?.cursor))
    }
}
