//! A replica: see [`quorate::cli::node`].

use std::{future::Future, process::ExitCode};

use clap::{CommandFactory, Parser};
use quorate::{
    cli::{
        Exit, Failure, Output, Result, completions, finish,
        node::{self as cli, NodeArgs, NodeCommand},
    },
    config::{LogFormat, NodeConfig},
    node::{self, Node, Settings, StartError},
    server::{self, Ended},
    storage::StorageError,
    telemetry, wire,
};

fn main() -> ExitCode {
    finish(dispatch(NodeArgs::parse().command))
}

fn dispatch(command: NodeCommand) -> Result<()> {
    match command {
        NodeCommand::Init { settings, json } => {
            let config = settings.load()?;
            cli::founder(&config)?;
            with_logs(&config)?;
            let identity = block_on(Node::init(Settings::production(config)))?.map_err(not_started)?;
            let mut output = Output::standard(json);
            if json {
                return output.message(&identity);
            }
            output.line(format!("cluster {} made, with node {} as its one voter", identity.cluster_id, identity.name))
        }
        NodeCommand::Run { settings } => {
            let config = settings.load()?;
            with_logs(&config)?;
            block_on(run(config))?
        }
        NodeCommand::Inspect { data_dir, json } => {
            let settings = Settings::production(NodeConfig::defaults(data_dir));
            let found = block_on(node::inspect(settings))?.map_err(not_started)?;
            let mut output = Output::standard(json);
            if json { output.message(&found) } else { output.line(wire::json::to_string(&found)) }
        }
        NodeCommand::Restore { .. } => Err(Failure::new(Exit::Failure, "restore needs `node::restore`")),
        NodeCommand::Completions { shell } => completions(shell, NodeArgs::command(), &mut Output::standard(false)),
    }
}

async fn run(config: NodeConfig) -> Result<()> {
    let node = Node::start(Settings::production(config)).await.map_err(not_started)?;
    match server::run(node).await.map_err(cli::run_failure)? {
        Ended::Asked => Ok(()),
        Ended::ByItself(exit) => {
            let code = match exit {
                node::Exit::Removed => Exit::Removed,
                node::Exit::Quarantined(_) => Exit::Quarantined,
                node::Exit::DiskFull(_) => Exit::Temporary,
            };
            Err(Failure::new(code, exit.to_string()))
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Runtime::new();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failure, format!("cannot start: {error}")))?;
    Ok(runtime.block_on(future))
}

fn not_started(error: StartError) -> Failure {
    let exit = match &error {
        StartError::Removed { .. } => Exit::Removed,
        StartError::Storage(StorageError::DiskFull { .. }) => Exit::Temporary,
        StartError::Storage(StorageError::Damaged { .. } | StorageError::TooNew { .. }) => Exit::Quarantined,
        StartError::NotEmpty | StartError::NoIdentity | StartError::Contradiction { .. } | StartError::Missing(_) => {
            Exit::Configuration
        }
        StartError::Storage(_) | StartError::Consensus(_) => Exit::Failure,
    };
    Failure::new(exit, error.to_string())
}

fn with_logs(config: &NodeConfig) -> Result<()> {
    telemetry::init(&config.log.filter, config.log.format == LogFormat::Json)
        .map_err(|error| Failure::new(Exit::Configuration, error.to_string()).next("correct --log"))
}
