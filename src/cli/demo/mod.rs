//! `chat-node demo`: a cluster of real processes on this machine that grows, loses nodes, and recovers.
//!
//! The nodes are processes of this program. The demo operates them as a person would: `chat-node init` and `run`,
//! `chat-admin add-node` and `status`, and SIGKILL. A [`probe`](crate::client::probe) writes, reads and listens from the
//! first node to the end, and gives the verdict.
//!
//! # Invariants
//! - When the demo ends, its processes and its data are gone. Only with `--keep`, and only if it ran to its end, they stay.
//! - Environment variables `CHAT_…` of the person do not reach the nodes.

mod fleet;
mod story;

use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, Failure, Output, Result};

/// `demo`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Options {
    /// Number of nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(3..=9))]
    pub nodes: u8,
    /// Directory for the data of the nodes, new or empty. Default: a temporary one
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Keep the cluster running at the end, and print how to use it
    #[arg(long)]
    pub keep: bool,
}

/// Runs the demo.
///
/// # Errors
/// [`Exit::ChecksFailed`] if a metric failed; the output says which.
pub async fn run(options: Options, output: &mut Output) -> Result<()> {
    let stopped = stopped()?;
    tokio::select! {
        // Dropping the other future ends the processes of the demo.
        signal = stopped => Err(Failure::new(Exit::Failure, format!("stopped by {signal}; everything is cleaned up"))),
        result = story::run(&options, output) => result,
    }
}

/// A future that resolves to the name of the first signal to end.
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
