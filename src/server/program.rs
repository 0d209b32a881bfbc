//! What the commands of `chat-node` do.

use std::{net::SocketAddr, path::Path, time::Duration};

use tokio::sync::oneshot;
use tonic::service::Routes;

use super::{StopSignals, files, incoming, join::Join, listen, serve};
use crate::{
    cli::{Exit, Failure, Output, Result, node::founder},
    config::NodeConfig,
    node::{self, Identity, Node, Settings, StartError},
    storage::StorageError,
    types::{Address, limits},
    wire::{
        Fault, json,
        raft::{
            join_service_server::JoinServiceServer,
            raft_service_server::{RaftService, RaftServiceServer},
        },
        store::Inspection,
    },
};

/// A node that hangs on its way down is cut off after this.
const STOP: Duration = Duration::from_millis(4_500);

/// Makes a one-voter cluster in an empty directory.
pub async fn init(config: NodeConfig, out: &mut Output) -> Result<()> {
    founder(&config)?;
    let dir = config.data_dir.clone();
    let identity = Node::init(Settings::production(config)).await.map_err(|error| started(error, &dir))?;
    made(out, &identity, &dir)
}

/// Makes a new one-voter cluster from a backup, in an empty directory.
pub async fn restore(config: NodeConfig, from: &Path, out: &mut Output) -> Result<()> {
    founder(&config)?;
    let dir = config.data_dir.clone();
    let identity = Node::restore(Settings::production(config), from).await.map_err(|error| started(error, &dir))?;
    made(out, &identity, &dir)
}

fn made(out: &mut Output, identity: &Identity, dir: &Path) -> Result<()> {
    if out.is_json() {
        return out.line(json::to_string(identity));
    }
    out.line(format!("cluster {}", identity.cluster_id))?;
    out.line(format!("node    {} (id {}) at {}", identity.name, identity.node_id, identity.address))?;
    out.line(format!("start it: chat-node run --data-dir {}", dir.display()))
}

/// Prints what a stopped node holds.
pub async fn inspect(dir: &Path, out: &mut Output) -> Result<()> {
    let settings = Settings::production(NodeConfig::defaults(dir));
    let found = node::inspect(settings).await.map_err(|error| started(error, dir))?;
    if out.is_json() {
        return out.line(json::to_string(&found));
    }
    for line in report(&found) {
        out.line(line)?;
    }
    Ok(())
}

fn report(found: &Inspection) -> Vec<String> {
    let Some(identity) = &found.identity else { return vec!["an empty directory: no identity yet".into()] };
    let id = |id: &Option<crate::wire::raft::LogId>| match id {
        Some(id) => format!("{} (term {})", id.index, id.term),
        None => "none".into(),
    };
    let vote = match &found.vote {
        Some(vote) if vote.committed => format!("term {} for leader node {}", vote.term, vote.node_id),
        Some(vote) => format!("term {} for node {}", vote.term, vote.node_id),
        None => "none".into(),
    };
    let mut lines = vec![
        format!("cluster    {} (epoch {})", identity.cluster_id, identity.epoch),
        format!("node       {} (id {}) at {}", identity.name, identity.node_id, identity.address),
        format!("vote       {vote}"),
        format!("log        {} to {}, {} bytes", found.first_log_index, id(&found.last_log_id), found.log_bytes),
        format!("state      applied {}, {} bytes", id(&found.applied), found.state_bytes),
        format!("digest     {}", found.digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    ];
    if identity.removed {
        lines.insert(2, "removed    yes: it will not start again from this data".into());
    }
    let membership = found.membership.as_ref().and_then(|stored| stored.membership.as_ref());
    for member in membership.iter().flat_map(|membership| &membership.members) {
        let sets = membership.iter().flat_map(|membership| &membership.configs);
        let role = if sets.clone().any(|set| set.node_ids.contains(&member.node_id)) { "voter" } else { "learner" };
        lines.push(format!("{role:<10} {} (id {}) at {} {}", member.name, member.node_id, member.address, member.zone));
    }
    lines
}

/// Runs a node until it is asked to stop, or stops by itself.
pub async fn run(mut config: NodeConfig) -> Result<()> {
    // Before anything is started: whoever asks early is answered once the node can stop in order.
    let mut signals = StopSignals::listen()
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot listen for signals: {error}")))?;
    config.grpc.connections = files::connections(config.grpc.connections);
    let dir = config.data_dir.clone();
    let address = listening_address(&config).await?;
    // The port first: a node that cannot be reached must not take part.
    let listener = listen(&address).await.map_err(unusable)?;
    let node = Node::start(Settings::production(config.clone())).await.map_err(|error| started(error, &dir))?;
    let local = listener.local_addr().ok().as_ref().map(SocketAddr::to_string).unwrap_or_default();
    let waits = node.membership().answered_by_id == 0;
    tracing::info!(address = local, name = node.name(), version = node::VERSION, "listening");
    if waits {
        tracing::info!("this node is empty: it waits to be added with `chat-admin add-node {} {address}`", name(&node));
    }
    let (stop, stopping) = oneshot::channel::<()>();
    let closing = node.clone();
    let serving = tokio::spawn({
        let (node, config) = (node.clone(), config.clone());
        async move {
            let shutdown = async {
                let _ = stopping.await;
            };
            let peers = peers(&node);
            serve(node, &config, incoming(listener), peers, shutdown).await
        }
    });
    let exit = tokio::select! {
        signal = signals.requested() => {
            tracing::info!(signal, "stopping");
            None
        }
        exit = node.exited() => Some(exit),
    };
    let down = async move {
        // Leadership first, while the peers still answer and are answered; then the clients' connections.
        closing.stop().await;
        let _ = stop.send(());
        let _ = serving.await;
    };
    if tokio::time::timeout(STOP, down).await.is_err() {
        tracing::warn!("cut off what did not stop in time");
    }
    exit.map_or(Ok(()), |exit| Err(exited(&exit)))
}

fn name(node: &Node) -> String {
    match node.name() {
        name if name.is_empty() => "NAME".into(),
        name => name,
    }
}

/// The services that only peers and strangers speak.
pub fn peers(node: &Node) -> Routes {
    peers_by(node.peer_service(), node)
}

/// The same with another way to the node's service for peers, for whoever listens in.
pub fn peers_by(service: impl RaftService, node: &Node) -> Routes {
    let raft = RaftServiceServer::new(service)
        .max_decoding_message_size(limits::PEER_RPC_BYTES)
        .max_encoding_message_size(limits::PEER_RPC_BYTES);
    let join = JoinServiceServer::new(Join(node.clone())).max_decoding_message_size(limits::REQUEST_BYTES);
    Routes::new(raft).add_service(join)
}

/// As given, or as the node's identity has it.
async fn listening_address(config: &NodeConfig) -> Result<Address> {
    if let Some(listen) = &config.listen {
        return Ok(listen.clone());
    }
    let identity = Node::identity_of(config).await.map_err(|error| started(error, &config.data_dir))?;
    let listen = identity.and_then(|identity| identity.listen.parse().ok());
    listen.ok_or_else(|| Failure::new(Exit::Configuration, "no address to listen on").next("give --listen HOST:PORT"))
}

fn unusable(fault: Fault) -> Failure {
    let exit = Exit::Configuration;
    Failure { exit, ..Failure::from(fault) }
}

fn exited(exit: &node::Exit) -> Failure {
    match exit {
        node::Exit::Removed => removed(exit.to_string()),
        node::Exit::Quarantined(_) => quarantined(exit.to_string()),
        node::Exit::DiskFull(_) => disk_full(exit.to_string()),
    }
}

fn removed(message: String) -> Failure {
    Failure::new(Exit::Removed, message)
        .next("to use this machine again, start a node with an empty data directory and add that")
}

fn quarantined(message: String) -> Failure {
    Failure::new(Exit::Quarantined, message)
        .next("keep the directory for inspection, and replace the node: chat-admin replace-node OLD NEW ADDRESS")
}

fn disk_full(message: String) -> Failure {
    Failure::new(Exit::Temporary, message).next("make room, then start the node again: nothing is lost")
}

/// Why a node could not be started, as its operator is told.
pub(super) fn started(error: StartError, dir: &Path) -> Failure {
    let place = dir.display();
    match error {
        StartError::Removed { .. } => removed(error.to_string()),
        StartError::Storage(StorageError::Locked { .. }) => {
            Failure::new(Exit::Conflict, error.to_string()).next("stop the other process, or give another --data-dir")
        }
        StartError::Storage(StorageError::DiskFull { .. }) => disk_full(error.to_string()),
        StartError::Storage(StorageError::Io { .. }) => Failure::new(Exit::Failure, error.to_string())
            .next(format!("check that {place} exists and that this user may read and write it")),
        StartError::Storage(_) | StartError::Consensus(_) => quarantined(error.to_string()),
        StartError::NotEmpty => Failure::new(Exit::Conflict, format!("{place}: {error}"))
            .next("a node there is started with `chat-node run`; for a new cluster, give an empty directory"),
        StartError::NoIdentity => Failure::new(Exit::Refused, format!("{place}: {error}"))
            .next("give an empty directory, or clear this one if its set-up was broken off"),
        StartError::Lives { .. } => Failure::new(Exit::Refused, error.to_string())
            .next("nothing is lost: start the missing nodes, or add new ones with `chat-admin add-node`"),
        StartError::Unusable(_) => Failure::new(Exit::Refused, error.to_string())
            .next("give the data directory of a member that was in the cluster when it failed"),
        StartError::Backup(_) => Failure::new(Exit::Failure, error.to_string()).next("use another backup"),
        StartError::Contradiction { .. } => Failure::new(Exit::Configuration, error.to_string())
            .next("leave the flag out; a node keeps its name and zone for as long as it is a member"),
        StartError::Missing(_) => Failure::new(Exit::Usage, error.to_string()).next("see chat-node init --help"),
    }
}
