//! Conversations: the inbox, and public rooms to join.
//!
//! Both lists are ordered by conversation id, the newest first. No message changes that order, so paging neither skips
//! nor repeats. (Ordered by activity, a conversation could jump over the page break.)

use std::ops::ControlFlow;

use super::{
    page::{self, PageBudget},
    view::{self, Accounts, MEMBERS_SHOWN},
};
use crate::{
    machine::core::{
        error::{Result, invalid},
        keys::{self, Span},
        member::Member,
        records::{each, each_back, exists, require},
    },
    storage::{self, kv::Read},
    types::{AccountId, ConversationId},
    wire::{chat, store},
};

/// Every conversation that the account is in, by ascending id: at most
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
    each(state, &keys::all_of(keys::MEMBER, account.0), |key, record: store::MemberRecord| {
        total += Member::of_row(state, account, key, record)?.unread(state)?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(total)
}

/// One conversation that the account is in, with the names of all its members.
pub fn conversation(state: &dyn Read, account: AccountId, id: ConversationId) -> Result<chat::Conversation> {
    let member = Member::of(state, account, id)?;
    Ok(view::conversation(state, &mut Accounts::new(state), &member, usize::MAX)?)
}

/// The account's conversations, or with `joinable` the public rooms that it is not in; the newest first.
pub fn list_conversations(
    state: &dyn Read,
    account: AccountId,
    request: &chat::ListConversationsRequest,
) -> Result<chat::ListConversationsResponse> {
    if request.joinable && request.unread_only {
        let message = "joinable and unread_only exclude each other: what can be joined has nothing unread";
        return invalid("joinable", message);
    }
    let mut listing = Listing {
        state,
        account,
        accounts: Accounts::new(state),
        budget: PageBudget::new(request.page_size)?,
        unread_only: request.unread_only,
        response: chat::ListConversationsResponse::default(),
    };
    let letter = if request.joinable { JOINABLE } else { OWN };
    let before = page::number(letter, &request.page_token)?;
    if request.joinable {
        listing.joinable(before)?
    } else {
        listing.own(before)?
    }
    Ok(listing.response)
}

/// Letters of the page tokens of the two listings.
const OWN: char = 'c';
const JOINABLE: char = 'j';

/// The page under construction.
struct Listing<'a> {
    state: &'a dyn Read,
    account: AccountId,
    accounts: Accounts<'a>,
    budget: PageBudget,
    unread_only: bool,
    response: chat::ListConversationsResponse,
}

impl Listing<'_> {
    /// The conversations that the account is in.
    fn own(&mut self, before: Option<u64>) -> storage::Result<()> {
        let mut span = keys::all_of(keys::MEMBER, self.account.0);
        if let Some(before) = before {
            span.end = keys::member(self.account, ConversationId(before)).to_vec();
        }
        each_back(self.state, &span, |key, record: store::MemberRecord| {
            if !self.budget.take_scan() {
                return Ok(self.stop(OWN, keys::last_number(key)));
            }
            let member = Member::of_row(self.state, self.account, key, record)?;
            if self.unread_only && member.unread(self.state)? == 0 {
                return Ok(ControlFlow::Continue(()));
            }
            let conversation = view::conversation(self.state, &mut self.accounts, &member, MEMBERS_SHOWN)?;
            Ok(self.push(OWN, member.id, conversation))
        })
    }

    /// The public rooms that the account is not in.
    fn joinable(&mut self, before: Option<u64>) -> storage::Result<()> {
        let mut span: Span = keys::all(keys::PUBLIC);
        if let Some(before) = before {
            span.end = keys::public(ConversationId(before)).to_vec();
        }
        each_back(self.state, &span, |key, _: store::Present| {
            let id = ConversationId(keys::last_number(key));
            if !self.budget.take_scan() {
                return Ok(self.stop(JOINABLE, id.0));
            }
            if exists(self.state, &keys::member(self.account, id))? {
                return Ok(ControlFlow::Continue(()));
            }
            let record: store::ConversationRecord = require(self.state, &keys::conversation(id))?;
            let conversation = chat::Conversation {
                conversation_id: id.to_string(),
                members: view::members(self.state, &mut self.accounts, id, &record, MEMBERS_SHOWN)?,
                title: record.title,
                last_seq: record.last_seq,
                member_count: record.members,
                ..Default::default()
            };
            Ok(self.push(JOINABLE, id, conversation))
        })
    }

    /// Adds the conversation, or ends the page before it.
    fn push(&mut self, letter: char, id: ConversationId, conversation: chat::Conversation) -> ControlFlow<()> {
        if !self.budget.take_row(prost::Message::encoded_len(&conversation)) {
            return self.stop(letter, id.0);
        }
        self.response.conversations.push(conversation);
        ControlFlow::Continue(())
    }

    /// Ends the page; the next one begins with the conversation `next`.
    fn stop(&mut self, letter: char, next: u64) -> ControlFlow<()> {
        self.response.next_page_token = page::token(letter, &next.saturating_add(1).to_be_bytes());
        ControlFlow::Break(())
    }
}
