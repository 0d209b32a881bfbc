//! The port that a node serves on.

use std::{io, net::SocketAddr};

use futures::{Stream, StreamExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio_stream::wrappers::TcpListenerStream;

use crate::{
    types::{Address, limits},
    wire::Fault,
};

/// Listens on `address`.
///
/// # Errors
/// INVALID_ARGUMENT, naming `listen`: the address is in use, is not this machine's, or may not be used.
pub async fn listen(address: &Address) -> Result<TcpListener, Fault> {
    bind(address).await.map_err(|error| {
        let fault = Fault::invalid("listen", format!("cannot listen on {address}: {error}"));
        fault.next(match error.kind() {
            io::ErrorKind::AddrInUse => "stop the process that uses the address, or give another --listen",
            io::ErrorKind::PermissionDenied => "give a port from 1024, or run with the right to use this one",
            _ => "give --listen an address of this machine",
        })
    })
}

/// The first of the addresses that the name stands for which can be listened on.
async fn bind(address: &Address) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name stands for no address");
    for resolved in lookup_host(address.as_str()).await? {
        match queueing(resolved) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Not by `TcpListener::bind`, whose queue holds 128 connections: when a leader dies all its clients come at once, and
/// whoever finds the queue full waits for a second or, if it has been sent a SYN cookie and says nothing, for ever.
fn queueing(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(limits::CONNECTIONS_QUEUED)
}

/// The connections of `listener`, with Nagle's algorithm off: replies must not wait for more.
pub fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
    TcpListenerStream::new(listener).map(|accepted| {
        let stream = accepted?;
        stream.set_nodelay(true)?;
        Ok(stream)
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn many_that_come_at_once_find_room_though_nobody_is_let_in_yet() {
        let listener = queueing(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        // What the system allows.
        let most = fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|text| text.trim().parse().ok());
        let many = most.unwrap_or(128).min(400);
        let coming = join_all((0..many).map(|_| TcpStream::connect(address)));
        // One that finds no room is told to come again after a second.
        let come = tokio::time::timeout(Duration::from_millis(900), coming).await.expect("all have found room");
        assert!(come.iter().all(Result::is_ok));
        for _ in 0..many {
            listener.accept().await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_address_in_use_is_a_named_error() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string().parse().unwrap();
        let fault = listen(&address).await.unwrap_err();
        assert_eq!(fault.field.as_deref(), Some("listen"));
        assert!(fault.message.contains(address.as_str()) && fault.next.unwrap().contains("another --listen"));
    }
}
