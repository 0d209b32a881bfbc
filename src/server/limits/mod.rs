//! Bounds on what clients can take from a node, and the share of each that one address may have.
//!
//! | file | bounds |
//! |---|---|
//! | `accept` | connections, and the time until they speak HTTP/2 |
//! | `call_limits` | calls in progress, and the time in which a request must arrive |
//! | `quotas` | the counting: permits, and the share of one address |
//! | `rates` | requests, writes and wrong passwords per unit of time |
//! | `buckets` | the arithmetic of rates, for many keys in bounded memory |
//! | `origin` | an address as it is counted |
//! | `files` | open files, so that connections leave enough for the stores |
//!
//! The numbers are in [`crate::types::limits`] and in the node's configuration.

mod accept;
mod buckets;
mod call_limits;
mod files;
mod origin;
mod quotas;
mod rates;

pub use self::files::connection_limit;
pub(super) use self::{
    accept::bounded_connections,
    call_limits::BoundCalls,
    origin::Origin,
    quotas::{HeldPermits, Permit, Quota},
    rates::{InspectionRates, Rates},
};
