//! The TCP port that a node serves on.

use std::{io, net::SocketAddr};

use futures::{Stream, StreamExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio_stream::wrappers::TcpListenerStream;

use crate::{
    types::{Address, limits},
    wire::Fault,
};

/// Why a node cannot listen on its address.
#[derive(Debug)]
pub struct ListenError {
    /// INVALID_ARGUMENT for the field `listen`.
    pub fault: Fault,
    /// Whether it may pass without a change of settings: another process holds the address, or the name does not
    /// resolve now. A supervisor should then start the node again.
    pub is_temporary: bool,
}

/// Listens on `address`.
///
/// # Errors
/// The address is in use, belongs to another machine, or needs more rights, or its name does not resolve.
pub async fn listen(address: &Address) -> Result<TcpListener, ListenError> {
    let failed = |error: io::Error, next: &str, is_temporary| ListenError {
        fault: Fault::invalid("listen", format!("cannot listen on {address}: {error}")).next(next),
        is_temporary,
    };
    let resolved = lookup_host(address.as_str()).await.map_err(|error| {
        failed(error, "check the name given with --listen, and that this machine can resolve it", true)
    })?;
    bind(resolved).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            failed(error, "stop the process that uses the address, or give another --listen", true)
        }
        io::ErrorKind::PermissionDenied => {
            failed(error, "give a port from 1024, or run with the right to use this one", false)
        }
        _ => failed(error, "give --listen an address of this machine", false),
    })
}

/// Listens on the first address that works.
fn bind(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for address in addresses {
        match queueing(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Listens with a queue longer than the 128 connections of `TcpListener::bind`. When a leader dies, all its clients
/// come to the other nodes at once. A client that finds the queue full repeats its SYN after a second; one that was
/// answered with a SYN cookie and waits for the server to speak first waits for ever.
fn queueing(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(limits::CONNECTIONS_QUEUED)
}

/// The connections of `listener`, with Nagle's algorithm off: it would delay a small reply until the client
/// acknowledges the one before.
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
    async fn many_that_come_at_once_are_queued_before_any_is_accepted() {
        let listener = queueing(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        // The kernel caps the queue.
        let most = fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|text| text.trim().parse().ok());
        let many = most.unwrap_or(128).min(400);
        let coming = join_all((0..many).map(|_| TcpStream::connect(address)));
        // A client that the queue has no room for repeats its SYN after one second.
        let come = tokio::time::timeout(Duration::from_millis(900), coming).await.expect("all are queued");
        assert!(come.iter().all(Result::is_ok));
        for _ in 0..many {
            listener.accept().await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_address_of_another_machine_does_not_pass_by_itself() {
        // TEST-NET-1 of RFC 5737 belongs to no machine.
        let error = listen(&"192.0.2.1:7400".parse().unwrap()).await.unwrap_err();
        assert!(!error.is_temporary, "{error:?}");
    }

    #[tokio::test]
    async fn an_address_in_use_is_a_named_error() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string().parse().unwrap();
        let ListenError { fault, is_temporary } = listen(&address).await.unwrap_err();
        assert!(is_temporary, "the other process may go");
        assert_eq!(fault.field.as_deref(), Some("listen"));
        assert!(fault.message.contains(address.as_str()) && fault.next.unwrap().contains("another --listen"));
    }
}
