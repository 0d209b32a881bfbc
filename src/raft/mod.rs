//! Floor 3: the adapter between our rooms and openraft.
//!
//! openraft decides who leads, what is committed and in which order; this room gives it a log ([`LogStore`]), a state
//! machine ([`StateMachine`]), a network to its peers ([`PeerNetwork`]) and the service that hears them
//! ([`PeerService`]). It only adapts: what a command means is `machine`'s business, what to do about it `node`'s.
//!
//! # How a write passes through
//!
//! ```text
//! node::propose ──► Proposal (encoded once) ──► openraft ─┬─► LogStore ──► one fsync for all that is queued
//!                                                         └─► PeerNetwork ──► the peers' PeerService ──► their LogStore
//!                                  on a majority ──► StateMachine ──► one transaction ──► outcomes, rings
//! ```
//!
//! # Invariants
//!
//! - The vote and the log keep their order on disk: both go through one writer ([`storage::LogFile`]).
//! - Applied id, last membership and the effects of the commands are one transaction: a state file is never torn.
//! - The log is purged only below what is durable in the state file (see [`StateMachine`]).
//! - What is written, to disk or wire, is our own protobuf (`chat.raft.v1`), never openraft's serde form, so that
//!   versions interoperate; [`convert`] is the only file that knows both.
//! - Every openraft name is spelled once, in [`types`].
//!
//! [`storage::LogFile`]: crate::storage::LogFile

pub mod convert;
#[cfg(test)]
mod crashes;
mod cuts;
mod log_store;
pub mod network;
mod peer_service;
mod state_machine;
#[cfg(test)]
mod tests;
pub mod types;

pub use cuts::{Cuts, NoCut};
pub use log_store::LogStore;
pub use network::{Identity, PeerNetwork, PeerNetworkFactory};
pub use peer_service::{PeerService, Serving};
pub use state_machine::{Changed, SnapshotData, StateMachine, StateMeta, replay};
pub use types::Raft;
