//! `chat-admin`: the operator's tool.
//!
//! A command makes one call to the cluster, or follows one stream, and prints the answer as text or JSON. The leader
//! decides which changes are allowed; nothing is decided here. `plan` works without a cluster.
//!
//! | file | commands |
//! |---|---|
//! | [`status`], with [`survey`] and [`layout`] | `status` |
//! | [`change`], with [`progress`] | add, replace and remove nodes; promote, demote, set-address |
//! | [`commands`] | transfer-leader, snapshot, correct-time |
//! | [`verify`], [`backup`], [`plan`] | the same names |

mod args;
mod backup;
mod change;
mod commands;
mod layout;
mod plan;
mod progress;
mod status;
mod survey;
mod verify;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::CommandFactory;

pub use args::{Args, Command};

use super::{Exit, Failure, Output, Result, completions, man, parse, probe, run_to_end};
use crate::{
    client::{Cluster, Settings},
    types::{Clock, Entropy},
    wire::Dialer,
};

/// The whole program: parses the arguments, runs the command and returns the exit code.
pub fn main() -> ExitCode {
    let args = parse::<Args>();
    let mut output = Output::standard(args.json);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    run_to_end(runtime, run(args, Dialer::tcp(), &mut output))
}

/// Runs a command.
///
/// # Errors
/// With the exit code and the text for the person who typed the command.
pub async fn run(args: Args, dialer: Dialer, output: &mut Output) -> Result<()> {
    match &args.command {
        Command::Plan { zones } => return plan::run(zones, output),
        Command::Man { directory } => return man(Args::command(), directory),
        Command::Completions { shell } => return completions(*shell, Args::command(), output),
        _ => {}
    }
    if args.endpoints.is_empty() {
        let failure = Failure::new(Exit::Usage, "no endpoints are given");
        return Err(failure.next("give a node's address with -e HOST:PORT, or set CHAT_ENDPOINTS"));
    }
    let settings = Settings { timeout: args.timeout, clock: Clock::system(), entropy: Entropy::system() };
    let cluster = Cluster::new(args.endpoints.clone(), dialer, settings);
    if let Command::Probe(options) = &args.command {
        // Unlike operators' commands, the probe gives up on a slow node as soon as a user would.
        return probe::run(options, &cluster, output).await;
    }
    CommandContext { cluster: cluster.for_slow_calls(), args: &args }.dispatch(output).await
}

/// What every command on a cluster needs: the cluster and the common flags.
struct CommandContext<'a> {
    cluster: Cluster,
    args: &'a Args,
}

impl CommandContext<'_> {
    async fn dispatch(&self, output: &mut Output) -> Result<()> {
        match &self.args.command {
            Command::Status { watch: false, .. } => status::once(self, output).await,
            Command::Status { watch: true, interval } => status::watch(self, *interval, output).await,
            Command::AddNode { node, learner, guard } => {
                change::run(self, change::Change::add(node, *learner, guard), output).await
            }
            Command::ReplaceNode { old, node, .. } if *old == node.name => {
                let failure = Failure::new(Exit::Usage, format!("node {old} cannot replace itself"));
                Err(failure.next("give the new node another name; use set-address for a node that has moved"))
            }
            Command::ReplaceNode { old, node, guard } => {
                change::run(self, change::Change::replace(old, node, guard), output).await
            }
            Command::RemoveNode { name, accept_lower_tolerance, guard } => {
                change::run(self, change::Change::remove(name, *accept_lower_tolerance, guard), output).await
            }
            Command::Promote { name, guard } => change::run(self, change::Change::promote(name, guard), output).await,
            Command::Demote { name, accept_lower_tolerance, guard } => {
                change::run(self, change::Change::demote(name, *accept_lower_tolerance, guard), output).await
            }
            Command::SetAddress { name, address, guard } => {
                change::run(self, change::Change::set_address(name, address, guard), output).await
            }
            Command::TransferLeader { name } => commands::transfer_leader(self, name.as_ref(), output).await,
            Command::CorrectTime { clients_ahead, dry_run } => {
                commands::correct_time(self, *clients_ahead, *dry_run, output).await
            }
            Command::Snapshot => commands::snapshot(self, output).await,
            Command::Backup { file } => backup::run(self, file, output).await,
            Command::Verify => verify::run(self, output).await,
            Command::Probe(_) | Command::Plan { .. } | Command::Completions { .. } | Command::Man { .. } => Ok(()),
        }
    }
}
