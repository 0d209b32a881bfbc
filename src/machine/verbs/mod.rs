//! What commands do: one file for each kind of verb.
//!
//! A verb checks everything before it changes anything, so a refusal leaves no trace. It uses `core` and never another
//! verb: what two verbs share belongs there.

pub mod accounts;
pub mod blocking;
pub mod deleting;
pub mod messages;
pub mod reading;
pub mod rooms;
pub mod sessions;
pub mod time;
