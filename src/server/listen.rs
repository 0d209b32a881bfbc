//! The port that a node serves on.

use std::io;

use futures::{Stream, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;

use crate::{types::Address, wire::Fault};

/// Listens on `address`.
///
/// # Errors
/// INVALID_ARGUMENT, naming `listen`: the address is in use, is not this machine's, or may not be used.
pub async fn listen(address: &Address) -> Result<TcpListener, Fault> {
    TcpListener::bind(address.as_str()).await.map_err(|error| {
        let fault = Fault::invalid("listen", format!("cannot listen on {address}: {error}"));
        fault.next(match error.kind() {
            io::ErrorKind::AddrInUse => "stop the process that uses the address, or give another --listen",
            io::ErrorKind::PermissionDenied => "give a port from 1024, or run with the right to use this one",
            _ => "give --listen an address of this machine",
        })
    })
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
    use super::*;

    #[tokio::test]
    async fn an_address_in_use_is_a_named_error() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string().parse().unwrap();
        let fault = listen(&address).await.unwrap_err();
        assert_eq!(fault.field.as_deref(), Some("listen"));
        assert!(fault.message.contains(address.as_str()) && fault.next.unwrap().contains("another --listen"));
    }
}
