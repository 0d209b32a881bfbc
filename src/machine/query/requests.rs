//! Requests that were decided before.

use crate::{
    machine::{keys, records::exists},
    storage::{self, kv::Read},
    types::RequestId,
};

/// Whether a request of this id has an outcome that is still remembered. Whose it is, and whether a command of the same
/// id is the same request, is for [`apply`](crate::machine::apply) to say.
pub fn is_decided(state: &dyn Read, id: RequestId) -> storage::Result<bool> {
    exists(state, &keys::request(id))
}
