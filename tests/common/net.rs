//! The network between nodes and clients, with links that can be cut one way or both ways.
//!
//! A cut eats what is sent, as a cable that was pulled does: dialling hangs, bytes on an open connection are held back,
//! and nobody is told. What heals goes on where it stood, unless keepalive has given the connection up meanwhile.

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

/// Where a connection begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
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
    places: BTreeMap<String, Place>,
    cut: BTreeSet<(Place, Place)>,
    /// Links that are cut when so many more bytes have gone over them.
    budgets: BTreeMap<(Place, Place), usize>,
    /// Ways on which no connection is let through, as a firewall does it.
    refused: BTreeSet<(Place, Place)>,
    held: Vec<Waker>,
}

impl Network {
    pub fn new() -> Self {
        Self(Arc::new(Shared { table: Mutex::default(), changes: watch::Sender::new(0) }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells who listens at an address.
    pub fn place(&self, address: &str, place: Place) {
        self.table().places.insert(address.to_owned(), place);
    }

    /// Nothing goes from `from` to `to` any more; the other way is as it was.
    pub fn cut_one_way(&self, from: Place, to: Place) {
        self.table().cut.insert((from, to));
        self.changed();
    }

    /// Nothing goes between the two any more.
    pub fn cut(&self, a: Place, b: Place) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Cuts the way from `from` to `to` when so many more bytes have gone over it: in the middle of what is sent.
    pub fn cut_after(&self, from: Place, to: Place, bytes: usize) {
        self.table().budgets.insert((from, to), bytes);
    }

    /// Refuses whatever connection `from` begins to `to` from now on; those that `to` begins are let through.
    pub fn refuse(&self, from: Place, to: Place) {
        self.table().refused.insert((from, to));
    }

    /// Whether nothing goes from `from` to `to`.
    pub fn is_cut(&self, from: Place, to: Place) -> bool {
        !self.passes(from, to)
    }

    fn spend(&self, from: Place, to: Place, bytes: usize) {
        let mut table = self.table();
        let Some(left) = table.budgets.get_mut(&(from, to)) else { return };
        *left = left.saturating_sub(bytes);
        if *left == 0 {
            table.budgets.remove(&(from, to));
            table.cut.insert((from, to));
        }
    }

    /// This link is whole again, both ways.
    pub fn mend(&self, a: Place, b: Place) {
        let mut table = self.table();
        table.cut.remove(&(a, b));
        table.cut.remove(&(b, a));
        table.budgets.retain(|link, _| *link != (a, b) && *link != (b, a));
        drop(table);
        self.changed();
    }

    /// All links are whole again.
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

    fn passes(&self, from: Place, to: Place) -> bool {
        !self.table().cut.contains(&(from, to))
    }

    /// Whether bytes pass; if not, `context` is woken when that may have changed.
    fn poll_passes(&self, from: Place, to: Place, context: &Context<'_>) -> bool {
        let mut table = self.table();
        let passes = !table.cut.contains(&(from, to));
        if !passes {
            table.held.push(context.waker().clone());
        }
        passes
    }

    /// How `from` dials.
    pub fn dialer(&self, from: Place) -> Dialer {
        let network = self.clone();
        Dialer::new(move |address| {
            let network = network.clone();
            async move {
                let to = network.table().places.get(&address).copied();
                // Somebody who is no part of the cluster is reached as the machine reaches it.
                let Some(to) = to else { return Ok(Box::new(TcpStream::connect(address).await?) as BoxedIo) };
                if network.table().refused.contains(&(from, to)) {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                let mut changes = network.0.changes.subscribe();
                // The packets that open a connection are repeated until they get through.
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

/// One connection, seen from the side that dialled.
struct Link {
    stream: TcpStream,
    network: Network,
    from: Place,
    to: Place,
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
