//! Quorate: a chat service that keeps its word while machines fail.
//!
//! A group of replicas agree on every message before anyone is told "sent". This crate holds the three programs
//! (`chat-node`, a replica; `chat-admin`, the operator's tool; `chat`, the user's client) and the library they share.
//!
//! # The house
//!
//! A module uses only floors below its own; modules on one floor are strangers. `tests/tidy.rs` reads the `use` lines
//! and holds this.
//!
//! | floor | rooms | what they are for |
//! |---|---|---|
//! | 0 | [`types`], [`fault_injection`] | ids, names, limits, the clock and randomness seams; mistakes made on purpose, in tests |
//! | 1 | [`config`], [`telemetry`], [`wire`], [`storage`], [`membership`] | settings; logs; protobuf and error mapping; redb; fault-tolerance arithmetic |
//! | 2 | [`machine`], [`client`] | the replicated chat state machine; the cluster client |
//! | 3 | [`raft`], [`cli`] | the openraft adapter; command lines |
//! | 4 | [`node`] | one running replica |
//! | 5 | [`server`] | gRPC services: authenticate, validate, translate, call the node |
//! | 6 | `bin/` | the programs, about 30 lines each |
#![forbid(unsafe_code)]

pub mod fault_injection;
pub mod types;

pub mod config;
pub mod membership;
pub mod storage;
pub mod telemetry;
pub mod wire;

pub mod client;
pub mod machine;

pub mod cli;
pub mod raft;

pub mod node;

pub mod server;
