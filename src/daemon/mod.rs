//! Floor 6: what the commands of `chat-node` do.
//!
//! Each command builds a node from its settings, runs it or reads what it holds, and prints the result for people or as
//! JSON. A command that fails returns a [`Failure`]: what failed, why, what to do next, and the
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

use std::process::ExitCode;

use clap::CommandFactory;

use self::{
    init::{init, restore},
    inspect::inspect,
    recover::recover,
    run::run,
};
use crate::{
    cli::{
        Exit, Failure, Output, Result, completions, demo, man,
        node::{NodeArgs, NodeCommand},
        parse, run_to_end,
    },
    config::{LogFormat, NodeConfig},
    telemetry,
};

/// The whole program: parses the arguments, runs the command and returns the exit code.
pub fn main() -> ExitCode {
    run_to_end(tokio::runtime::Runtime::new(), dispatch(parse::<NodeArgs>().command))
}

async fn dispatch(command: NodeCommand) -> Result<()> {
    match command {
        NodeCommand::Init { settings, json } => init(with_logs(settings.load()?)?, &mut Output::standard(json)).await,
        NodeCommand::Run { settings, trust_this_disk } => run(with_logs(settings.load()?)?, trust_this_disk).await,
        NodeCommand::Demo(options) => demo::run(options, &mut Output::standard(false)).await,
        NodeCommand::Inspect { data_dir, json } => inspect(&data_dir, &mut Output::standard(json)).await,
        NodeCommand::Restore { settings, file, from, json } => {
            // The parser requires one of the two.
            let from = file.or(from).unwrap_or_default();
            restore(with_logs(settings.load()?)?, &from, &mut Output::standard(json)).await
        }
        NodeCommand::Recover { data_dir, compare, yes_lose_data, json } => {
            recover(&data_dir, &compare, yes_lose_data, &mut Output::standard(json)).await
        }
        NodeCommand::Man { directory } => man(NodeArgs::command(), &directory),
        NodeCommand::Completions { shell } => completions(shell, NodeArgs::command(), &mut Output::standard(false)),
    }
}

fn with_logs(config: NodeConfig) -> Result<NodeConfig> {
    let json = config.log.format == LogFormat::Json;
    telemetry::init(&config.log.filter, json)
        .map_err(|error| Failure::new(Exit::Configuration, error.to_string()).next("correct --log"))?;
    Ok(config)
}
