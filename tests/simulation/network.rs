//! The simulated network, behind the product's own seams: the listener that `serve` accepts from, and the `Dialer` that
//! clients and peers dial with.
//!
//! turmoil delays, cuts and holds links. It cannot end one TCP connection while both hosts and the link live; the
//! [`Connections`] here do that. turmoil's TCP does not retransmit: a cut can swallow an answer while the connection
//! stays open, and only the product's deadlines and keepalives notice.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use futures::{stream, task::AtomicWaker};
use quorate::wire::{BoxedIo, Dialer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use turmoil::net::{TcpListener, TcpStream};

/// The port on which every node listens.
pub const PORT: u16 = 7400;

/// One connection, seen from the node that accepted it.
pub struct Accepted(TcpStream);

/// Accepts the connections of `listener`, for ever.
pub fn incoming(listener: TcpListener) -> impl stream::Stream<Item = io::Result<Accepted>> {
    stream::unfold(listener, async |listener| {
        let accepted = listener.accept().await.map(|(stream, _)| Accepted(stream));
        Some((accepted, listener))
    })
}

/// All open connections, each of which the nemesis can reset.
///
/// Invariants: entries are in the order in which they were dialled, so that draws of the nemesis fall on the same
/// connections in every run of a seed. An entry does not keep its connection alive; closed ones leave at the next
/// reset.
#[derive(Default)]
pub struct Connections(Mutex<Vec<Weak<ResetFlag>>>);

/// Says that a connection was reset. Once set it stays set.
#[derive(Default)]
struct ResetFlag {
    is_reset: AtomicBool,
    /// The task that reads the connection. HTTP/2 reads all the time, so it learns of the reset at once.
    reader: AtomicWaker,
}

impl Connections {
    /// Returns a dialer whose connections are registered here.
    pub fn dialer(self: &Arc<Self>) -> Dialer {
        let connections = self.clone();
        Dialer::new(move |address| {
            let connections = connections.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                Ok(Box::new(Dialled { stream, flag: connections.register() }) as BoxedIo)
            }
        })
    }

    fn register(&self) -> Arc<ResetFlag> {
        let flag = Arc::new(ResetFlag::default());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&flag));
        flag
    }

    /// Resets every open connection for which `select` returns true. It is called once for each, oldest first.
    pub fn reset(&self, mut select: impl FnMut() -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|flag| {
            let Some(flag) = flag.upgrade() else { return false };
            let selected = select();
            if selected {
                flag.is_reset.store(true, Relaxed);
                flag.reader.wake();
            }
            !selected
        });
    }
}

/// One connection, seen from the side that dialled it.
struct Dialled {
    stream: TcpStream,
    flag: Arc<ResetFlag>,
}

impl Dialled {
    /// Fails every operation once the connection was reset.
    fn check(&self) -> io::Result<()> {
        if self.flag.is_reset.load(Relaxed) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Dialled {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.flag.reader.register(cx.waker());
        self.check()?;
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Dialled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
