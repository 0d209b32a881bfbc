//! A whole cluster in one process, for tests: real nodes, real gRPC on loopback, faults at the network connector.
//!
//! Each node has its own runtime, port and data directory. To kill a node, the fixture shuts its runtime down: all
//! tasks end between two awaits, nothing is handed over, the connections break and the directory is unlocked. Power
//! cuts are left to the storage tests, SIGKILL to `tests/processes`.
#![allow(dead_code, reason = "each test program uses a part of the fixture")]

mod admin;
mod builder;
mod cluster;
mod host;
mod load;
mod net;
mod user;
mod wait;

#[allow(unused_imports, reason = "each test program uses a part of the fixture")]
pub use self::{
    admin::{change, grow},
    builder::Builder,
    cluster::Cluster,
    load::Load,
    net::{Endpoint, Network},
    user::{User, event_of},
    wait::{TIMEOUT, eventually, within},
};

/// The password of every account.
pub const PASSWORD: &str = "correct horse battery";
