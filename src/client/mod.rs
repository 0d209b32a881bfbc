//! Floor 2: the client of a cluster, for the command lines, for tests and for bots. It speaks gRPC and never links the
//! server.
//!
//! - [`Cluster`] finds the nodes and their leader, and repeats what may be repeated.
//! - [`Session`] is a signed-in account and its calls.
//! - [`Subscription`] is the account's live stream of events. It moves to another node when its node fails.
//! - [`Outbox`] keeps messages on disk until the cluster has acknowledged them.
//! - [`probe`] puts load on a cluster and checks its answers against a [`ledger`].
//!
//! `examples/bot.rs` shows them at work.
//!
//! # Invariants
//! - A write has one `request_id`, which all of its attempts bear, so it takes effect at most once (P4).
//! - Only transient faults are repeated, until the deadline in [`Settings`]. A refusal is returned at once.
//! - A write whose outcome is unknown ends as TIMEOUT, never as a refusal. [`outcome_is_unknown`] tells them apart.
//! - The client follows a hint about the leader only if its term is not older than the newest term seen, and only
//!   within one cluster. It does not trust other nodes' word about a leader that went silent until that leader answers
//!   again.
//! - One attempt gets less time than the whole operation, so a frozen node does not use up the deadline.
//! - Memory is bounded: one channel per address, at most [`CHANNELS`].
//!
//! It leaves to `cli` what to show and where to keep the token, and to `machine` what a command means.

mod backoff;
mod cluster;
mod discovery;
mod effort;
#[cfg(test)]
pub(crate) mod fake;
pub mod ledger;
mod order;
mod outbox;
pub mod probe;
mod session;
mod subscription;
mod tolerance;
mod view;

use std::time::Duration;

pub use cluster::{CHANNELS, Cluster};
pub use effort::outcome_is_unknown;
pub use outbox::{Delivery, Fate, Kept, OUTBOX_MESSAGES, Outbox, OutboxError, To};
pub use session::{Recipient, Session};
pub use subscription::{Start, Subscription, Update};
pub use tolerance::fault_tolerance;

use crate::types::{Clock, Entropy};

/// The timeout of a client, and the clock and randomness that tests replace.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Longest time for one operation, all its attempts included.
    pub timeout: Duration,
    /// The time in request ids.
    pub clock: Clock,
    /// The random part of request ids, the jitter of waits, and the choice of the first node to read from.
    pub entropy: Entropy,
}

impl Settings {
    /// Settings with the system's clock and randomness.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, clock: Clock::system(), entropy: Entropy::system() }
    }
}

#[cfg(test)]
mod tests;
