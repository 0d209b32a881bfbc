//! Conversations: the inbox, and rooms to discover.
//!
//! Both lists are ordered by conversation id, the newest first: an order that no message changes, so that paging
//! neither skips nor repeats. (Ordered by activity, a conversation could jump over the page break.)

use std::ops::ControlFlow;

use super::{
    page::{self, Room},
    view::{self, Authors, MEMBERS_SHOWN},
};
use crate::{
    machine::{
        conversations::as_member,
        error::{Result, invalid},
        keys::{self, Span},
        reading::Place,
        records::{each, each_back, exists, require},
    },
    storage::{self, kv::Read},
    types::{AccountId, ConversationId},
    wire::{chat, store},
};

/// Every conversation that the account is a member of, in the order of their ids: at most
/// [`CONVERSATIONS_PER_ACCOUNT`](crate::types::limits::CONVERSATIONS_PER_ACCOUNT).
pub fn conversation_ids(state: &dyn Read, account: AccountId) -> storage::Result<Vec<ConversationId>> {
    let mut ids = Vec::new();
    each(state, &keys::all_of(keys::MEMBER, account.0), |key, _: store::MemberRecord| {
        ids.push(ConversationId(keys::last_number(key)));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(ids)
}

/// How many messages are unread, over all conversations of the account.
pub fn unread_total(state: &dyn Read, account: AccountId) -> storage::Result<u64> {
    let mut total = 0;
    each(state, &keys::all_of(keys::MEMBER, account.0), |key, member: store::MemberRecord| {
        total += place(state, account, key, member)?.unread(state)?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(total)
}

/// The place that a row of the table member stands for.
pub(super) fn place(
    state: &dyn Read,
    account: AccountId,
    key: &[u8],
    member: store::MemberRecord,
) -> storage::Result<Place> {
    let id = ConversationId(keys::last_number(key));
    Ok(Place { account, id, conversation: require(state, &keys::conversation(id))?, member })
}

/// One conversation of which the account is a member, with all of its members' names.
pub fn conversation(state: &dyn Read, account: AccountId, id: ConversationId) -> Result<chat::Conversation> {
    let (conversation, member) = as_member(state, account, id)?;
    let place = Place { account, id, conversation, member };
    Ok(view::conversation(state, &mut Authors::new(state), &place, usize::MAX)?)
}

/// The account's conversations, or with `joinable` the public rooms that it is not in; the newest first.
pub fn list_conversations(
    state: &dyn Read,
    account: AccountId,
    request: &chat::ListConversationsRequest,
) -> Result<chat::ListConversationsResponse> {
    if request.joinable && request.unread_only {
        return invalid("joinable and unread_only exclude each other: what can be joined has nothing unread");
    }
    let mut listing = Listing {
        state,
        account,
        authors: Authors::new(state),
        room: Room::new(request.page_size)?,
        unread_only: request.unread_only,
        response: chat::ListConversationsResponse::default(),
    };
    let letter = if request.joinable { 'j' } else { 'c' };
    let before = page::number(letter, &request.page_token)?;
    if request.joinable {
        listing.joinable(before)?
    } else {
        listing.own(before)?
    }
    Ok(listing.response)
}

struct Listing<'a> {
    state: &'a dyn Read,
    account: AccountId,
    authors: Authors<'a>,
    room: Room,
    unread_only: bool,
    response: chat::ListConversationsResponse,
}

impl Listing<'_> {
    fn own(&mut self, before: Option<u64>) -> storage::Result<()> {
        let mut span = keys::all_of(keys::MEMBER, self.account.0);
        if let Some(before) = before {
            span.end = keys::member(self.account, ConversationId(before)).to_vec();
        }
        each_back(self.state, &span, |key, member: store::MemberRecord| {
            if !self.room.look() {
                return Ok(self.stop('c', keys::last_number(key)));
            }
            let place = place(self.state, self.account, key, member)?;
            if self.unread_only && place.unread(self.state)? == 0 {
                return Ok(ControlFlow::Continue(()));
            }
            let conversation = view::conversation(self.state, &mut self.authors, &place, MEMBERS_SHOWN)?;
            Ok(self.push('c', place.id, conversation))
        })
    }

    fn joinable(&mut self, before: Option<u64>) -> storage::Result<()> {
        let mut span: Span = keys::all(keys::PUBLIC);
        if let Some(before) = before {
            span.end = keys::public(ConversationId(before)).to_vec();
        }
        each_back(self.state, &span, |key, _: store::Present| {
            let id = ConversationId(keys::last_number(key));
            if !self.room.look() {
                return Ok(self.stop('j', id.0));
            }
            if exists(self.state, &keys::member(self.account, id))? {
                return Ok(ControlFlow::Continue(()));
            }
            let record: store::ConversationRecord = require(self.state, &keys::conversation(id))?;
            let conversation = chat::Conversation {
                conversation_id: id.to_string(),
                members: view::members(self.state, &mut self.authors, id, &record, MEMBERS_SHOWN)?,
                title: record.title,
                last_seq: record.last_seq,
                member_count: record.members,
                ..Default::default()
            };
            Ok(self.push('j', id, conversation))
        })
    }

    fn push(&mut self, letter: char, id: ConversationId, conversation: chat::Conversation) -> ControlFlow<()> {
        if !self.room.take(prost::Message::encoded_len(&conversation)) {
            return self.stop(letter, id.0);
        }
        self.response.conversations.push(conversation);
        ControlFlow::Continue(())
    }

    /// Ends the page before the conversation `next`.
    fn stop(&mut self, letter: char, next: u64) -> ControlFlow<()> {
        self.response.next_page_token = page::token(letter, &next.saturating_add(1).to_be_bytes());
        ControlFlow::Break(())
    }
}
