//! Whole clusters in one process, attacked: real nodes and real gRPC on loopback, with faults at the network connector.
//!
//! | file | what it attacks |
//! |---|---|
//! | [`promises`] | the promises P1 to P4 and P8 while nodes die, links break and clocks jump |
//! | [`membership`] | changes of membership that meet trouble (P6) |
//! | [`reconfiguration`] | growing, shrinking and replacing under load (P6) |
//! | [`replacing`] | who may take the place of whom (P6) |
//! | [`subscriptions`] | no gap and no duplicate in a live stream (P5) |
//! | [`clocks`] | clocks that are days off, and the way out for a log whose time was carried ahead (P2, P4) |
//! | [`bot`] | `examples/bot.rs`, through failover and restart |
//!
//! "Scenario N" is a row of the table in `tests/simulation/scenarios/mod.rs`. One test: `cargo test --test cluster
//! NAME`.

#[path = "../common/mod.rs"]
mod common;

mod bot;
mod clocks;
mod membership;
mod promises;
mod reconfiguration;
mod replacing;
mod subscriptions;
