//! `chat-node run`: starts a node, serves it, and stops it in order.
//!
//! Starting: signals, then the port, then the node. Signals come first so that none kills a half-started node; the port
//! comes before the node because a node that nobody can reach must not take part in elections.
//!
//! Stopping: leadership is handed over while peers still answer, then clients are drained, then the process ends.
//! Nothing of this is needed for safety: a node that is killed at any moment loses no acknowledged write (P1). It
//! spares clients an election timeout.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::transport;

use super::{
    failure::{exit_failure, listen_failure, start_failure},
    signals::StopSignals,
};
use crate::{
    cli::{Exit, Failure, Result},
    config::NodeConfig,
    node::{self, Node, Settings},
    server::{connection_limit, incoming, listen, peer_routes, serve},
    types::Address,
};

/// Time for an orderly stop. Calls that are under way after that are cut off.
const STOP: Duration = Duration::from_millis(4_500);

/// Runs a node until a signal arrives or the node stops by itself. With `trust_this_disk` an operator takes the
/// responsibility for a disk that may have gone back in time.
pub async fn run(mut config: NodeConfig, trust_this_disk: bool) -> Result<()> {
    let mut signals = StopSignals::listen()
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot listen for signals: {error}")))?;
    // The bound on connections depends on how many files this process may open.
    config.grpc.connections = connection_limit(config.grpc.connections);
    let dir = config.data_dir.clone();
    let address = listening_address(&config).await?;
    let listener = listen(&address).await.map_err(listen_failure)?;
    let settings = Settings { trust_this_disk, ..Settings::production(config.clone()) };
    let node = Node::start(settings).await.map_err(|error| start_failure(error, &dir))?;
    log_start(&node, &listener, &address);
    let (stop, serving) = spawn_server(node.clone(), config, listener);
    let exit = tokio::select! {
        signal = signals.requested() => {
            tracing::info!(signal, "stopping");
            None
        }
        exit = node.exited() => Some(exit),
    };
    // Leadership first, while the peers still answer this node and are answered by it; then the clients' connections.
    let stopping = async move {
        node.stop().await;
        let _ = stop.send(());
        let _ = serving.await;
    };
    if tokio::time::timeout(STOP, stopping).await.is_err() {
        tracing::warn!("cut off what did not stop in time");
    }
    exit.map_or(Ok(()), |exit| Err(exit_failure(&exit)))
}

/// Serves `node` until the returned sender is used or dropped.
fn spawn_server(
    node: Node,
    config: NodeConfig,
    listener: TcpListener,
) -> (oneshot::Sender<()>, JoinHandle<std::result::Result<(), transport::Error>>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let shutdown = async {
            let _ = stopped.await;
        };
        let peers = peer_routes(&node);
        serve(node, &config, incoming(listener), peers, shutdown).await
    });
    (stop, serving)
}

fn log_start(node: &Node, listener: &TcpListener, address: &Address) {
    let local = listener.local_addr().ok().as_ref().map(SocketAddr::to_string).unwrap_or_default();
    tracing::info!(address = local, name = node.name(), version = node::VERSION, "listening");
    if node.membership().answered_by_id == 0 {
        let name = Some(node.name()).filter(|name| !name.is_empty()).unwrap_or_else(|| "NAME".into());
        tracing::info!("this node is empty: it waits to be added with `chat-admin add-node {name} {address}`");
    }
}

/// The address from the settings, or else the one that the node's identity remembers.
async fn listening_address(config: &NodeConfig) -> Result<Address> {
    if let Some(listen) = &config.listen {
        return Ok(listen.clone());
    }
    let identity = Node::identity_of(config).await.map_err(|error| start_failure(error, &config.data_dir))?;
    let listen = identity.and_then(|identity| identity.listen.parse().ok());
    listen.ok_or_else(|| Failure::new(Exit::Configuration, "no address to listen on").next("give --listen HOST:PORT"))
}
