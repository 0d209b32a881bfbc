//! How fresh a read must be.

/// What a read may answer from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Everything acknowledged before the read began, whichever node serves it.
    #[default]
    Linearizable,
    /// State at least as new as this log index: read-your-writes without a quorum round.
    AtLeast(u64),
    /// Whatever this node has; works without a quorum.
    Stale,
}
