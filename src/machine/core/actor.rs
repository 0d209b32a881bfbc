//! Who acts in a command.

use super::{
    context::Context,
    error::{Result, refuse},
    keys,
    records::load,
};
use crate::{
    storage,
    types::{AccountId, SessionKey},
    wire::{Reason, store},
};

/// The account that acts in a command, and the session it acts in. Both were live at log time when the command began.
pub struct Actor {
    /// The account's id.
    pub id: AccountId,
    /// Its record when the command began. A verb that changes it writes a changed copy.
    pub account: store::AccountRecord,
    /// The session.
    pub session: SessionKey,
}

/// The actor of the session `key`; `None` unless session and account are live at log time.
pub fn find(context: &Context<'_>, key: &[u8]) -> storage::Result<Option<Actor>> {
    let Some(session) = SessionKey::from_bytes(key) else { return Ok(None) };
    let record: Option<store::SessionRecord> = load(context.state, &keys::session(&session))?;
    let Some(record) = record.filter(|record| record.expire_time_ms > context.now_ms()) else { return Ok(None) };
    let id = AccountId(record.account_id);
    let account = context.account(id)?;
    Ok((!account.deleted).then_some(Actor { id, account, session }))
}

/// Refuses if the password changed after the edge had checked it. The edge checks passwords, which takes too long to do
/// here, and puts the version that it checked against into the command.
pub fn check_password_version(account: &store::AccountRecord, version: u64) -> Result<()> {
    if account.password_version != version {
        return refuse(Reason::BadCredentials, "the password was changed meanwhile; enter the new one");
    }
    Ok(())
}
