//! The findings of a check.

use std::collections::BTreeMap;

/// Most violations that are described in words. All are counted.
pub const EXAMPLES: usize = 20;

/// The kinds of violations, each with the promise that it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A replica lacks an acknowledged message (P1).
    Missing,
    /// Another text stands in the place of an acknowledged message (P1).
    Changed,
    /// A message is there more than once (P4).
    Duplicated,
    /// A message is there that nobody has sent.
    Invented,
    /// A message is there although it was refused.
    RefusedButThere,
    /// A message is there, but not at the place that was acknowledged.
    Misplaced,
    /// A message was acknowledged at two places, or after it had been refused for good (P4).
    TwoOutcomes,
    /// The text of a message that was deleted for everyone is there again.
    Undeleted,
    /// The sequence numbers of a timeline have a gap (P5).
    Gap,
    /// The cursors of a timeline do not increase (P5).
    CursorOrder,
    /// Two replicas hold different timelines (P8).
    ReplicasDiffer,
    /// A message stands before another that was acknowledged before it was sent (P3).
    Reordered,
    /// A read did not show what was acknowledged, or shown to another reader, before it began (P3).
    StaleRead,
    /// A reader was shown less than it had seen before (P3).
    ReadWentBack,
    /// A read showed something that no timeline holds.
    ReadDiffers,
    /// A stream left out an event (P5).
    StreamGap,
    /// A stream sent an event twice or out of order (P5).
    StreamRepeated,
    /// A stream sent something that no timeline holds.
    StreamDiffers,
}

impl Kind {
    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Changed => "changed",
            Self::Duplicated => "duplicated",
            Self::Invented => "invented",
            Self::RefusedButThere => "refused but there",
            Self::Misplaced => "misplaced",
            Self::TwoOutcomes => "two outcomes",
            Self::Undeleted => "deleted and there again",
            Self::Gap => "gap in a timeline",
            Self::CursorOrder => "cursors out of order",
            Self::ReplicasDiffer => "replicas differ",
            Self::Reordered => "reordered",
            Self::StaleRead => "stale read",
            Self::ReadWentBack => "read went back",
            Self::ReadDiffers => "read differs",
            Self::StreamGap => "gap in a stream",
            Self::StreamRepeated => "repeated in a stream",
            Self::StreamDiffers => "stream differs",
        }
    }

    /// Whether a promised message is lost. The other kinds mean that it is shown wrongly.
    pub fn is_loss(self) -> bool {
        matches!(self, Self::Missing | Self::Changed)
    }
}

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The kind.
    pub kind: Kind,
    /// Where and what, in words.
    pub what: String,
}

/// All findings of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    counts: BTreeMap<Kind, u64>,
    examples: Vec<Violation>,
}

impl Findings {
    /// Adds a violation. Calls `what` only while there is room for another description.
    pub fn add(&mut self, kind: Kind, what: impl FnOnce() -> String) {
        *self.counts.entry(kind).or_default() += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(Violation { kind, what: what() });
        }
    }

    /// How often one kind was found. A message that two replicas lack counts twice.
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    /// The kinds found, and how often each.
    pub fn counts(&self) -> &BTreeMap<Kind, u64> {
        &self.counts
    }

    /// The first [`EXAMPLES`] violations in words.
    pub fn examples(&self) -> &[Violation] {
        &self.examples
    }

    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }
}
