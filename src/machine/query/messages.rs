//! Messages: history in both directions, and unread messages.

use std::ops::ControlFlow;

use super::{
    merge::TimelineMerge,
    page::{self, PageBudget},
    view::{self, Accounts, Seen},
};
use crate::{
    machine::core::{
        error::{Result, invalid},
        keys,
        lookup::known_account,
        member::Member,
        records::{each, each_back, load},
    },
    storage::{self, kv::Read},
    types::{AccountId, ConversationId, Cursor},
    wire::{
        chat::{self, list_messages_request::Recipient},
        store,
    },
};

/// The messages that the account may see.
///
/// - With a recipient: oldest first after `after_seq` (0: from the beginning), or with `before_seq` newest first before
///   that one (the largest number: from the end). `unread_only` goes with the first of the two only.
/// - Without a recipient: of all conversations, oldest first by cursor; `after_seq` and `before_seq` must be 0.
///
/// A direct conversation in which nothing was ever said is an empty page, not an error.
pub fn list_messages(
    state: &dyn Read,
    account: AccountId,
    request: &chat::ListMessagesRequest,
) -> Result<chat::ListMessagesResponse> {
    if request.before_seq > 0 && (request.after_seq > 0 || request.unread_only) {
        let message = "before_seq goes backwards: it excludes after_seq and unread_only, which go forwards";
        return invalid("before_seq", message);
    }
    let mut page = Page {
        state,
        accounts: Accounts::new(state),
        budget: PageBudget::new(request.page_size)?,
        unread_only: request.unread_only,
        response: chat::ListMessagesResponse::default(),
    };
    let Some(recipient) = &request.recipient else {
        if request.after_seq > 0 || request.before_seq > 0 {
            let field = if request.after_seq > 0 { "after_seq" } else { "before_seq" };
            let message = "after_seq and before_seq count within one conversation: name it, or its username";
            return invalid(field, message);
        }
        let after = page::number(EVERYWHERE, &request.page_token)?.unwrap_or(0);
        page.everywhere(account, Cursor(after))?;
        return Ok(page.response);
    };
    let Some(member) = member_of(state, account, recipient)? else { return Ok(page.response) };
    if request.before_seq > 0 {
        let before = page::number(BACKWARDS, &request.page_token)?.unwrap_or(request.before_seq);
        page.backwards(&member, before)?;
    } else {
        let after = page::number(FORWARDS, &request.page_token)?.unwrap_or(request.after_seq);
        page.forwards(&member, after)?;
    }
    Ok(page.response)
}

/// Letters of the page tokens: each direction has its own, so that no token goes on in the wrong one.
const EVERYWHERE: char = 'm';
const BACKWARDS: char = 'b';
const FORWARDS: char = 'f';

/// The account in the conversation that the request names; `None` if the pair has never written to each other.
fn member_of(state: &dyn Read, account: AccountId, recipient: &Recipient) -> Result<Option<Member>> {
    let id = match recipient {
        Recipient::ConversationId(text) => match text.parse::<ConversationId>() {
            Ok(id) => id,
            Err(error) => return invalid("conversation_id", error.to_string()),
        },
        Recipient::Username(name) => {
            let (peer, _) = known_account(state, name)?;
            match load::<store::ConversationRef>(state, &keys::direct(account, peer))? {
                Some(pair) => ConversationId(pair.conversation_id),
                None => return Ok(None),
            }
        }
    };
    Member::of(state, account, id).map(Some)
}

/// The page under construction.
struct Page<'a> {
    state: &'a dyn Read,
    accounts: Accounts<'a>,
    budget: PageBudget,
    unread_only: bool,
    response: chat::ListMessagesResponse,
}

impl Page<'_> {
    /// One conversation, oldest first.
    fn forwards(&mut self, member: &Member, after: u64) -> storage::Result<()> {
        let mut first = after.saturating_add(1).max(member.record.joined_seq);
        if self.unread_only {
            first = first.max(member.record.read_seq + 1);
        }
        let span = keys::events(member.id, first, member.conversation.last_seq);
        each(self.state, &span, |key, event| {
            let seq = keys::last_number(key);
            let fits = self.budget.take_scan() && self.push_event(member, seq, event)?;
            Ok(if fits { ControlFlow::Continue(()) } else { self.stop(FORWARDS, seq.saturating_sub(1)) })
        })
    }

    /// One conversation, newest first.
    fn backwards(&mut self, member: &Member, before: u64) -> storage::Result<()> {
        let last = before.saturating_sub(1).min(member.conversation.last_seq);
        let span = keys::events(member.id, member.record.joined_seq, last);
        each_back(self.state, &span, |key, event| {
            let seq = keys::last_number(key);
            let fits = self.budget.take_scan() && self.push_event(member, seq, event)?;
            Ok(if fits { ControlFlow::Continue(()) } else { self.stop(BACKWARDS, seq.saturating_add(1)) })
        })
    }

    /// All conversations of the account, oldest first by cursor.
    fn everywhere(&mut self, account: AccountId, after: Cursor) -> storage::Result<()> {
        let mut timelines = TimelineMerge::new(self.state);
        let mut members = Vec::new();
        each(self.state, &keys::all_of(keys::MEMBER, account.0), |key, record: store::MemberRecord| {
            let member = Member::of_row(self.state, account, key, record)?;
            if !self.unread_only || member.unread(self.state)? > 0 {
                let first = if self.unread_only { member.record.read_seq + 1 } else { 1 };
                let first = first.max(member.record.joined_seq);
                timelines.add(member.id, first, member.conversation.last_seq, after)?;
                members.push(member);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let mut seen = after.0;
        while let Some(next) = timelines.next()? {
            let cursor = next.event.cursor;
            if !(self.budget.take_scan() && self.push_message(&members[next.source], next.seq, next.event)?) {
                let _ = self.stop(EVERYWHERE, seen);
                break;
            }
            seen = cursor;
        }
        Ok(())
    }

    /// Adds an event of the named conversation: a message if it is wanted, or a change of the room. Returns whether it
    /// fits.
    fn push_event(&mut self, member: &Member, seq: u64, event: store::EventRecord) -> storage::Result<bool> {
        let Some(change) = view::change(&mut self.accounts, seq, &event)? else {
            return self.push_message(member, seq, event);
        };
        let fits = self.unread_only || self.budget.take_extra(prost::Message::encoded_len(&change));
        if fits && !self.unread_only {
            self.response.changes.push(change);
        }
        Ok(fits)
    }

    /// Adds the event if it is a message and wanted. Returns whether it fits.
    fn push_message(&mut self, member: &Member, seq: u64, event: store::EventRecord) -> storage::Result<bool> {
        let read = member.has_read(self.state, seq, &event)?;
        if self.unread_only && read {
            return Ok(true);
        }
        let seen = Seen { by: member.account, id: member.id, seq, read };
        let Some(message) = view::message(self.state, &mut self.accounts, &seen, event)? else { return Ok(true) };
        let fits = self.budget.take_row(prost::Message::encoded_len(&message));
        if fits {
            self.response.messages.push(message);
        }
        Ok(fits)
    }

    /// Ends the page; the next one goes on after the position `seen`.
    fn stop(&mut self, letter: char, seen: u64) -> ControlFlow<()> {
        self.response.next_page_token = page::token(letter, &seen.to_be_bytes());
        ControlFlow::Break(())
    }
}
