//! Typed reading and writing of records.

use std::ops::ControlFlow;

use prost::{Message, Name};

use super::keys::{self, Span};
use crate::{
    storage::{
        self, StorageError,
        kv::{Read, Write},
    },
    types::{AccountId, ConversationId},
    wire::store,
};

/// What no count of anything can reach: below it one may count on, and add two counts, without looking.
const BEYOND: u64 = 1 << 62;
/// The same of the smaller kind.
const BEYOND_SMALL: u32 = 1 << 30;

/// The value of a row.
pub(super) trait Record: Message + Name + Default {
    /// Whether every count in it may have come about.
    fn is_plausible(&self) -> bool;
}

macro_rules! records {
    ($($record:ident { $($count:ident)* ; $($small:ident)* })*) => {
        $(impl Record for store::$record {
            fn is_plausible(&self) -> bool {
                true $(&& self.$count < BEYOND)* $(&& self.$small < BEYOND_SMALL)*
            }
        })*
    };
}

records! {
    Meta { last_account_id last_conversation_id last_node_id chores; }
    AccountRef { ; }
    AccountRecord { password_version sent_elsewhere; conversations blocked }
    SessionRecord { ; }
    Present { ; }
    ConversationRef { ; }
    ConversationRecord { last_seq message_count last_erased_seq; members }
    MemberRecord { joined_seq read_seq read_no read_ahead moved_seq first_sent_seq last_sent_seq sent_count; }
    MemberRef { joined_seq; }
    EventRecord { message_no; }
    AccountEvent { ; }
    SentRange { first_seq last_seq; }
    Chore { ; }
    RequestRecord { ; }
}

/// Reads the record at `key`, if there is one.
pub(super) fn load<R: Record>(state: &dyn Read, key: &[u8]) -> storage::Result<Option<R>> {
    state.get(key)?.map(|value| decode(key, &value)).transpose()
}

/// Reads a record that another record promises.
pub(super) fn require<R: Record>(state: &dyn Read, key: &[u8]) -> storage::Result<R> {
    load(state, key)?.ok_or_else(|| damaged::<R>(key, "it is missing, though another record refers to it"))
}

/// Writes `record` at `key`.
pub(super) fn save<R: Message>(state: &mut dyn Write, key: &[u8], record: &R) -> storage::Result<()> {
    state.put(key, &record.encode_to_vec())
}

/// Whether there is a row at `key`.
pub(super) fn exists(state: &dyn Read, key: &[u8]) -> storage::Result<bool> {
    Ok(state.get(key)?.is_some())
}

/// Decodes the record found at `key`.
pub(super) fn decode<R: Record>(key: &[u8], value: &[u8]) -> storage::Result<R> {
    let record = R::decode(value).map_err(|error| damaged::<R>(key, error))?;
    if record.is_plausible() {
        return Ok(record);
    }
    Err(damaged::<R>(key, "it counts further than anything can have happened"))
}

fn damaged<R: Name>(key: &[u8], detail: impl std::fmt::Display) -> StorageError {
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    StorageError::damaged(format!("{} at key {key}", R::NAME), detail)
}

/// The first `limit` keys of `span`.
pub(super) fn keys_in(state: &dyn Read, span: &Span, limit: usize) -> storage::Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    if limit > 0 {
        state.scan(&span.start, &span.end, &mut |key, _| {
            found.push(key.to_vec());
            if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    Ok(found)
}

/// How many rows `span` holds, counting no further than `limit`.
pub(super) fn count_in(state: &dyn Read, span: &Span, limit: u64) -> storage::Result<u64> {
    let mut count = 0;
    if limit > 0 {
        state.scan(&span.start, &span.end, &mut |_, _| {
            count += 1;
            if count < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    Ok(count)
}

/// Visits the records of `span`, ascending; `visit` breaks or fails to end the scan.
pub(super) fn each<R: Record>(
    state: &dyn Read,
    span: &Span,
    mut visit: impl FnMut(&[u8], R) -> storage::Result<ControlFlow<()>>,
) -> storage::Result<()> {
    let mut outcome = Ok(());
    state.scan(
        &span.start,
        &span.end,
        &mut |key, value| match decode(key, value).and_then(|record| visit(key, record)) {
            Ok(flow) => flow,
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        },
    )?;
    outcome
}

/// Deletes at most `limit` rows from the front of `span`; answers how many.
pub(super) fn clear(state: &mut dyn Write, span: &Span, limit: usize) -> storage::Result<usize> {
    let doomed = keys_in(state, span, limit)?;
    for key in &doomed {
        state.delete(key)?;
    }
    Ok(doomed.len())
}

/// The account of this folded name, deleted or not.
pub(super) fn account_named(
    state: &dyn Read,
    folded: &str,
) -> storage::Result<Option<(AccountId, store::AccountRecord)>> {
    let Some(store::AccountRef { account_id }) = load(state, &keys::name(folded))? else { return Ok(None) };
    let id = AccountId(account_id);
    Ok(Some((id, require(state, &keys::account(id))?)))
}

/// A conversation and the place of one of its present members.
pub(super) fn membership(
    state: &dyn Read,
    account: AccountId,
    conversation: ConversationId,
) -> storage::Result<Option<(store::ConversationRecord, store::MemberRecord)>> {
    let Some(member) = load(state, &keys::member(account, conversation))? else { return Ok(None) };
    Ok(Some((require(state, &keys::conversation(conversation))?, member)))
}

/// The event at `seq` of a timeline, which the caller knows to reach that far.
pub(super) fn event_at(
    state: &dyn Read,
    conversation: ConversationId,
    seq: u64,
) -> storage::Result<store::EventRecord> {
    require(state, &keys::event(conversation, seq))
}

/// Whether an event is a message, erased or not.
pub(super) fn is_message(event: &store::EventRecord) -> bool {
    use store::event_record::Kind;
    matches!(event.kind, Some(Kind::Body(_) | Kind::Erased(_)))
}

/// Whether an event is a message that was erased for everyone.
pub(super) fn is_erased(event: &store::EventRecord) -> bool {
    matches!(event.kind, Some(store::event_record::Kind::Erased(_)))
}

/// Like [`each`], descending.
pub(super) fn each_back<R: Record>(
    state: &dyn Read,
    span: &Span,
    mut visit: impl FnMut(&[u8], R) -> storage::Result<ControlFlow<()>>,
) -> storage::Result<()> {
    let mut outcome = Ok(());
    state.scan_back(&span.start, &span.end, &mut |key, value| match decode(key, value)
        .and_then(|record| visit(key, record))
    {
        Ok(flow) => flow,
        Err(error) => {
            outcome = Err(error);
            ControlFlow::Break(())
        }
    })?;
    outcome
}
