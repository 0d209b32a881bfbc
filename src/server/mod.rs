//! Floor 5: the gRPC services of a node.
//!
//! A call is authenticated, validated, translated into a command or a query, handed to the [`Node`], and its outcome
//! translated back. Nothing is decided here: what a command means is the state machine's to say, whether it may be
//! agreed on is the node's.
//!
//! | file | what it is for |
//! |---|---|
//! | `desk` | what every call goes through: admission, metadata, the node, refusals, the index of the answer |
//! | `call` | metadata: session, deadline, consistency |
//! | `translate/` | requests into commands, outcomes into replies, every field checked; pure functions |
//! | `view` | what is asked of the state beside the queries of the API |
//! | `accounts`, `conversations`, `messages`, `cluster`, `admin` | the services |
//! | `events` | subscriptions |
//! | `passwords`, `sessions` | hashing at the edge; keeping forged sessions out of the log |
//! | `rates`, `buckets` | how often an account, and an address, may come |
//! | `program`, `recover` | what the commands of `chat-node` do |
//! | `listen`, `accept`, `files`, `signal` | the port; its connections; how many there is room for; when to stop |
//! | `calls`, `places` | how many calls may be under way, and how many from one address |
//! | `unreadable`, `health` | requests that never become a message; the health service |
//!
//! # What is bounded
//!
//! Connections, those that do not speak HTTP/2 by time; calls on a connection; calls under way, from the first byte of
//! each until its answer has left, bytes of pages on their way, and subscriptions, of all of which no address takes more
//! than its share; bytes of metadata and of a request, and how long it may take to arrive; passwords being hashed; requests by rate. What exceeds a bound is
//! refused at once, with OVERLOADED or RATE_LIMITED and a delay where repeating helps. Every call has a deadline, the
//! client's or five seconds.
//!
//! # What stays out
//!
//! No TLS and no authentication of operators: the port belongs on a network that only its operators and users reach.
//! The services between peers are given by the caller as `extra` routes.

mod accept;
mod accounts;
mod admin;
mod buckets;
mod call;
mod calls;
mod cluster;
mod conversations;
mod desk;
mod events;
mod files;
mod health;
mod join;
mod listen;
mod messages;
mod passwords;
mod places;
pub mod program;
mod rates;
pub mod recover;
mod sessions;
mod signal;
#[doc(hidden)]
pub mod testing;
mod translate;
mod unreadable;
mod view;

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

pub use listen::{incoming, listen};
pub use signal::StopSignals;

use self::{calls::BoundCalls, cluster::stopped, desk::Desk, places::Places};
use crate::{
    config::NodeConfig,
    node::Node,
    types::limits,
    wire::{
        self,
        admin::admin_service_server::AdminServiceServer,
        chat::{
            account_service_server::AccountServiceServer, conversation_service_server::ConversationServiceServer,
            event_service_server::EventServiceServer, message_service_server::MessageServiceServer,
        },
        cluster::cluster_service_server::ClusterServiceServer,
    },
};

/// A connection that a partition has eaten is found dead within these two together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes on their way per stream and per connection: enough to keep a fast link between peers busy.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// How often a change of quorum is looked for beside the changes that the node announces.
const QUORUM_LOOK: Duration = Duration::from_secs(1);

/// Serves `node` on the connections of `incoming`, together with the `extra` routes, until `shutdown`.
///
/// Then no connection is accepted any more, subscriptions end with SHUTTING_DOWN, calls under way have
/// `config.grpc.drain` to finish, and what is left is cut off. The node itself goes on: it is the caller's to stop.
///
/// # Errors
/// When the transport cannot be set up. What happens on a single connection ends only that connection.
pub async fn serve<IO>(
    node: Node,
    config: &NodeConfig,
    incoming: impl Stream<Item = io::Result<IO>>,
    extra: Routes,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (stop, stopping) = watch::channel(false);
    let (quorum, has_quorum) = watch::channel(node.membership().has_quorum);
    let (reporter, health) = tonic_health::server::health_reporter();
    let readiness = health::follow(reporter, node.readiness(), stopping.clone());
    let background = async {
        tokio::join!(readiness, follow_quorum(&node, quorum));
        std::future::pending::<()>().await;
    };
    let desk = Arc::new(Desk::new(node.clone(), config, stopping.clone(), has_quorum));
    let cut = CancellationToken::new();
    let connections = accept::bounded(incoming, config.grpc.connections, cut.clone());
    let places = Places::new(limits::CALLS + config.grpc.subscriptions);
    let server = transport().layer(BoundCalls(places)).layer(MapResponseLayer::new(unreadable::explain));
    let health = health.max_decoding_message_size(limits::REQUEST_BYTES);
    let routes = services(&desk, extra.add_service(health));
    let serving = server.serve_with_incoming_shutdown(routes, connections, async {
        shutdown.await;
        stop.send_replace(true);
    });
    let drained = async {
        stopped(&mut stopping.clone()).await;
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

fn services(desk: &Arc<Desk>, extra: Routes) -> Routes {
    macro_rules! bounded {
        ($server:ident, $service:path) => {
            $server::new($service(Arc::clone(desk)))
                .max_decoding_message_size(limits::REQUEST_BYTES)
                .max_encoding_message_size(limits::RPC_BYTES)
        };
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wire::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the build wrote these descriptors")
        .max_decoding_message_size(limits::REQUEST_BYTES);
    extra
        .add_service(reflection)
        .add_service(bounded!(AccountServiceServer, accounts::Accounts))
        .add_service(bounded!(ConversationServiceServer, conversations::Conversations))
        .add_service(bounded!(MessageServiceServer, messages::Messages))
        .add_service(bounded!(EventServiceServer, events::Events))
        .add_service(bounded!(ClusterServiceServer, cluster::Cluster))
        .add_service(bounded!(AdminServiceServer, admin::Admin))
        .prepare()
}

/// Keeps `quorum` up to date. Subscriptions share it, so that each need not ask for the whole membership.
async fn follow_quorum(node: &Node, quorum: watch::Sender<bool>) {
    let mut changes = node.membership_changes();
    loop {
        let now = node.membership().has_quorum;
        quorum.send_if_modified(|known| std::mem::replace(known, now) != now);
        // Silence is no proof: a quorum is also lost by not hearing from it.
        if let Ok(Err(_)) = timeout(QUORUM_LOOK, changes.changed()).await {
            return;
        }
    }
}
