//! Faults that more than one file of the server returns, each with its advice to the client.

use std::time::Duration;

use crate::wire::{Fault, Reason};

/// Time after which a client may try again what was refused because of load.
const OVERLOAD_DELAY: Duration = Duration::from_millis(200);

/// OVERLOADED: a bound of this node is reached.
pub(super) fn overloaded(message: &str) -> Fault {
    Fault::new(Reason::Overloaded, message).next("repeat the call, here or on another node").retry_after(OVERLOAD_DELAY)
}

/// SHUTTING_DOWN: ends every stream when the server stops.
pub(super) fn shutting_down() -> Fault {
    Fault::new(Reason::ShuttingDown, "the node is stopping").next("go on at another node")
}

/// SESSION_INVALID: the call has no session, or not one that is alive.
pub(super) fn session_invalid(message: &str) -> Fault {
    Fault::new(Reason::SessionInvalid, message).next("log in again")
}
