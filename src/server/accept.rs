//! Connections: bounded in number, timed until they speak, and cut off when the node must stop.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;
use tracing::{debug, warn};

/// How long a new connection may be silent. One that never speaks would hold its place for ever.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// Pause after an accept that failed, as it does when file descriptors run out: trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections of `incoming`, `most` at a time; one more is closed at once. All are cut off when `cut` is called.
pub(super) fn bounded<IO>(
    incoming: impl Stream<Item = io::Result<IO>>,
    most: usize,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Connection<IO>>> {
    let places = Arc::new(Semaphore::new(most));
    incoming.filter_map(move |accepted| {
        let (places, cut) = (Arc::clone(&places), cut.clone());
        async move {
            match (accepted, places.try_acquire_owned()) {
                (Ok(io), Ok(place)) => Some(Ok(Connection::new(io, place, cut))),
                (Ok(_), Err(_)) => {
                    debug!(most, "connection refused: all places are taken");
                    None
                }
                (Err(error), _) => {
                    warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    None
                }
            }
        }
    })
}

/// A connection that holds one of the places.
pub(super) struct Connection<IO> {
    io: IO,
    _place: OwnedSemaphorePermit,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    silence: Option<Pin<Box<Sleep>>>,
}

impl<IO> Connection<IO> {
    fn new(io: IO, place: OwnedSemaphorePermit, cut: CancellationToken) -> Self {
        let silence = Some(Box::pin(sleep(FIRST_BYTE)));
        Self { io, _place: place, cut: Box::pin(cut.cancelled_owned()), silence }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Connection<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if read.is_ready() {
            self.silence = None;
        } else if let Some(silence) = &mut self.silence {
            return silence.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()));
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
    async fn one_connection_too_many_is_closed() {
        let (mut clients, incoming) = some(3);
        let served: Vec<_> = bounded(incoming, 2, CancellationToken::new()).collect().await;
        assert_eq!(served.len(), 2);
        assert_eq!(clients[2].read(&mut [0; 1]).await.unwrap(), 0, "the third sees its end");
    }

    #[tokio::test]
    async fn a_closed_connection_gives_its_place_to_the_next() {
        let (_clients, incoming) = some(3);
        let mut served = std::pin::pin!(bounded(incoming, 1, CancellationToken::new()));
        for _ in 0..3 {
            assert!(served.next().await.is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_never_speaks_is_closed_and_one_that_spoke_is_not() {
        let (mut clients, incoming) = some(2);
        let mut served: Vec<_> = bounded(incoming, 2, CancellationToken::new()).collect().await;
        let mut spoken = served.pop().unwrap().unwrap();
        let mut silent = served.pop().unwrap().unwrap();
        clients[1].write_all(b"x").await.unwrap();
        assert_eq!(spoken.read(&mut [0; 1]).await.unwrap(), 1);
        assert_eq!(silent.read(&mut [0; 1]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let mut buffer = [0; 1];
        let later = tokio::time::timeout(FIRST_BYTE * 10, spoken.read(&mut buffer));
        assert!(later.await.is_err(), "still open and waiting");
    }

    #[tokio::test]
    async fn all_are_cut_off_when_the_node_must_stop() {
        let cut = CancellationToken::new();
        let (_clients, incoming) = some(1);
        let mut served: Vec<_> = bounded(incoming, 1, cut.clone()).collect().await;
        let mut connection = served.pop().unwrap().unwrap();
        let reading = tokio::spawn(async move { connection.read(&mut [0; 1]).await });
        cut.cancel();
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test(start_paused = true)]
    async fn an_accept_that_fails_does_not_end_the_listening() {
        let (_client, io) = duplex(64);
        let incoming = stream::iter([Err(io::Error::other("too many open files")), Ok(io)]);
        let served: Vec<_> = bounded(incoming, 1, CancellationToken::new()).collect().await;
        assert_eq!(served.len(), 1);
    }
}
