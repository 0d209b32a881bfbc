//! How connections are made: one seam for peers, clients and tests.

use std::{fmt, future::Future, io, pin::Pin, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tonic::transport::{Channel, Endpoint, Uri};

use super::Address;

/// A byte stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Any byte stream.
pub type BoxedIo = Box<dyn Io>;

type Connect = dyn Fn(String) -> Connecting + Send + Sync;
type Connecting = Pin<Box<dyn Future<Output = io::Result<BoxedIo>> + Send>>;

/// The purpose of a connection, which decides its buffers and timeouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Calls of users and operators.
    Client,
    /// Log entries, votes and heartbeats between replicas.
    Peer,
    /// Snapshots between replicas. They have their own connection, so that bulk data never delays a heartbeat.
    Bulk,
}

/// Makes connections. Production dials TCP; a test passes its own network. Cheap to clone.
#[derive(Clone)]
pub struct Dialer(Arc<Connect>);

impl Dialer {
    /// Dials TCP, with Nagle's algorithm off: calls are small and wait for answers.
    pub fn tcp() -> Self {
        Self::new(|address| async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxedIo)
        })
    }

    /// Dials by calling `connect` with `host:port`.
    pub fn new<F>(connect: impl Fn(String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<BoxedIo>> + Send + 'static,
    {
        Self(Arc::new(move |address| Box::pin(connect(address))))
    }

    /// A channel to `address`. It connects when it is first used, and again after the connection has broken.
    pub fn channel(&self, address: &Address, profile: Profile) -> Channel {
        let dial = self.0.clone();
        let connector = tower::service_fn(move |uri: Uri| {
            let address = uri.authority().map(ToString::to_string).unwrap_or_default();
            let connecting = dial(address);
            async move { connecting.await.map(TokioIo::new) }
        });
        endpoint(address, profile).connect_with_connector_lazy(connector)
    }
}

fn endpoint(address: &Address, profile: Profile) -> Endpoint {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .expect("a checked host:port makes a URI")
        .connect_timeout(Duration::from_secs(2))
        // In a partition packets vanish while the connection looks open. Only keepalive ends such a connection.
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_while_idle(true);
    match profile {
        Profile::Client => endpoint.keep_alive_timeout(Duration::from_secs(2)),
        Profile::Peer | Profile::Bulk => endpoint
            .keep_alive_timeout(Duration::from_secs(1))
            .initial_stream_window_size(4 * 1024 * 1024)
            .initial_connection_window_size(8 * 1024 * 1024),
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialer")
    }
}
