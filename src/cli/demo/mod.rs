//! `chat-node demo`: the whole story on this machine, told by real processes.
//!
//! The nodes are processes of this very program, driven from outside as a person would: `chat-node init` and `run`,
//! `chat-admin add-node` and `status`, SIGKILL. A [`probe`](crate::client::probe) writes, reads and listens from the
//! first node to the end.
//!
//! # Invariants
//! - However the demo ends, its processes and its directory are gone, unless `--keep` was given and it came to its end.
//! - Nothing of the person's environment (`CHAT_…`) reaches the nodes.

mod fleet;
mod story;

use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, Failure, Output, Result};

/// `demo`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Options {
    /// How many nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(3..=9))]
    pub nodes: u8,
    /// Where the nodes keep their data: a new or empty directory. Default: a temporary one
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Leave the cluster running at the end, and say how to use it
    #[arg(long)]
    pub keep: bool,
}

/// Tells the story.
///
/// # Errors
/// [`Exit::Wanting`] when a metric failed; the output has said which.
pub async fn run(options: Options, output: &mut Output) -> Result<()> {
    let stopped = stopped()?;
    tokio::select! {
        // Dropping the story ends its processes.
        signal = stopped => Err(Failure::new(Exit::Failure, format!("stopped by {signal}; everything is cleaned up"))),
        told = story::tell(&options, output) => told,
    }
}

/// Resolves to the name of the signal that asks the demo to end.
fn stopped() -> Result<impl Future<Output = &'static str>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "ctrl-c",
            _ = terminate.recv() => "SIGTERM",
            _ = hang_up.recv() => "SIGHUP",
        }
    })
}
