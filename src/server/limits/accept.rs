//! Bounds on connections.
//!
//! A connection takes a permit when it is accepted, must send the HTTP/2 preface within [`PREFACE_TIMEOUT`], and is cut
//! when the server's drain is over. A connection beyond the bound is told why in HTTP/2 and closed.

use std::{
    any::Any,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::Semaphore,
    time::{Sleep, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};
use tracing::{debug, warn};

use super::{
    origin::Origin,
    quotas::{Full, Permit, Quota},
};
use crate::types::limits;

/// Time in which a new connection must send the preface. HTTP/2 keepalive, which finds dead connections, starts only
/// after that: a connection that never speaks would keep its permit for ever.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// Length of the connection preface (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;
/// Pause after a failed accept. When file descriptors run out, an immediate retry fails again and spins.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for a refused client to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The connections of `incoming`, at most `most` at a time. Cancelling `cut` ends all of them.
pub(in crate::server) fn bounded_connections<IO>(
    incoming: impl Stream<Item = io::Result<IO>>,
    most: usize,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Connection<IO>>>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let quota = Quota::new(most);
    let refusals = Arc::new(Semaphore::new(limits::REFUSALS));
    incoming.filter_map(move |accepted| {
        let (quota, refusals, cut) = (quota.clone(), Arc::clone(&refusals), cut.clone());
        async move {
            match accepted.map(|io| (quota.take(origin(&io)), io)) {
                Ok((Ok(permit), io)) => Some(Ok(Connection::new(io, permit, cut))),
                Ok((Err(full), io)) => {
                    debug!(%full, "connection refused");
                    if let Ok(turn) = refusals.try_acquire_owned() {
                        tokio::spawn(async move {
                            let _ = timeout(REFUSAL_TIMEOUT, refuse(io, full)).await;
                            drop(turn);
                        });
                    }
                    None
                }
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    None
                }
            }
        }
    })
}

/// The peer's address; `None` for a connection that has none, such as one in memory.
fn origin<IO: Connected>(io: &IO) -> Option<Origin> {
    let info = io.connect_info();
    let address = (&info as &dyn Any).downcast_ref::<TcpConnectInfo>()?.remote_addr()?;
    Some(Origin::of(address.ip()))
}

/// Sends the reason and waits until the client closes. Closing first, while the client's bytes are still unread, would
/// make TCP send a reset, and the client would lose the reason.
async fn refuse<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO, full: Full) -> io::Result<()> {
    io.write_all(&farewell(&format!("the node takes no more connections: {full}"))).await?;
    io.shutdown().await?;
    let mut ignored = [0; 1024];
    while io.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// An empty SETTINGS frame, and a GOAWAY frame with ENHANCE_YOUR_CALM and the reason as its debug data (RFC 9113,
/// sections 6.5 and 6.8). gRPC libraries report it as RESOURCE_EXHAUSTED.
fn farewell(why: &str) -> Vec<u8> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const ENHANCE_YOUR_CALM: u8 = 0xb;
    let length = 8 + why.len() as u32;
    let mut frames = SETTINGS.to_vec();
    frames.extend_from_slice(&length.to_be_bytes()[1..]);
    frames.extend_from_slice(&[7, 0, 0, 0, 0, 0]);
    frames.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, ENHANCE_YOUR_CALM]);
    frames.extend_from_slice(why.as_bytes());
    frames
}

/// A connection with its permit.
///
/// `preface` is there until the client has sent the whole preface; while it is, a read that waits ends with a timeout.
/// Every read ends with an error once the connection is cut; HTTP/2 always has a read waiting, so that ends it.
pub(in crate::server) struct Connection<IO> {
    io: IO,
    _permit: Permit,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    preface: Option<Preface>,
}

/// How many bytes of the preface are missing, and their deadline.
struct Preface {
    missing: usize,
    timer: Pin<Box<Sleep>>,
}

impl<IO> Connection<IO> {
    fn new(io: IO, permit: Permit, cut: CancellationToken) -> Self {
        let preface = Some(Preface { missing: PREFACE_BYTES, timer: Box::pin(sleep(PREFACE_TIMEOUT)) });
        Self { io, _permit: permit, cut: Box::pin(cut.cancelled_owned()), preface }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Connection<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        let Some(preface) = &mut self.preface else { return read };
        if read.is_pending() {
            return preface.timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        preface.missing = preface.missing.saturating_sub(buffer.filled().len() - before);
        if preface.missing == 0 {
            self.preface = None;
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Connection<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl<IO: Connected> Connected for Connection<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn some(count: usize) -> (Vec<DuplexStream>, impl Stream<Item = io::Result<DuplexStream>>) {
        let (ours, theirs): (Vec<_>, Vec<_>) = (0..count).map(|_| duplex(64)).unzip();
        (ours, stream::iter(theirs.into_iter().map(Ok)))
    }

    #[tokio::test]
    async fn one_connection_too_many_is_told_so_and_closed() {
        let (mut clients, incoming) = some(3);
        let served: Vec<_> = bounded_connections(incoming, 2, CancellationToken::new()).collect().await;
        assert_eq!(served.len(), 2);
        let mut heard = Vec::new();
        clients[2].read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, farewell("the node takes no more connections: all 2 places are taken"));
    }

    #[tokio::test]
    async fn no_more_than_the_limit_are_told_at_once() {
        let (mut clients, incoming) = some(limits::REFUSALS + 2);
        let served: Vec<_> = bounded_connections(incoming, 1, CancellationToken::new()).collect().await;
        assert_eq!(served.len(), 1);
        let mut heard = Vec::new();
        clients.last_mut().unwrap().read_to_end(&mut heard).await.unwrap();
        assert!(heard.is_empty(), "the last is closed without a word");
    }

    #[tokio::test]
    async fn a_closed_connection_gives_its_permit_to_the_next() {
        let (_clients, incoming) = some(3);
        let mut served = std::pin::pin!(bounded_connections(incoming, 1, CancellationToken::new()));
        for _ in 0..3 {
            assert!(served.next().await.is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_begin_as_http_2_does_is_closed_and_one_that_did_is_not() {
        let (mut clients, incoming) = some(3);
        let mut served: Vec<_> = bounded_connections(incoming, 3, CancellationToken::new()).collect().await;
        let mut next = || served.remove(0).unwrap();
        let (mut silent, mut slow, mut spoken) = (next(), next(), next());
        clients[1].write_all(b"PRI * HTTP/2.0\r\n\r\nSM").await.unwrap();
        clients[2].write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut buffer = [0; PREFACE_BYTES];
        assert_eq!(slow.read(&mut buffer).await.unwrap(), PREFACE_BYTES - 4);
        assert_eq!(spoken.read(&mut buffer).await.unwrap(), PREFACE_BYTES);
        assert_eq!(silent.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(slow.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let later = tokio::time::timeout(PREFACE_TIMEOUT * 10, spoken.read(&mut buffer));
        assert!(later.await.is_err(), "still open and waiting");
    }

    #[tokio::test]
    async fn all_are_cut_when_the_drain_is_over() {
        let cut = CancellationToken::new();
        let (_clients, incoming) = some(1);
        let mut served: Vec<_> = bounded_connections(incoming, 1, cut.clone()).collect().await;
        let mut connection = served.pop().unwrap().unwrap();
        let reading = tokio::spawn(async move { connection.read(&mut [0; 1]).await });
        cut.cancel();
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_accept_does_not_end_the_stream() {
        let (_client, io) = duplex(64);
        let incoming = stream::iter([Err(io::Error::other("too many open files")), Ok(io)]);
        let served: Vec<_> = bounded_connections(incoming, 1, CancellationToken::new()).collect().await;
        assert_eq!(served.len(), 1);
    }
}
