//! Floor 2: the cluster client, used by the command lines and by tests alike. Speaks only gRPC; never links the server.
//!
//! [`Cluster`] finds the nodes and their leader and repeats what may be repeated; [`Session`] is an account's
//! signed-in view; [`Subscription`] is its live stream, which goes on by itself on another node; [`Outbox`] keeps
//! messages on disk until they are acknowledged.
//!
//! # Invariants
//! - A write bears one `request_id`, minted once, in all its attempts: it takes effect at most once (P4).
//! - Only transient faults are repeated, until the deadline in [`Settings`]. Whoever is refused learns it at once.
//! - A write whose fate is not known ends as TIMEOUT, never as a refusal: [`outcome_is_unknown`] tells them apart.
//! - A hint about the leader is followed only if its term is not older than one already seen, and only within one
//!   cluster. A node that fell silent is asked again only once it has spoken for itself.
//! - Each attempt is shorter than the whole, so that a frozen node is left for another.
//! - Nothing is held without bound: one channel per address, [`CHANNELS`] at most.
//!
//! Left to others: what to show (cli), where the token is kept (cli), what a command means (machine).

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
mod rooms;
mod session;
mod settings;
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

/// How a client behaves, and its seams for tests.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long one operation may take in all, repeats included.
    pub timeout: Duration,
    /// Gives request ids their time.
    pub clock: Clock,
    /// Gives request ids their random part, waits their jitter, and picks the first node to read from.
    pub entropy: Entropy,
}

impl Settings {
    /// The system's clock and randomness.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, clock: Clock::system(), entropy: Entropy::system() }
    }
}

#[cfg(test)]
mod tests;
