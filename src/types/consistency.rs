//! How fresh a read must be.

/// Which state a read may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// A state that contains every write acknowledged before the read began, on whichever node it was (P3).
    #[default]
    Linearizable,
    /// A state at least as new as this log index: read your own writes, without a quorum round.
    AtLeast(u64),
    /// The state of this node, however old. Works without a quorum.
    Stale,
}
