//! The real programs as real processes on loopback: killed, frozen, out of disk space, restarted; and their output and
//! exit codes. Tests type commands as a person would, except for the load, which comes from the client library.
//!
//! | file | what it tests |
//! |---|---|
//! | [`growing`] | init, run, add-node, remove-node, orderly stop |
//! | [`faults`], [`disk`], [`nemesis`] | killed and frozen nodes, full disks, random faults under load |
//! | [`rollback`] | restored, swapped and doubled data directories |
//! | [`refusals`] | refusals, their exit codes and advice |
//! | [`bots`], [`outbox`], [`completion`], [`guide`] | `chat` in pipes, without a quorum, in a shell, and as in docs/chat.md |
//! | [`screen`], [`harmless`] | the full-screen client in a terminal, and hostile text in all output |
//!
//! The other files hold what these share: [`cluster`], [`shell`], [`load`], [`terminal`], [`hosts`], [`mount`].

mod bots;
mod cluster;
mod completion;
mod disk;
mod faults;
mod growing;
mod guide;
mod harmless;
mod hosts;
mod load;
mod mount;
mod nemesis;
mod outbox;
mod refusals;
mod rollback;
mod screen;
mod shell;
mod terminal;
