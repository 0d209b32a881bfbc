//! Records as callers see them.

use std::{collections::BTreeMap, ops::ControlFlow};

use crate::{
    machine::{
        blocking::has_blocked,
        keys,
        messages::peer_of,
        reading::Place,
        records::{each, exists, load},
    },
    storage::{self, kv::Read},
    types::{AccountId, ConversationId},
    wire::{
        chat,
        store::{self, event_record::Kind},
    },
};

/// Unix milliseconds as the API writes them.
pub(super) fn time(ms: u64) -> prost_types::Timestamp {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(ms % 1_000).unwrap_or(0) * 1_000_000;
    prost_types::Timestamp { seconds, nanos }
}

/// Accounts as authors, each looked up once.
pub(super) struct Authors<'a> {
    state: &'a dyn Read,
    known: BTreeMap<u64, store::AccountRecord>,
}

impl<'a> Authors<'a> {
    pub(super) fn new(state: &'a dyn Read) -> Self {
        Self { state, known: BTreeMap::new() }
    }

    /// An account; one without name if there is none, which does not occur.
    pub(super) fn get(&mut self, id: u64) -> storage::Result<&store::AccountRecord> {
        if !self.known.contains_key(&id) {
            let found = load(self.state, &keys::account(AccountId(id)))?.unwrap_or_default();
            self.known.insert(id, found);
        }
        Ok(&self.known[&id])
    }

    /// An account's name.
    pub(super) fn name(&mut self, id: u64) -> storage::Result<String> {
        Ok(self.get(id)?.username.clone())
    }
}

/// Members named by each conversation in lists and events.
pub(super) const MEMBERS_SHOWN: usize = 100;

/// What a message shows to one who looks at it.
pub(super) struct Look {
    pub(super) account: AccountId,
    pub(super) id: ConversationId,
    pub(super) seq: u64,
    pub(super) read: bool,
}

/// A message as one account sees it: hidden, erased, and of an erased account, it is a tombstone without body. `None`
/// for an event that is no message.
pub(super) fn message(
    state: &dyn Read,
    authors: &mut Authors<'_>,
    look: &Look,
    event: store::EventRecord,
) -> storage::Result<Option<chat::Message>> {
    let author = authors.get(event.author_id)?;
    let (body, mut deleted) = match event.kind {
        Some(Kind::Body(body)) => (body, author.erased),
        Some(Kind::Erased(_)) => (String::new(), true),
        _ => return Ok(None),
    };
    deleted = deleted || exists(state, &keys::hidden(look.account, look.id, look.seq))?;
    Ok(Some(chat::Message {
        conversation_id: look.id.to_string(),
        seq: look.seq,
        cursor: event.cursor,
        sender: author.username.clone(),
        body: if deleted { String::new() } else { body },
        create_time: Some(time(event.time_ms)),
        deleted,
        read: look.read,
        sender_deleted: author.deleted,
    }))
}

/// What an event did to its room; `None` for a message or a deletion.
pub(super) fn change(
    authors: &mut Authors<'_>,
    seq: u64,
    event: &store::EventRecord,
) -> storage::Result<Option<chat::RoomChange>> {
    let mut names = |ids: &store::AccountIds| -> storage::Result<Vec<String>> {
        ids.account_ids.iter().take(MEMBERS_SHOWN).map(|id| authors.name(*id)).collect()
    };
    let (joined, left, title) = match &event.kind {
        Some(Kind::Joined(ids)) => (names(ids)?, Vec::new(), String::new()),
        Some(Kind::Left(ids)) => (Vec::new(), names(ids)?, String::new()),
        Some(Kind::Renamed(title)) => (Vec::new(), Vec::new(), title.clone()),
        _ => return Ok(None),
    };
    let (by, create_time) = (authors.name(event.author_id)?, Some(time(event.time_ms)));
    Ok(Some(chat::RoomChange { seq, by, create_time, joined, left, title }))
}

/// A conversation as a member sees it, showing at most `shown` members.
pub(super) fn conversation(
    state: &dyn Read,
    authors: &mut Authors<'_>,
    place: &Place,
    shown: usize,
) -> storage::Result<chat::Conversation> {
    let record = &place.conversation;
    let mut members = members(state, authors, place.id, record, shown)?;
    // So that even a list cut short tells a member from one who was removed.
    let own = authors.name(place.account.0)?;
    if !members.contains(&own) {
        members.insert(0, own);
    }
    Ok(chat::Conversation {
        conversation_id: place.id.to_string(),
        title: record.title.clone(),
        direct: record.direct,
        private: record.private,
        members,
        last_seq: record.last_seq,
        read_seq: place.member.read_seq,
        unread_count: place.unread(state)?,
        member_count: record.members,
        peer_read_seq: peer_mark(state, authors, place)?.map_or(0, |(_, mark)| mark.read_seq),
        change: None,
    })
}

/// How far the other one of a direct conversation has read, if both show their read receipts and neither has blocked
/// the other.
pub(super) fn peer_mark(
    state: &dyn Read,
    authors: &mut Authors<'_>,
    place: &Place,
) -> storage::Result<Option<(AccountId, store::MemberRecord)>> {
    let (own, peer) = (place.account, peer_of(&place.conversation, place.account));
    if !place.conversation.direct || peer == own {
        return Ok(None);
    }
    for (one, other) in [(own, peer), (peer, own)] {
        let record = authors.get(one.0)?;
        if record.receipts_off || has_blocked(state, (one, record), other)? {
            return Ok(None);
        }
    }
    Ok(load(state, &keys::member(peer, place.id))?.map(|mark| (peer, mark)))
}

/// The names of at most `limit` members, in the order of their accounts. A direct conversation names both, even if
/// one of them is deleted.
pub(super) fn members(
    state: &dyn Read,
    authors: &mut Authors<'_>,
    id: ConversationId,
    record: &store::ConversationRecord,
    limit: usize,
) -> storage::Result<Vec<String>> {
    if record.direct {
        let mut pair = vec![authors.name(record.low_account_id)?];
        if record.high_account_id != record.low_account_id {
            pair.push(authors.name(record.high_account_id)?);
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
