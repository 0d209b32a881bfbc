//! Requests whose outcome is remembered.

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
