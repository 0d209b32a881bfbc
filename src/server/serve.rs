//! The HTTP/2 server: its transport settings, its background tasks and its end.
//!
//! A request passes, from the outside in: the bound on connections, HTTP/2 with its own bounds, the bound on calls, the
//! layer that gives reasons to undecodable requests, and the service.

use std::{future::Future, io, sync::Arc, time::Duration};

use futures::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Server, server::Connected},
};
use tower::util::MapResponseLayer;

use super::{
    decode_errors,
    limits::{BoundCalls, Quota, bounded_connections},
    services::{self, ServiceContext, health},
    shutdown::Shutdown,
};
use crate::{config::NodeConfig, node::Node, types::limits};

/// HTTP/2 keepalive: a connection that a network partition has cut is detected within interval plus timeout.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 flow-control windows in bytes, large enough to keep a fast link between peers busy.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Poll interval for the loss of the quorum, which no event announces.
const QUORUM_POLL: Duration = Duration::from_secs(1);

/// Serves `node` and the `peers` routes on the connections of `incoming`, until `shutdown` completes.
///
/// After that it accepts no connection, ends subscriptions with SHUTTING_DOWN, gives calls in progress
/// `config.grpc.drain` to finish, and then cuts all connections. It does not stop the node: the caller does.
///
/// # Errors
/// When the transport cannot be set up. An error on one connection ends only that connection.
pub async fn serve<IO>(
    node: Node,
    config: &NodeConfig,
    incoming: impl Stream<Item = io::Result<IO>>,
    peers: Routes,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (stop, stopping) = Shutdown::channel();
    let (quorum, has_quorum) = watch::channel(node.membership().has_quorum);
    let (reporter, health) = tonic_health::server::health_reporter();
    let readiness = health::follow(reporter, node.readiness(), stopping.clone());
    // Runs beside the server and never completes: without these tasks only health and quorum would be out of date.
    let background = async {
        tokio::join!(readiness, follow_quorum(&node, quorum));
        std::future::pending::<()>().await;
    };
    let context = Arc::new(ServiceContext::new(node.clone(), config, stopping.clone(), has_quorum));
    let cut = CancellationToken::new();
    let connections = bounded_connections(incoming, config.grpc.connections, cut.clone());
    // A subscription counts as a call too, and has a quota of its own besides.
    let calls = Quota::new(limits::CALLS + config.grpc.subscriptions);
    let server = transport().layer(BoundCalls(calls)).layer(MapResponseLayer::new(decode_errors::explain));
    let health = health.max_decoding_message_size(limits::REQUEST_BYTES);
    let routes = services::routes(&context, peers.add_service(health));
    let serving = server.serve_with_incoming_shutdown(routes, connections, async {
        shutdown.await;
        stop.send();
    });
    // The server ends when its last connection has closed. This cuts the connections that clients keep open.
    let drained = async {
        stopping.clone().requested().await;
        sleep(config.grpc.drain).await;
        cut.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = serving => served,
        () = background => Ok(()),
        () = drained => Ok(()),
    }
}

fn transport() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .http2_max_pending_accept_reset_streams(Some(limits::STREAMS_RESET_EARLY))
        .http2_max_local_error_reset_streams(Some(limits::STREAMS_RESET_BY_US))
        .http2_max_header_list_size(limits::METADATA_BYTES)
}

/// Keeps `quorum` up to date. All subscriptions share it, because asking for the whole membership costs more.
async fn follow_quorum(node: &Node, quorum: watch::Sender<bool>) {
    let mut changes = node.membership_changes();
    loop {
        let now = node.membership().has_quorum;
        quorum.send_if_modified(|known| std::mem::replace(known, now) != now);
        // A quorum is also lost when voters fall silent, which changes nothing in the membership.
        if let Ok(Err(_)) = timeout(QUORUM_POLL, changes.changed()).await {
            return;
        }
    }
}
