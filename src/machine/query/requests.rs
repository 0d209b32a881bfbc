//! Requests whose outcome is remembered, and how long.

use crate::{
    machine::core::{
        dedup, keys,
        records::{exists, load},
    },
    storage::{self, kv::Read},
    types::RequestId,
    wire::store,
};

/// Whether some request of this id has a remembered outcome. Only [`apply`](crate::machine::apply) decides whether a
/// new command with the id is the same request.
pub fn is_decided(state: &dyn Read, id: RequestId) -> storage::Result<bool> {
    exists(state, &keys::request(id))
}

/// What a correction of log time to `time_ms` would do now: log time before it, and from when on new requests would be
/// accepted.
pub fn time_correction(
    state: &dyn Read,
    time_ms: u64,
    clients_ahead_ms: Option<u64>,
) -> storage::Result<store::TimeCorrected> {
    let meta = load::<store::Meta>(state, &keys::META_KEY)?.unwrap_or_default();
    let accepts_from_ms = dedup::accepts_from_ms(state, &meta, time_ms, clients_ahead_ms)?;
    Ok(store::TimeCorrected { from_ms: meta.time_ms, to_ms: meta.time_ms.min(time_ms), accepts_from_ms })
}
