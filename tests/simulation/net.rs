//! The simulated network, behind the product's own seams: what `serve` accepts and what a `Dialer` dials.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::stream;
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

/// Dials within the simulation.
pub fn dialer() -> Dialer {
    Dialer::new(|address| async move {
        let stream = TcpStream::connect(address).await?;
        Ok(Box::new(stream) as BoxedIo)
    })
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
