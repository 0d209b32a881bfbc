//! What a node is made of: its configuration, and the seams through which tests reach it.

use crate::{
    config::NodeConfig,
    storage::Blocking,
    types::{Clock, Entropy},
    wire::Dialer,
};

/// The configuration of a node and everything it gets from its surroundings.
///
/// Production code uses [`Settings::production`]. Simulations replace every other field, so a node has no way to the
/// real clock, the real network or real threads except through here.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Checked settings.
    pub config: NodeConfig,
    /// Wall clock.
    pub clock: Clock,
    /// Randomness.
    pub entropy: Entropy,
    /// Opens connections to other nodes.
    pub dialer: Dialer,
    /// Where blocking work runs.
    pub blocking: Blocking,
    /// Whether an operator takes the responsibility for a disk that may have gone back in time.
    pub trust_this_disk: bool,
}

impl Settings {
    /// The real clock, randomness, network and threads.
    pub fn production(config: NodeConfig) -> Self {
        Self {
            config,
            clock: Clock::system(),
            entropy: Entropy::system(),
            dialer: Dialer::tcp(),
            blocking: Blocking::Pool,
            trust_this_disk: false,
        }
    }
}
