//! Records as callers see them.
//!
//! Nothing here checks that the caller may see a record: the queries do.

use std::{collections::BTreeMap, ops::ControlFlow};

use crate::{
    machine::core::{
        blocks::has_blocked,
        keys,
        lookup::peer_of,
        member::Member,
        records::{each, exists, load},
    },
    storage::{self, kv::Read},
    types::{AccountId, ConversationId},
    wire::{
        chat,
        store::{self, event_record::Kind},
    },
};

/// Unix milliseconds in the form of the API.
pub(super) fn time(ms: u64) -> prost_types::Timestamp {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(ms % 1_000).unwrap_or(0) * 1_000_000;
    prost_types::Timestamp { seconds, nanos }
}

/// Accounts by id. Each is read once, as one page shows few accounts many times.
pub(super) struct Accounts<'a> {
    state: &'a dyn Read,
    known: BTreeMap<u64, store::AccountRecord>,
}

impl<'a> Accounts<'a> {
    pub(super) fn new(state: &'a dyn Read) -> Self {
        Self { state, known: BTreeMap::new() }
    }

    /// The account. Ids come from records and have an account; one that has none shows without a name.
    pub(super) fn get(&mut self, id: u64) -> storage::Result<&store::AccountRecord> {
        if !self.known.contains_key(&id) {
            let found = load(self.state, &keys::account(AccountId(id)))?.unwrap_or_default();
            self.known.insert(id, found);
        }
        Ok(&self.known[&id])
    }

    /// The account's name.
    pub(super) fn name(&mut self, id: u64) -> storage::Result<String> {
        Ok(self.get(id)?.username.clone())
    }
}

/// The most members that lists and events name for one conversation.
pub(super) const MEMBERS_SHOWN: usize = 100;

/// Which message is seen, by whom, and whether that account has read it.
pub(super) struct Seen {
    pub(super) by: AccountId,
    pub(super) id: ConversationId,
    pub(super) seq: u64,
    pub(super) read: bool,
}

/// A message as one account sees it. It shows without its body if that account has hidden it, if it was erased for
/// everyone, or if its author was deleted with all messages. `None` for an event that is no message.
pub(super) fn message(
    state: &dyn Read,
    accounts: &mut Accounts<'_>,
    seen: &Seen,
    event: store::EventRecord,
) -> storage::Result<Option<chat::Message>> {
    let author = accounts.get(event.author_id)?;
    let (body, mut deleted) = match event.kind {
        Some(Kind::Body(body)) => (body, author.erased),
        Some(Kind::Erased(_)) => (String::new(), true),
        _ => return Ok(None),
    };
    deleted = deleted || exists(state, &keys::hidden(seen.by, seen.id, seen.seq))?;
    Ok(Some(chat::Message {
        conversation_id: seen.id.to_string(),
        seq: seen.seq,
        cursor: event.cursor,
        sender: author.username.clone(),
        body: if deleted { String::new() } else { body },
        create_time: Some(time(event.time_ms)),
        deleted,
        read: seen.read,
        sender_deleted: author.deleted,
    }))
}

/// How an event changed its room; `None` for a message or a deletion.
pub(super) fn change(
    accounts: &mut Accounts<'_>,
    seq: u64,
    event: &store::EventRecord,
) -> storage::Result<Option<chat::RoomChange>> {
    let mut names = |ids: &store::AccountIds| -> storage::Result<Vec<String>> {
        ids.account_ids.iter().take(MEMBERS_SHOWN).map(|id| accounts.name(*id)).collect()
    };
    let (joined, left, title) = match &event.kind {
        Some(Kind::Joined(ids)) => (names(ids)?, Vec::new(), String::new()),
        Some(Kind::Left(ids)) => (Vec::new(), names(ids)?, String::new()),
        Some(Kind::Renamed(title)) => (Vec::new(), Vec::new(), title.clone()),
        _ => return Ok(None),
    };
    let (by, create_time) = (accounts.name(event.author_id)?, Some(time(event.time_ms)));
    Ok(Some(chat::RoomChange { seq, by, create_time, joined, left, title }))
}

/// A conversation as a member sees it, showing at most `shown` members.
pub(super) fn conversation(
    state: &dyn Read,
    accounts: &mut Accounts<'_>,
    member: &Member,
    shown: usize,
) -> storage::Result<chat::Conversation> {
    let record = &member.conversation;
    let mut members = members(state, accounts, member.id, record, shown)?;
    // A list that is cut short must still tell a member from an account that was removed.
    let own = accounts.name(member.account.0)?;
    if !members.contains(&own) {
        members.insert(0, own);
    }
    Ok(chat::Conversation {
        conversation_id: member.id.to_string(),
        title: record.title.clone(),
        direct: record.direct,
        private: record.private,
        members,
        last_seq: record.last_seq,
        read_seq: member.record.read_seq,
        unread_count: member.unread(state)?,
        member_count: record.members,
        peer_read_seq: peer_mark(state, accounts, member)?.map_or(0, |(_, mark)| mark.read_seq),
        change: None,
    })
}

/// The peer of a direct conversation and how far it has read, if both show their read receipts and neither has blocked
/// the other.
pub(super) fn peer_mark(
    state: &dyn Read,
    accounts: &mut Accounts<'_>,
    member: &Member,
) -> storage::Result<Option<(AccountId, store::MemberRecord)>> {
    let (own, peer) = (member.account, peer_of(&member.conversation, member.account));
    if !member.conversation.direct || peer == own {
        return Ok(None);
    }
    for (one, other) in [(own, peer), (peer, own)] {
        let record = accounts.get(one.0)?;
        if record.receipts_off || has_blocked(state, (one, record), other)? {
            return Ok(None);
        }
    }
    Ok(load(state, &keys::member(peer, member.id))?.map(|mark| (peer, mark)))
}

/// The names of at most `limit` members, by ascending account id. A direct conversation names both accounts, even if
/// one of them is deleted.
pub(super) fn members(
    state: &dyn Read,
    accounts: &mut Accounts<'_>,
    id: ConversationId,
    record: &store::ConversationRecord,
    limit: usize,
) -> storage::Result<Vec<String>> {
    if record.direct {
        let mut pair = vec![accounts.name(record.low_account_id)?];
        if record.high_account_id != record.low_account_id {
            pair.push(accounts.name(record.high_account_id)?);
        }
        return Ok(pair);
    }
    let mut names = Vec::new();
    each(state, &keys::all_of(keys::MEMBER_OF, id.0), |_, member: store::MemberRef| {
        names.push(member.username);
        Ok(if names.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(names)
}
