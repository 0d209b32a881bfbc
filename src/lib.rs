//! Quorate: a chat service that keeps its word while machines fail.
//!
//! A majority of the replicas stores every message durably before its sender is told "sent". This crate holds three
//! programs and the library they share: `chat-node`, a replica; `chat-admin`, the operator's tool; `chat`, the user's
//! client.
//!
//! # The house
//!
//! The modules stand on floors. A module uses only modules on floors below its own, none on its own floor. `tests/tidy`
//! reads the `use` lines and checks this.
//!
//! | floor | modules | purpose |
//! |---|---|---|
//! | 0 | [`types`], [`fault_injection`] | ids, names, limits, the seams for clock and randomness; bugs that tests switch on |
//! | 1 | [`config`], [`telemetry`], [`wire`], [`storage`], [`membership`] | settings; logging; protobuf and error mapping; the redb stores; fault-tolerance arithmetic |
//! | 2 | [`machine`], [`client`] | the replicated chat state machine; the cluster client |
//! | 3 | [`raft`], [`cli`] | the openraft adapter; command lines and the terminal UI |
//! | 4 | [`node`] | one running replica |
//! | 5 | [`server`] | gRPC services: authenticate, validate, convert, call the node |
//! | 6 | [`daemon`] | what the commands of `chat-node` do: init, restore, run, inspect, recover |
//! | 7 | `bin/` | the programs, about 50 lines at most |
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

pub mod daemon;
