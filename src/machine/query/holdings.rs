//! What a whole state holds, and what it lacks beside another: for operators who must choose between two.

use std::ops::ControlFlow;

use super::view::{Authors, members};
use crate::{
    machine::{
        keys,
        records::{each, load},
    },
    storage::{self, kv::Read},
    types::ConversationId,
    wire::store,
};

/// Members of an untitled conversation that name it.
const NAMES: usize = 3;

/// A state in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Log time: Unix milliseconds of the last write; 0 before the first.
    pub time_ms: u64,
    /// Accounts that are not deleted.
    pub accounts: u64,
    /// Conversations.
    pub conversations: u64,
    /// Messages ever sent, erased ones included.
    pub messages: u64,
}

/// Counts what `state` holds. Reads every account and conversation, but no timeline.
pub fn holdings(state: &dyn Read) -> storage::Result<Holdings> {
    let mut found = Holdings { time_ms: meta(state)?.time_ms, ..Default::default() };
    each(state, &keys::all(keys::ACCOUNT), |_, account: store::AccountRecord| {
        found.accounts += u64::from(!account.deleted);
        Ok(ControlFlow::Continue(()))
    })?;
    each(state, &keys::all(keys::CONVERSATION), |_, conversation: store::ConversationRecord| {
        found.conversations += 1;
        found.messages += conversation.message_count;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// What one state has and another lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lacking {
    /// Accounts made.
    pub accounts: u64,
    /// Conversations with events that the other lacks.
    pub conversations: u64,
    /// Those events.
    pub events: u64,
    /// The first of those conversations, by name, each with its events.
    pub named: Vec<(String, u64)>,
}

impl Lacking {
    /// Whether nothing is lacking.
    pub fn is_empty(&self) -> bool {
        self.accounts == 0 && self.events == 0
    }
}

/// What `state` lacks of what `other` holds, naming at most `limit` conversations.
pub fn lacking(state: &dyn Read, other: &dyn Read, limit: usize) -> storage::Result<Lacking> {
    let accounts = meta(other)?.last_account_id.saturating_sub(meta(state)?.last_account_id);
    let mut found = Lacking { accounts, ..Default::default() };
    let mut authors = Authors::new(other);
    each(other, &keys::all(keys::CONVERSATION), |key, record: store::ConversationRecord| {
        let id = ConversationId(keys::last_number(key));
        let events = events_lacking(state, other, id, &record)?;
        if events > 0 {
            found.conversations += 1;
            found.events += events;
            if found.named.len() < limit {
                found.named.push((name(other, &mut authors, id, &record)?, events));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// Timelines grow at their end, so whatever differs is there: from the last event back to the first common one.
fn events_lacking(
    state: &dyn Read,
    other: &dyn Read,
    id: ConversationId,
    record: &store::ConversationRecord,
) -> storage::Result<u64> {
    let own: Option<store::ConversationRecord> = load(state, &keys::conversation(id))?;
    if own.as_ref() == Some(record) {
        return Ok(0);
    }
    let shared = own.map_or(0, |own| own.last_seq.min(record.last_seq));
    let mut lacking = record.last_seq - shared;
    for seq in (1..=shared).rev() {
        let key = keys::event(id, seq);
        let of = |state| -> storage::Result<Option<u64>> {
            Ok(load::<store::EventRecord>(state, &key)?.map(|event| event.cursor))
        };
        if of(state)? == of(other)? {
            break;
        }
        lacking += 1;
    }
    Ok(lacking)
}

fn name(
    state: &dyn Read,
    authors: &mut Authors<'_>,
    id: ConversationId,
    record: &store::ConversationRecord,
) -> storage::Result<String> {
    if !record.title.is_empty() {
        return Ok(format!("#{}", record.title));
    }
    Ok(members(state, authors, id, record, NAMES)?.join(" and "))
}

fn meta(state: &dyn Read) -> storage::Result<store::Meta> {
    Ok(load(state, &keys::META_KEY)?.unwrap_or_default())
}
