//! Requests whose outcome is remembered.

use crate::{
    machine::core::{keys, records::exists},
    storage::{self, kv::Read},
    types::RequestId,
};

/// Whether some request of this id has a remembered outcome. Only [`apply`](crate::machine::apply) decides whether a
/// new command with the id is the same request.
pub fn is_decided(state: &dyn Read, id: RequestId) -> storage::Result<bool> {
    exists(state, &keys::request(id))
}
