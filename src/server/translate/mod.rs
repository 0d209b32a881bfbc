//! Requests into commands, outcomes into replies: pure functions.
//!
//! Here every field of a request is checked against its rule and its limit; the first that breaks one is refused by
//! name, and nothing of the request happens. What a command *means* is decided elsewhere.

pub(super) mod accounts;
pub(super) mod admin;
pub(super) mod check;
pub(super) mod conversations;
pub(super) mod events;
pub(super) mod messages;
pub(super) mod outcome;

use crate::types::RequestId;
use crate::wire::store::command::Verb;

/// A write that passed all checks of the edge.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Write {
    /// Its name, for exactly-once.
    pub request_id: RequestId,
    /// What it asks for.
    pub verb: Verb,
}
