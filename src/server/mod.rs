//! Floor 5: the gRPC services of a node.
//!
//! A call is authenticated, validated and converted into a command or a query, handed to the
//! [`Node`](crate::node::Node), and the outcome is converted into a reply. The server takes no decisions: the state
//! machine decides what a command means, the node decides whether the cluster agrees on it.
//!
//! | file | content |
//! |---|---|
//! | `serve` | [`serve()`]: the HTTP/2 server, from the first connection to the end of the drain |
//! | `listen` | the TCP port |
//! | `limits/` | bounds on connections, calls, pages and rates, and each address's share of them |
//! | `services/` | the services, each beside the conversions of its requests and replies |
//! | `passwords` | password hashing and session tokens |
//! | `session_cache` | sessions recently seen alive |
//! | `shutdown`, `faults` | how services learn that the server stops; faults that several files return |
//! | `decode_errors` | reasons for requests that the gRPC library rejects before any service sees them |
//! | `testing` | entry points for the fuzzers |
//!
//! # Bounds
//!
//! Every resource that a client can occupy is bounded:
//!
//! - connections in number, and in the time until they speak HTTP/2;
//! - calls on one connection, and calls in progress on the node, counted from a call's first byte until its answer has
//!   left;
//! - bytes of pages on their way to callers, and live subscriptions;
//! - bytes of metadata, bytes of a request, and the time in which a request must arrive;
//! - passwords being hashed, and requests, writes and wrong passwords per unit of time.
//!
//! One address gets at most its share of connections, calls, pages and subscriptions. A call beyond a bound fails at
//! once with OVERLOADED or RATE_LIMITED, and with a delay if a retry can succeed. Every call has a deadline: the
//! client's, or five seconds.
//!
//! # What it leaves out
//!
//! TLS, and authentication of operators and peers. The port belongs on a network that only operators, peers and users
//! reach.

mod decode_errors;
mod faults;
mod limits;
mod listen;
mod passwords;
mod serve;
mod services;
mod session_cache;
mod shutdown;
#[doc(hidden)]
pub mod testing;

pub use self::{
    limits::connection_limit,
    listen::{ListenError, incoming, listen},
    serve::serve,
    services::{peer_routes, peer_routes_by},
};
