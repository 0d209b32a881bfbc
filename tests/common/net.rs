//! The network between nodes and clients, with links that can be cut one way or both ways.
//!
//! A cut link behaves like a pulled cable: dialling hangs, bytes on open connections are held back, and neither side
//! gets an error. A link that heals continues where it was, unless keepalive has closed the connection in the meantime.
//! Dialling is intercepted on the side that dials, so it works without root and on any system.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use quorate::wire::{BoxedIo, Dialer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
};

/// An end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// A node, by its number from 1.
    Node(usize),
    /// All clients.
    Clients,
}

/// The network of one cluster. Cheap to clone.
#[derive(Clone)]
pub struct Network(Arc<Shared>);

struct Shared {
    table: Mutex<Table>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Table {
    /// Who listens at each address.
    endpoints: BTreeMap<String, Endpoint>,
    /// Links that are cut, each in one direction: from, to.
    cut: BTreeSet<(Endpoint, Endpoint)>,
    /// Links that will be cut, and how many more bytes may pass before.
    budgets: BTreeMap<(Endpoint, Endpoint), usize>,
    /// Links on which new connections are refused, as by a firewall.
    refused: BTreeSet<(Endpoint, Endpoint)>,
    /// Tasks that wait for a link to heal.
    held: Vec<Waker>,
}

impl Network {
    pub fn new() -> Self {
        Self(Arc::new(Shared { table: Mutex::default(), changes: watch::Sender::new(0) }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers who listens at an address.
    pub fn register(&self, address: &str, endpoint: Endpoint) {
        self.table().endpoints.insert(address.to_owned(), endpoint);
    }

    /// Cuts the link from `from` to `to`. The other direction stays as it is.
    pub fn cut_one_way(&self, from: Endpoint, to: Endpoint) {
        self.table().cut.insert((from, to));
        self.changed();
    }

    /// Cuts the link between two endpoints, both ways.
    pub fn cut(&self, a: Endpoint, b: Endpoint) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Cuts the link from `from` to `to` once `bytes` more bytes have passed, which may be in the middle of a message.
    pub fn cut_after(&self, from: Endpoint, to: Endpoint, bytes: usize) {
        self.table().budgets.insert((from, to), bytes);
    }

    /// Refuses new connections from `from` to `to`. The other direction stays as it is.
    pub fn refuse(&self, from: Endpoint, to: Endpoint) {
        self.table().refused.insert((from, to));
    }

    /// Whether the link from `from` to `to` is cut.
    pub fn is_cut(&self, from: Endpoint, to: Endpoint) -> bool {
        !self.passes(from, to)
    }

    fn spend(&self, from: Endpoint, to: Endpoint, bytes: usize) {
        let mut table = self.table();
        let Some(left) = table.budgets.get_mut(&(from, to)) else { return };
        *left = left.saturating_sub(bytes);
        if *left == 0 {
            table.budgets.remove(&(from, to));
            table.cut.insert((from, to));
        }
    }

    /// Restores all links.
    pub fn heal(&self) {
        let mut table = self.table();
        table.cut.clear();
        table.budgets.clear();
        table.refused.clear();
        drop(table);
        self.changed();
    }

    fn changed(&self) {
        for waker in std::mem::take(&mut self.table().held) {
            waker.wake();
        }
        self.0.changes.send_modify(|version| *version += 1);
    }

    fn passes(&self, from: Endpoint, to: Endpoint) -> bool {
        !self.table().cut.contains(&(from, to))
    }

    /// Whether bytes pass. If not, wakes `context` when that may have changed.
    fn poll_passes(&self, from: Endpoint, to: Endpoint, context: &Context<'_>) -> bool {
        let mut table = self.table();
        let passes = !table.cut.contains(&(from, to));
        if !passes {
            table.held.push(context.waker().clone());
        }
        passes
    }

    /// The dialer that `from` uses.
    pub fn dialer(&self, from: Endpoint) -> Dialer {
        let network = self.clone();
        Dialer::new(move |address| {
            let network = network.clone();
            async move {
                let to = network.table().endpoints.get(&address).copied();
                // An address outside the cluster is dialled directly.
                let Some(to) = to else { return Ok(Box::new(TcpStream::connect(address).await?) as BoxedIo) };
                if network.table().refused.contains(&(from, to)) {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                let mut changes = network.0.changes.subscribe();
                // TCP repeats the packets that open a connection until they get through.
                while !(network.passes(from, to) && network.passes(to, from)) {
                    changes.changed().await.map_err(io::Error::other)?;
                }
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(Link { stream, network, from, to }) as BoxedIo)
            }
        })
    }
}

/// One connection, on the side that dialled.
struct Link {
    stream: TcpStream,
    network: Network,
    from: Endpoint,
    to: Endpoint,
}

impl AsyncRead for Link {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.network.poll_passes(self.to, self.from, cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.network.poll_passes(self.from, self.to, cx) {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.network.spend(self.from, self.to, count);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
