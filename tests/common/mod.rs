//! A whole cluster in one process, for tests: real nodes, real gRPC on loopback, faults at the network connector.
//!
//! Every node has a runtime, a port and a directory of its own. To kill one is to shut its runtime down: whatever it was
//! doing ends between two awaits, nothing is handed over, its connections break and its directory is unlocked. (What a
//! power cut does to the disk is the storage tests' business, what SIGKILL does to a process that of the tests with
//! processes.)
#![allow(dead_code, reason = "each test program uses a part of the fixture")]

mod admin;
mod cluster;
mod host;
mod load;
mod net;
mod user;
mod wait;

#[allow(unused_imports, reason = "each test program uses a part of the fixture")]
pub use self::{
    admin::{change, grow},
    cluster::{Builder, Cluster},
    load::Load,
    net::{Network, Place},
    user::{User, event_of},
    wait::{TIMEOUT, eventually, within},
};

/// The password of every account.
pub const PASSWORD: &str = "correct horse battery";
