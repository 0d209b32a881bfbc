//! Floor 6: what the commands of `chat-node` do.
//!
//! Each command builds a node from its settings, runs it or reads what it holds, and prints the result for people or as
//! JSON. A command that fails returns a [`Failure`](crate::cli::Failure): what failed, why, what to do next, and the
//! exit code that scripts rely on. Argument parsing is in [`crate::cli::node`]; consensus and storage are in
//! [`crate::node`].
//!
//! | file | content |
//! |---|---|
//! | `init` | `init` and `restore`: a new one-voter cluster, empty or from a backup |
//! | `run` | `run`: the order in which a node starts and stops |
//! | `inspect` | `inspect`: what a stopped node holds |
//! | `recover` | `recover`: what a recovery would lose, the operator's consent, the recovery |
//! | `failure` | exit codes and advice for everything that can stop a node |
//! | `signals` | SIGTERM and SIGINT |

mod failure;
mod init;
mod inspect;
mod recover;
mod run;
mod signals;

pub use self::{
    init::{init, restore},
    inspect::inspect,
    recover::recover,
    run::run,
};
