//! Messages: history in both directions, and what is unread.

use std::ops::ControlFlow;

use super::{
    conversations::place,
    page::{self, Room},
    timeline::Timelines,
    view::{self, Authors, Look},
};
use crate::{
    machine::{
        accounts::shown,
        error::{Result, invalid, refuse},
        keys,
        reading::Place,
        records::{account_named, each, each_back, load},
    },
    storage::{self, kv::Read},
    types::{AccountId, ConversationId, Cursor},
    wire::{
        Reason,
        chat::{self, list_messages_request::Recipient},
        store,
    },
};

/// The messages that the account may see.
///
/// - With a recipient: oldest first after `after_seq` (0: from the beginning), or with `before_seq` newest first before
///   that one (the largest number: from the end). `unread_only` goes together with the first of the two.
/// - Without: of all conversations, oldest first by cursor; `after_seq` and `before_seq` must be 0.
///
/// A direct conversation in which nothing was ever said is empty, not an error.
pub fn list_messages(
    state: &dyn Read,
    account: AccountId,
    request: &chat::ListMessagesRequest,
) -> Result<chat::ListMessagesResponse> {
    if request.before_seq > 0 && (request.after_seq > 0 || request.unread_only) {
        return invalid("before_seq goes backwards: it excludes after_seq and unread_only, which go forwards");
    }
    let mut page = Page {
        state,
        authors: Authors::new(state),
        room: Room::new(request.page_size)?,
        unread_only: request.unread_only,
        response: chat::ListMessagesResponse::default(),
    };
    let Some(recipient) = &request.recipient else {
        if request.after_seq > 0 || request.before_seq > 0 {
            return invalid("after_seq and before_seq count within one conversation: name it, or its username");
        }
        let after = page::number('m', &request.page_token)?.unwrap_or(0);
        page.everywhere(account, Cursor(after))?;
        return Ok(page.response);
    };
    let Some(place) = recipient_place(state, account, recipient)? else { return Ok(page.response) };
    if request.before_seq > 0 {
        let before = page::number('b', &request.page_token)?.unwrap_or(request.before_seq);
        page.backwards(&place, before)?;
    } else {
        let after = page::number('f', &request.page_token)?.unwrap_or(request.after_seq);
        page.forwards(&place, after)?;
    }
    Ok(page.response)
}

fn recipient_place(state: &dyn Read, account: AccountId, recipient: &Recipient) -> Result<Option<Place>> {
    let id = match recipient {
        Recipient::ConversationId(text) => match text.parse::<ConversationId>() {
            Ok(id) => id,
            Err(error) => return invalid(error.to_string()),
        },
        Recipient::Username(name) => {
            let Some((peer, _)) = account_named(state, &name.to_ascii_lowercase())? else {
                return refuse(Reason::AccountNotFound, format!("there is no account named {:?}", shown(name)));
            };
            match load::<store::ConversationRef>(state, &keys::direct(account, peer))? {
                Some(pair) => ConversationId(pair.conversation_id),
                None => return Ok(None),
            }
        }
    };
    Place::of(state, account, id).map(Some)
}

struct Page<'a> {
    state: &'a dyn Read,
    authors: Authors<'a>,
    room: Room,
    unread_only: bool,
    response: chat::ListMessagesResponse,
}

impl Page<'_> {
    fn forwards(&mut self, place: &Place, after: u64) -> storage::Result<()> {
        let mut first = after.saturating_add(1).max(place.member.joined_seq);
        if self.unread_only {
            first = first.max(place.member.read_seq + 1);
        }
        let span = keys::events(place.id, first, place.conversation.last_seq);
        each(self.state, &span, |key, event| {
            let seq = keys::last_number(key);
            let fits = self.room.look() && self.show(place, seq, event)?;
            Ok(if fits { ControlFlow::Continue(()) } else { self.stop('f', seq.saturating_sub(1)) })
        })
    }

    fn backwards(&mut self, place: &Place, before: u64) -> storage::Result<()> {
        let last = before.saturating_sub(1).min(place.conversation.last_seq);
        let span = keys::events(place.id, place.member.joined_seq, last);
        each_back(self.state, &span, |key, event| {
            let seq = keys::last_number(key);
            let fits = self.room.look() && self.show(place, seq, event)?;
            Ok(if fits { ControlFlow::Continue(()) } else { self.stop('b', seq.saturating_add(1)) })
        })
    }

    fn everywhere(&mut self, account: AccountId, after: Cursor) -> storage::Result<()> {
        let mut timelines = Timelines::new(self.state);
        let mut places = Vec::new();
        each(self.state, &keys::all_of(keys::MEMBER, account.0), |key, member: store::MemberRecord| {
            let place = place(self.state, account, key, member)?;
            if !self.unread_only || place.unread(self.state)? > 0 {
                let first = if self.unread_only { place.member.read_seq + 1 } else { 1 };
                let first = first.max(place.member.joined_seq);
                timelines.add(place.id, first, place.conversation.last_seq, after)?;
                places.push(place);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let mut seen = after.0;
        while let Some(next) = timelines.next()? {
            let cursor = next.event.cursor;
            if !(self.room.look() && self.push(&places[next.source], next.seq, next.event)?) {
                let _ = self.stop('m', seen);
                break;
            }
            seen = cursor;
        }
        Ok(())
    }

    /// Adds the event of the conversation that was named: a message if it is wanted, or what happened to the room.
    fn show(&mut self, place: &Place, seq: u64, event: store::EventRecord) -> storage::Result<bool> {
        let Some(change) = view::change(&mut self.authors, seq, &event)? else { return self.push(place, seq, event) };
        let fits = self.unread_only || self.room.take_beside(prost::Message::encoded_len(&change));
        if fits && !self.unread_only {
            self.response.changes.push(change);
        }
        Ok(fits)
    }

    /// Adds the message if it is wanted; answers whether there was room.
    fn push(&mut self, place: &Place, seq: u64, event: store::EventRecord) -> storage::Result<bool> {
        let read = place.has_read(self.state, seq, &event)?;
        if self.unread_only && read {
            return Ok(true);
        }
        let look = Look { account: place.account, id: place.id, seq, read };
        let Some(message) = view::message(self.state, &mut self.authors, &look, event)? else { return Ok(true) };
        let fits = self.room.take(prost::Message::encoded_len(&message));
        if fits {
            self.response.messages.push(message);
        }
        Ok(fits)
    }

    /// Ends the page; the next one goes on after the `seen` one.
    fn stop(&mut self, letter: char, seen: u64) -> ControlFlow<()> {
        self.response.next_page_token = page::token(letter, &seen.to_be_bytes());
        ControlFlow::Break(())
    }
}
