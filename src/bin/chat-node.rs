//! A replica: see [`quorate::cli::node`].

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use quorate::{
    cli::{
        Exit, Failure, Output, Result, completions, finish,
        node::{self, NodeArgs, NodeCommand},
    },
    config::{LogFormat, NodeConfig},
    telemetry,
};

fn main() -> ExitCode {
    finish(run(NodeArgs::parse().command))
}

fn run(command: NodeCommand) -> Result<()> {
    match command {
        NodeCommand::Init { settings, .. } | NodeCommand::Restore { settings, .. } => {
            let config = settings.load()?;
            node::founder(&config)?;
            with_logs(&config)?;
            Err(to_be_joined("init and restore"))
        }
        NodeCommand::Run { settings } => {
            let config = settings.load()?;
            with_logs(&config)?;
            Err(to_be_joined("run"))
        }
        NodeCommand::Inspect { .. } => Err(to_be_joined("inspect")),
        NodeCommand::Completions { shell } => completions(shell, NodeArgs::command(), &mut Output::standard(false)),
    }
}

fn with_logs(config: &NodeConfig) -> Result<()> {
    let json = config.log.format == LogFormat::Json;
    telemetry::init(&config.log.filter, json)
        .map_err(|error| Failure::new(Exit::Configuration, error.to_string()).next("correct --log"))
}

/// The seam to `node`, which has no `start`, `init`, `restore` and `inspect` yet.
fn to_be_joined(command: &str) -> Failure {
    Failure::new(Exit::Failure, format!("{command} needs a node, which this build does not have"))
}
