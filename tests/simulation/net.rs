//! The simulated network, behind the product's own seams: what `serve` accepts and what a `Dialer` dials.

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

/// The port of every node.
pub const PORT: u16 = 7400;

pub struct Connection(TcpStream);

/// The connections of `listener`.
pub fn incoming(listener: TcpListener) -> impl stream::Stream<Item = io::Result<Connection>> {
    stream::unfold(listener, async |listener| {
        let accepted = listener.accept().await.map(|(stream, _)| Connection(stream));
        Some((accepted, listener))
    })
}

/// All connections that were dialled, each of which can be lost while both its ends live and the link is whole.
#[derive(Default)]
pub struct Wires(Mutex<Vec<Weak<Fuse>>>);

#[derive(Default)]
struct Fuse {
    blown: AtomicBool,
    reader: AtomicWaker,
}

impl Wires {
    /// Dials within the simulation.
    pub fn dialer(self: &Arc<Self>) -> Dialer {
        let wires = self.clone();
        Dialer::new(move |address| {
            let wires = wires.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                Ok(Box::new(Wire { stream, fuse: wires.lay() }) as BoxedIo)
            }
        })
    }

    fn lay(&self) -> Arc<Fuse> {
        let fuse = Arc::new(Fuse::default());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&fuse));
        fuse
    }

    /// Loses every connection of which `is_lost` says so.
    pub fn lose(&self, mut is_lost: impl FnMut() -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|fuse| {
            let Some(fuse) = fuse.upgrade() else { return false };
            let lost = is_lost();
            if lost {
                fuse.blown.store(true, Relaxed);
                fuse.reader.wake();
            }
            !lost
        });
    }
}

/// One connection, seen from the side that dialled. An HTTP/2 connection always reads: so it learns of its loss there.
struct Wire {
    stream: TcpStream,
    fuse: Arc<Fuse>,
}

impl Wire {
    fn check(&self) -> io::Result<()> {
        if self.fuse.blown.load(Relaxed) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.fuse.reader.register(cx.waker());
        self.check()?;
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Wire {
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

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Connection {
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
