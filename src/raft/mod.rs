//! Floor 3: the adapter between our rooms and openraft.
//!
//! openraft decides who leads, which entries are committed and in which order. This room gives it a log ([`LogStore`]), a
//! state machine ([`StateMachine`]), a network to its peers ([`PeerNetwork`]) and the service that receives their calls
//! ([`PeerService`]). It only adapts: `machine` says what a command means, `node` what to do about a failure.
//!
//! # How a write passes through
//!
//! ```text
//! node::propose ──► Proposal (encoded once) ──► openraft ─┬─► LogStore ──► one fsync for everything queued
//!                                                         └─► PeerNetwork ──► the peers' PeerService ──► their LogStore
//!                                  on a majority ──► StateMachine ──► one transaction ──► outcomes, rings
//! ```
//!
//! # Invariants
//!
//! - The vote and the log keep their order on disk: both go through one writer ([`storage::LogFile`]).
//! - Applied id, last membership and the effects of the commands are one transaction: a state file is never torn.
//! - The log is purged only up to the entry that is durable in the state file (see [`StateMachine`]).
//! - Disk and wire carry our own protobuf (`chat.raft.v1`), never openraft's serde form, so that versions interoperate.
//!   [`convert`] is the only file that knows both.
//! - openraft believes its peers, so nothing of a peer reaches it unchecked: requests pass `peer_call`, snapshots
//!   `receive`, answers the network (see [`claims`]).
//! - A node whose disk may have gone back in time votes for nobody and acknowledges nothing (see [`OwnDisk`]); a peer that
//!   promised more than it knows is told so (see [`PeerMemory`]).
//! - [`types`] spells every openraft generic once.
//!
//! [`storage::LogFile`]: crate::storage::LogFile

use std::fmt::Display;

pub mod claims;
mod clocks;
pub mod convert;
#[cfg(test)]
mod crashes;
mod disk_checks;
mod identity;
mod incarnation;
mod lineage;
mod log_store;
pub mod network;
mod peer_call;
mod peer_memory;
mod peer_service;
mod receive;
mod snapshot;
mod state_machine;
#[cfg(test)]
mod tests;
mod transfers;
pub mod types;
mod view_at_index;

pub use clocks::{ClockView, Clocks};
pub use disk_checks::{DiskChecks, OwnDisk, OwnState};
pub use identity::PeerIdentity;
pub use incarnation::{Announcement, Incarnation, Stage};
pub use log_store::LogStore;
pub use network::{PeerNetwork, PeerNetworkFactory};
pub use peer_call::Serving;
pub use peer_memory::{PeerCondition, PeerMemory};
pub use peer_service::PeerService;
pub use snapshot::{Frame, SnapshotData, frames};
pub use state_machine::{Changed, StateMachine, StateMeta, replay};
pub use transfers::{Transfer, Transfers};
pub use view_at_index::{NoView, ViewAtIndex};

use crate::wire::{Fault, Reason};

/// The consensus of this node.
pub type Raft = openraft::Raft<types::TypeConfig, StateMachine>;

/// The fault of a node whose consensus has stopped, by a fatal error or on request.
pub fn stopped(error: impl Display) -> Fault {
    Fault::new(Reason::Quarantined, format!("this node has stopped: {error}"))
}
