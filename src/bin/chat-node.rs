//! The replica and its offline commands: see [`quorate::cli::node`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::CommandFactory;
use quorate::{
    cli::{
        Exit, Failure, Output, Result, completions, demo, finish, man,
        node::{NodeArgs, NodeCommand},
        parse,
    },
    config::{LogFormat, NodeConfig},
    daemon, telemetry,
};

/// A node runs for months and frees pages of all sizes on many threads. In such a process glibc's allocator keeps
/// several times the memory in use (measured in NOTEBOOK.md). `.cargo/config.toml` configures how jemalloc is built.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    finish(run(parse::<NodeArgs>().command).await)
}

async fn run(command: NodeCommand) -> Result<()> {
    match command {
        NodeCommand::Init { settings, json } => {
            daemon::init(with_logs(settings.load()?)?, &mut Output::standard(json)).await
        }
        NodeCommand::Run { settings, trust_this_disk } => {
            daemon::run(with_logs(settings.load()?)?, trust_this_disk).await
        }
        NodeCommand::Demo(options) => demo::run(options, &mut Output::standard(false)).await,
        NodeCommand::Inspect { data_dir, json } => daemon::inspect(&data_dir, &mut Output::standard(json)).await,
        NodeCommand::Restore { settings, from, json } => {
            daemon::restore(with_logs(settings.load()?)?, &from, &mut Output::standard(json)).await
        }
        NodeCommand::Recover { data_dir, compare, yes_lose_data, json } => {
            daemon::recover(&data_dir, &compare, yes_lose_data, &mut Output::standard(json)).await
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
