//! What a subscription delivers (P5).

use std::{collections::VecDeque, ops::ControlFlow};

use super::{
    conversations::place,
    timeline::{Next, Timelines},
    view::{self, Authors, Look, MEMBERS_SHOWN},
};
use crate::{
    machine::{
        keys,
        reading::Place,
        records::{each, membership, require},
    },
    storage::{self, kv::Read},
    types::{AccountId, ConversationId, Cursor, limits},
    wire::{
        chat::{self, subscribe_response::Event},
        store::{self, account_event, event_record::Kind},
    },
};

/// Every event of the account after `cursor`, in the order of their cursors: at most `limit`, and about
/// [`PAGE_BYTES`](limits::PAGE_BYTES). The second part is the cursor to go on from; when nothing came, all was seen.
///
/// - Messages; hidden or erased ones as tombstones, so that seqs stay dense.
/// - Messages deleted for everyone, or hidden by the account itself.
/// - Joins, departures and new titles, as the conversation is now but with the event's own seq as `last_seq`. If the
///   account itself is out since, it sees neither members nor counts.
/// - Read marks: its own, and in direct conversations the other's if that is shown. A mark that has moved again since is told once, at
///   its latest move.
///
/// With `only`, the caller vouches that no other of the account's conversations has anything new. A conversation
/// without news costs one row of a scan and one get.
pub fn events_after(
    state: &dyn Read,
    account: AccountId,
    cursor: Cursor,
    only: Option<&[ConversationId]>,
    limit: usize,
) -> storage::Result<(Vec<chat::SubscribeResponse>, Cursor)> {
    let mut news = News {
        state,
        account,
        after: cursor,
        timelines: Timelines::new(state),
        sources: Vec::new(),
        others: VecDeque::new(),
        authors: Authors::new(state),
    };
    news.gather(only)?;
    let mut events = Vec::new();
    let (mut last, mut bytes) = (cursor, 0);
    while events.len() < limit && bytes < limits::PAGE_BYTES {
        let Some((cursor, event)) = news.next()? else { break };
        bytes += event.encoded_len();
        events.push(chat::SubscribeResponse { cursor: cursor.0, event: Some(event) });
        last = cursor;
    }
    Ok((events, last))
}

/// Where events of a timeline are seen from.
struct Source {
    /// `None` if the account is out since.
    place: Option<Place>,
}

struct News<'a> {
    state: &'a dyn Read,
    account: AccountId,
    after: Cursor,
    timelines: Timelines<'a>,
    sources: Vec<Source>,
    /// What is in no timeline, by cursor.
    others: VecDeque<(Cursor, Event)>,
    authors: Authors<'a>,
}

impl News<'_> {
    fn gather(&mut self, only: Option<&[ConversationId]>) -> storage::Result<()> {
        if let Some(only) = only {
            for id in only {
                if let Some((conversation, member)) = membership(self.state, self.account, *id)? {
                    self.add(Place { account: self.account, id: *id, conversation, member })?;
                }
            }
        } else {
            let state = self.state;
            each(state, &keys::all_of(keys::MEMBER, self.account.0), |key, member: store::MemberRecord| {
                self.add(place(state, self.account, key, member)?)?;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        self.add_account_events()?;
        self.others.make_contiguous().sort_by_key(|(cursor, _)| *cursor);
        Ok(())
    }

    fn add(&mut self, place: Place) -> storage::Result<()> {
        if place.member.moved_cursor > self.after.0 {
            self.add_mark(place.id, self.account, &place.member)?;
        }
        if place.conversation.mark_cursor > self.after.0 {
            let mark = view::peer_mark(self.state, &mut self.authors, &place)?;
            if let Some((peer, mark)) = mark.filter(|(_, mark)| mark.moved_cursor > self.after.0) {
                self.add_mark(place.id, peer, &mark)?;
            }
        }
        if place.conversation.last_cursor > self.after.0 {
            let joined_seq = place.member.joined_seq;
            self.timelines.add(place.id, joined_seq, place.conversation.last_seq, self.after)?;
            self.sources.push(Source { place: Some(place) });
        }
        Ok(())
    }

    fn add_mark(&mut self, id: ConversationId, who: AccountId, mark: &store::MemberRecord) -> storage::Result<()> {
        let event = Event::Read(chat::ReadMarkMoved {
            conversation_id: id.to_string(),
            username: self.authors.name(who.0)?,
            read_seq: mark.moved_seq,
        });
        self.others.push_back((Cursor(mark.moved_cursor), event));
        Ok(())
    }

    fn add_account_events(&mut self) -> storage::Result<()> {
        let state = self.state;
        let span = keys::all_of_from(keys::ACCOUNT_EVENT, self.account.0, self.after.0.saturating_add(1));
        each(state, &span, |key, event: store::AccountEvent| {
            match event.kind {
                Some(account_event::Kind::Left(left)) => {
                    let id = ConversationId(left.conversation_id);
                    self.timelines.add(id, left.joined_seq, left.left_seq, self.after)?;
                    self.sources.push(Source { place: None });
                }
                Some(account_event::Kind::Hidden(hidden)) => {
                    let messages = hidden.messages.into_iter().map(reference).collect();
                    let by = self.authors.name(self.account.0)?;
                    let event = Event::Deleted(chat::MessagesDeleted { messages, by, ..Default::default() });
                    self.others.push_back((Cursor(keys::last_number(key)), event));
                }
                None => {}
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn next(&mut self) -> storage::Result<Option<(Cursor, Event)>> {
        let other = self.others.front().map(|(cursor, _)| *cursor);
        match (self.timelines.peek(), other) {
            (None, _) => Ok(self.others.pop_front()),
            (Some(timeline), Some(other)) if other < timeline => Ok(self.others.pop_front()),
            (Some(cursor), _) => {
                let Some(next) = self.timelines.next()? else { return Ok(None) };
                Ok(Some((cursor, self.view(next)?)))
            }
        }
    }

    fn view(&mut self, next: Next) -> storage::Result<Event> {
        let Next { source, id, seq, event } = next;
        let source = &self.sources[source];
        match event.kind {
            Some(Kind::Deletion(deletion)) => {
                // Those from before the account joined too, for clients that know the place by the messages alone.
                let messages = deletion
                    .seqs
                    .into_iter()
                    .map(|seq| reference(store::MessageRef { conversation_id: id.0, seq }))
                    .collect();
                let by = self.authors.name(event.author_id)?;
                let conversation_id = id.to_string();
                Ok(Event::Deleted(chat::MessagesDeleted { messages, by, seq, conversation_id }))
            }
            Some(Kind::Body(_) | Kind::Erased(_)) => {
                let read = match &source.place {
                    Some(place) => place.has_read(self.state, seq, &event)?,
                    None => true,
                };
                let look = Look { account: self.account, id, seq, read };
                let message = view::message(self.state, &mut self.authors, &look, event)?;
                Ok(Event::Message(message.unwrap_or_default()))
            }
            _ => {
                let change = view::change(&mut self.authors, seq, &event)?;
                let mut conversation = match &source.place {
                    Some(place) => view::conversation(self.state, &mut self.authors, place, MEMBERS_SHOWN)?,
                    None => self.seen_from_outside(id)?,
                };
                if let Some(Kind::Renamed(title)) = event.kind {
                    conversation.title = title;
                }
                (conversation.last_seq, conversation.change) = (seq, change);
                Ok(Event::Conversation(conversation))
            }
        }
    }

    /// A room as one who is out sees it: what a private one is called by now is not for them.
    fn seen_from_outside(&self, id: ConversationId) -> storage::Result<chat::Conversation> {
        let record: store::ConversationRecord = require(self.state, &keys::conversation(id))?;
        Ok(chat::Conversation {
            conversation_id: id.to_string(),
            title: if record.private { String::new() } else { record.title },
            direct: record.direct,
            private: record.private,
            ..Default::default()
        })
    }
}

fn reference(message: store::MessageRef) -> chat::MessageRef {
    chat::MessageRef { conversation_id: ConversationId(message.conversation_id).to_string(), seq: message.seq }
}
