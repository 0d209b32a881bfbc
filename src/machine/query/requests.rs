//! Requests whose outcome is remembered, and how long.

use super::accounts::session;
use crate::{
    machine::core::{dedup, keys, records::load},
    storage::{self, kv::Read},
    types::{RequestId, SessionKey},
    wire::store,
};

/// Whether the request of this id has a remembered outcome that belongs to session `key`, live or not, or to the account
/// that it acts for. Ids are no secret, so the id alone proves nothing. Only [`apply`](crate::machine::apply) decides
/// whether a new command with the id is the same request.
pub fn is_decided(state: &dyn Read, id: RequestId, key: &SessionKey) -> storage::Result<bool> {
    let Some(record) = load::<store::RequestRecord>(state, &keys::request(id))? else { return Ok(false) };
    if record.session[..] == *dedup::session_part(&key.0) {
        return Ok(true);
    }
    let live = session(state, key)?;
    Ok(live.is_some_and(|session| session.account.0 == record.account_id))
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
