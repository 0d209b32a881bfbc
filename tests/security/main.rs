//! Attacks that TLS does not stop: one test for each attempt that must fail.
//!
//! The attacker knows what every stranger can learn (cluster id, epoch, ids, addresses) and speaks raw gRPC, in the name
//! of any node. TLS will tell strangers from members; a member whose certificate was stolen can still try all of this.
//! So none of these tests uses TLS. See docs/incidents/0035 to 0040.

#[path = "../common/mod.rs"]
mod common;

mod attacker;
mod dials;
mod recovery;
mod repeats;
mod senders;
mod snapshots;
mod terms;
