//! A whole state in figures, and what it is missing compared with another. For operators who must choose between the
//! states of two nodes.

use std::ops::ControlFlow;

use super::view::{Accounts, members};
use crate::{
    machine::core::{
        keys,
        records::{each, load},
    },
    storage::{self, kv::Read},
    types::{AccountId, ConversationId},
    wire::store,
};

/// How many members name a conversation that has no title.
const NAMES: usize = 3;

/// A state in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
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
pub fn summary(state: &dyn Read) -> storage::Result<Summary> {
    let mut found = Summary { time_ms: meta(state)?.time_ms, ..Default::default() };
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

/// Whether `later` can be a state of the same history as `earlier`, further on: nothing that only grows has shrunk, and the
/// newest account of the one is the same account in the other. Ids are never given to anybody else.
pub fn continues(earlier: &dyn Read, later: &dyn Read) -> storage::Result<bool> {
    let (before, after) = (meta(earlier)?, meta(later)?);
    // Log time goes back when it is corrected, which leaves its mark.
    let grown = (after.time_ms >= before.time_ms || after.accepts_from_ms != 0)
        && after.last_account_id >= before.last_account_id
        && after.last_conversation_id >= before.last_conversation_id
        && after.last_node_id >= before.last_node_id;
    let newest = keys::account(AccountId(before.last_account_id));
    let born = |account: store::AccountRecord| (account.username, account.create_time_ms);
    let known = load::<store::AccountRecord>(earlier, &newest)?.map(born);
    Ok(grown && (known.is_none() || known == load::<store::AccountRecord>(later, &newest)?.map(born)))
}

/// What another state has and this one is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// Accounts created, deleted ones included.
    pub accounts: u64,
    /// Conversations with missing events.
    pub conversations: u64,
    /// Those events.
    pub events: u64,
    /// The first of those conversations, by name, each with the number of its missing events.
    pub named: Vec<(String, u64)>,
}

impl Missing {
    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.accounts == 0 && self.events == 0
    }
}

/// What `state` is missing of what `other` holds, naming at most `limit` conversations.
pub fn missing(state: &dyn Read, other: &dyn Read, limit: usize) -> storage::Result<Missing> {
    let accounts = meta(other)?.last_account_id.saturating_sub(meta(state)?.last_account_id);
    let mut found = Missing { accounts, ..Default::default() };
    let mut names = Accounts::new(other);
    each(other, &keys::all(keys::CONVERSATION), |key, record: store::ConversationRecord| {
        let id = ConversationId(keys::last_number(key));
        let events = missing_events(state, other, id, &record)?;
        if events > 0 {
            found.conversations += 1;
            found.events += events;
            if found.named.len() < limit {
                found.named.push((name(other, &mut names, id, &record)?, events));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// How many events of a timeline are missing. Timelines only grow at their end, so the two have a common beginning:
/// this walks back from the end until two events have the same cursor.
fn missing_events(
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
    let mut missing = record.last_seq - shared;
    for seq in (1..=shared).rev() {
        let key = keys::event(id, seq);
        let cursor_in = |state| -> storage::Result<Option<u64>> {
            Ok(load::<store::EventRecord>(state, &key)?.map(|event| event.cursor))
        };
        if cursor_in(state)? == cursor_in(other)? {
            break;
        }
        missing += 1;
    }
    Ok(missing)
}

fn name(
    state: &dyn Read,
    names: &mut Accounts<'_>,
    id: ConversationId,
    record: &store::ConversationRecord,
) -> storage::Result<String> {
    if !record.title.is_empty() {
        return Ok(format!("#{}", record.title));
    }
    Ok(members(state, names, id, record, NAMES)?.join(" and "))
}

fn meta(state: &dyn Read) -> storage::Result<store::Meta> {
    Ok(load(state, &keys::META_KEY)?.unwrap_or_default())
}
