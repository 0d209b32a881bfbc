//! What a check found.

use std::collections::BTreeMap;

/// Violations told in words, at most; all are counted.
pub const EXAMPLES: usize = 20;

/// How a promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Acknowledged, and not there (P1).
    Missing,
    /// Acknowledged, and another text stands in its place (P1).
    Changed,
    /// There more than once (P4).
    Duplicated,
    /// There, and never sent.
    Invented,
    /// There, although it was refused.
    RefusedButThere,
    /// There, but not at the place that was acknowledged.
    Misplaced,
    /// Acknowledged at two places, or after it had been refused for good (P4).
    TwoOutcomes,
    /// Deleted for everyone, and its text is there again.
    Undeleted,
    /// Sequence numbers of a timeline are not dense (P5).
    Gap,
    /// Cursors of a timeline do not increase (P5).
    CursorOrder,
    /// Two replicas hold different timelines (P8).
    ReplicasDiffer,
    /// Acknowledged before another was begun, and yet behind it (P3).
    Reordered,
    /// A read did not see what was acknowledged, or read by another, before it began (P3).
    StaleRead,
    /// A reader saw less than it had seen before (P3).
    ReadWentBack,
    /// A read showed what no timeline holds.
    ReadDiffers,
    /// A stream left something out (P5).
    StreamGap,
    /// A stream told something twice, or out of order (P5).
    StreamRepeated,
    /// A stream told what no timeline holds.
    StreamDiffers,
}

impl Kind {
    /// As in reports.
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

    /// Whether it means that something promised is lost; the others mean that it is seen wrongly.
    pub fn is_loss(self) -> bool {
        matches!(self, Self::Missing | Self::Changed)
    }
}

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// How.
    pub kind: Kind,
    /// Where and what, for people.
    pub what: String,
}

/// Everything that a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    counts: BTreeMap<Kind, u64>,
    examples: Vec<Violation>,
}

impl Findings {
    /// Notes a violation; `what` is only made while there is room for it.
    pub fn add(&mut self, kind: Kind, what: impl FnOnce() -> String) {
        *self.counts.entry(kind).or_default() += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(Violation { kind, what: what() });
        }
    }

    /// How often one kind was found. Each replica that lacks a message counts.
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    /// Every kind found, and how often.
    pub fn counts(&self) -> &BTreeMap<Kind, u64> {
        &self.counts
    }

    /// The first [`EXAMPLES`] in words.
    pub fn examples(&self) -> &[Violation] {
        &self.examples
    }

    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }
}
