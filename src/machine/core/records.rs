//! Typed reading and writing of rows.
//!
//! A row's value is one protobuf message, and its table fixes which (`keys`). Reading decodes it and checks that its
//! counts are plausible. A row that fails either check, or is missing although another row refers to it, is damage: the
//! storage's checksums passed, so the bytes are what some program wrote, and this replica cannot be trusted.

use std::ops::ControlFlow;

use prost::{Message, Name};

use super::keys::Span;
use crate::{
    storage::{
        self, StorageError,
        kv::{Read, Write},
    },
    wire::store,
};

/// No count can grow this far: at a million a second it takes 146,000 years. Code may therefore add one, or add two
/// counts, without checking for overflow.
const COUNT_LIMIT: u64 = 1 << 62;
/// The same for counts of 32 bits, all of which have limits far below (`types::limits`).
const SMALL_COUNT_LIMIT: u32 = 1 << 30;

/// The value of a row.
pub trait Record: Message + Name + Default {
    /// Whether every count is below its limit.
    fn is_plausible(&self) -> bool;
}

// Each record with its counts: those of 64 bits, a semicolon, those of 32 bits.
macro_rules! records {
    ($($record:ident { $($count:ident)* ; $($small:ident)* })*) => {
        $(impl Record for store::$record {
            fn is_plausible(&self) -> bool {
                true $(&& self.$count < COUNT_LIMIT)* $(&& self.$small < SMALL_COUNT_LIMIT)*
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
pub fn load<R: Record>(state: &dyn Read, key: &[u8]) -> storage::Result<Option<R>> {
    state.get(key)?.map(|value| decode(key, &value)).transpose()
}

/// Reads a record that must exist, because another record refers to it.
pub fn require<R: Record>(state: &dyn Read, key: &[u8]) -> storage::Result<R> {
    load(state, key)?.ok_or_else(|| damaged::<R>(key, "it is missing, though another record refers to it"))
}

/// Writes `record` at `key`.
pub fn save<R: Message>(state: &mut dyn Write, key: &[u8], record: &R) -> storage::Result<()> {
    state.put(key, &record.encode_to_vec())
}

/// Whether there is a row at `key`.
pub fn exists(state: &dyn Read, key: &[u8]) -> storage::Result<bool> {
    Ok(state.get(key)?.is_some())
}

/// Decodes the record found at `key`.
pub fn decode<R: Record>(key: &[u8], value: &[u8]) -> storage::Result<R> {
    let record = R::decode(value).map_err(|error| damaged::<R>(key, error))?;
    if record.is_plausible() {
        return Ok(record);
    }
    Err(damaged::<R>(key, "one of its counts is larger than any count can grow"))
}

fn damaged<R: Name>(key: &[u8], detail: impl std::fmt::Display) -> StorageError {
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    StorageError::damaged(format!("{} at key {key}", R::NAME), detail)
}

/// The first `limit` keys of `span`.
pub fn keys_in(state: &dyn Read, span: &Span, limit: usize) -> storage::Result<Vec<Vec<u8>>> {
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
pub fn count_in(state: &dyn Read, span: &Span, limit: u64) -> storage::Result<u64> {
    let mut count = 0;
    if limit > 0 {
        state.scan(&span.start, &span.end, &mut |_, _| {
            count += 1;
            if count < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    Ok(count)
}

/// Visits the records of `span` in ascending order, until `visit` breaks or fails.
pub fn each<R: Record>(
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

/// Deletes the first `limit` rows of `span`, or all if they are fewer, and returns how many.
pub fn clear(state: &mut dyn Write, span: &Span, limit: usize) -> storage::Result<usize> {
    let doomed = keys_in(state, span, limit)?;
    for key in &doomed {
        state.delete(key)?;
    }
    Ok(doomed.len())
}

/// Like [`each`], in descending order.
pub fn each_back<R: Record>(
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
