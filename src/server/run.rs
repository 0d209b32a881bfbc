//! A node from its first connection to its last.

use tokio::sync::oneshot;
use tonic::service::Routes;
use tracing::info;

use super::{incoming, join::Join, listen, serve, stop_requested};
use crate::{
    node::{Exit, Node},
    types::limits,
    wire::{
        Fault, Reason,
        raft::{join_service_server::JoinServiceServer, raft_service_server::RaftServiceServer},
    },
};

/// Why a node serves no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The operating system asked the process to stop.
    Asked,
    /// The node stopped by itself.
    ByItself(Exit),
}

/// Serves `node` on its address, until a signal or the node's own end; then hands leadership over, lets calls under way
/// finish, and stops the node. Bounded by 5 seconds.
///
/// # Errors
/// INVALID_ARGUMENT, naming `listen`: there is no such address, or it is in use. INTERNAL: the transport failed.
pub async fn run(node: Node) -> Result<Ended, Fault> {
    let address = node.listen().ok_or_else(|| Fault::invalid("listen", "this node has no address to listen on"));
    let address = address.map_err(|fault| fault.next("give --listen HOST:PORT"))?;
    let address = address.parse().map_err(|error| Fault::invalid("listen", format!("{error}")))?;
    let listener = listen(&address).await?;
    info!(node = node.name(), %address, "serving");
    let (tell, told) = oneshot::channel();
    let stopped = async {
        let ended = ended(&node).await;
        // While peers and clients are still served, so that the cluster goes on without a pause.
        node.stop().await;
        // Nobody listens only if serving has failed.
        let _ = tell.send(ended);
    };
    let config = node.settings().config.clone();
    let served = serve(node.clone(), &config, incoming(listener), peers(&node), stopped).await;
    served.map_err(|error| Fault::new(Reason::Internal, format!("serving failed: {error}")))?;
    told.await.map_err(|_| Fault::new(Reason::Internal, "the node ended without saying why"))?
}

async fn ended(node: &Node) -> Result<Ended, Fault> {
    tokio::select! {
        exit = node.exited() => Ok(Ended::ByItself(exit)),
        signal = stop_requested() => {
            let signal = signal
                .map_err(|error| Fault::new(Reason::Internal, format!("cannot listen for signals: {error}")))?;
            info!(signal, "stopping");
            Ok(Ended::Asked)
        }
    }
}

/// The services between nodes.
pub fn peers(node: &Node) -> Routes {
    let raft = RaftServiceServer::new(node.peer_service())
        .max_decoding_message_size(limits::PEER_RPC_BYTES)
        .max_encoding_message_size(limits::PEER_RPC_BYTES);
    Routes::new(raft).add_service(JoinServiceServer::new(Join(node.clone())))
}
