//! What a subscription delivers (P5).
//!
//! Events have two sources. Most are in a timeline: a merge reads these in order. The others are read marks and the
//! account's own events, few enough to be gathered and sorted at once.

use std::{collections::VecDeque, ops::ControlFlow};

use super::{
    merge::{Merged, TimelineMerge},
    view::{self, Accounts, MEMBERS_SHOWN, Seen},
};
use crate::{
    machine::core::{
        keys,
        member::Member,
        records::{each, require},
    },
    storage::{self, kv::Read},
    types::{AccountId, ConversationId, Cursor, limits},
    wire::{
        chat::{self, subscribe_response::Event},
        store::{self, account_event, event_record::Kind},
    },
};

/// The events of the account after `cursor`, in the order of their cursors: at most `limit`, and about
/// [`PAGE_BYTES`](limits::PAGE_BYTES). Also returns the cursor to go on from. No events means that the caller has seen
/// everything.
///
/// - Messages; hidden or erased ones without their body, so that seqs stay dense.
/// - Messages deleted for everyone, or hidden by the account itself.
/// - Joins, departures and new titles: the conversation as it is now, but with the event's own seq as `last_seq`. If
///   the account has left since, it sees neither members nor counts.
/// - Read marks: its own, and in direct conversations the peer's, if the peer shows it. A mark that has moved several
///   times is delivered once, at its latest move.
///
/// With `only`, the caller vouches that none of the account's other conversations has anything new. A conversation
/// without news costs one row of a scan and one get.
pub fn events_after(
    state: &dyn Read,
    account: AccountId,
    cursor: Cursor,
    only: Option<&[ConversationId]>,
    limit: usize,
) -> storage::Result<(Vec<chat::SubscribeResponse>, Cursor)> {
    let mut feed = Feed {
        state,
        account,
        after: cursor,
        timelines: TimelineMerge::new(state),
        members: Vec::new(),
        others: VecDeque::new(),
        accounts: Accounts::new(state),
    };
    feed.gather(only)?;
    let mut events = Vec::new();
    let (mut last, mut bytes) = (cursor, 0);
    while events.len() < limit && bytes < limits::PAGE_BYTES {
        let Some((cursor, event)) = feed.next()? else { break };
        bytes += event.encoded_len();
        events.push(chat::SubscribeResponse { cursor: cursor.0, event: Some(event) });
        last = cursor;
    }
    Ok((events, last))
}

/// The events after one cursor, while they are read.
struct Feed<'a> {
    state: &'a dyn Read,
    account: AccountId,
    after: Cursor,
    timelines: TimelineMerge<'a>,
    /// The account in each conversation of `timelines`, by source; `None` if it has left since.
    members: Vec<Option<Member>>,
    /// The events that are in no timeline, by cursor.
    others: VecDeque<(Cursor, Event)>,
    accounts: Accounts<'a>,
}

impl Feed<'_> {
    /// Finds the news of the given conversations, or in all of the account's.
    fn gather(&mut self, only: Option<&[ConversationId]>) -> storage::Result<()> {
        if let Some(only) = only {
            for id in only {
                if let Some(member) = Member::find(self.state, self.account, *id)? {
                    self.add(member)?;
                }
            }
        } else {
            let state = self.state;
            each(state, &keys::all_of(keys::MEMBER, self.account.0), |key, record: store::MemberRecord| {
                self.add(Member::of_row(state, self.account, key, record)?)?;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        self.add_account_events()?;
        self.others.make_contiguous().sort_by_key(|(cursor, _)| *cursor);
        Ok(())
    }

    /// Adds the news of one conversation.
    fn add(&mut self, member: Member) -> storage::Result<()> {
        if member.record.moved_cursor > self.after.0 {
            self.add_mark(member.id, self.account, &member.record)?;
        }
        if member.conversation.mark_cursor > self.after.0 {
            let mark = view::peer_mark(self.state, &mut self.accounts, &member)?;
            if let Some((peer, mark)) = mark.filter(|(_, mark)| mark.moved_cursor > self.after.0) {
                self.add_mark(member.id, peer, &mark)?;
            }
        }
        if member.conversation.last_cursor > self.after.0 {
            let joined_seq = member.record.joined_seq;
            self.timelines.add(member.id, joined_seq, member.conversation.last_seq, self.after)?;
            self.members.push(Some(member));
        }
        Ok(())
    }

    /// Adds the latest move of a read mark, which is in no timeline.
    fn add_mark(&mut self, id: ConversationId, who: AccountId, mark: &store::MemberRecord) -> storage::Result<()> {
        let event = Event::Read(chat::ReadMarkMoved {
            conversation_id: id.to_string(),
            username: self.accounts.name(who.0)?,
            read_seq: mark.moved_seq,
        });
        self.others.push_back((Cursor(mark.moved_cursor), event));
        Ok(())
    }

    /// Adds the conversations that the account has left, and the messages that it has hidden.
    fn add_account_events(&mut self) -> storage::Result<()> {
        let state = self.state;
        let span = keys::all_of_from(keys::ACCOUNT_EVENT, self.account.0, self.after.0.saturating_add(1));
        each(state, &span, |key, event: store::AccountEvent| {
            match event.kind {
                Some(account_event::Kind::Left(left)) => {
                    let id = ConversationId(left.conversation_id);
                    self.timelines.add(id, left.joined_seq, left.left_seq, self.after)?;
                    self.members.push(None);
                }
                Some(account_event::Kind::Hidden(hidden)) => {
                    let messages = hidden.messages.into_iter().map(reference).collect();
                    let by = self.accounts.name(self.account.0)?;
                    let event = Event::Deleted(chat::MessagesDeleted { messages, by, ..Default::default() });
                    self.others.push_back((Cursor(keys::last_number(key)), event));
                }
                None => {}
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// The next event of both sources.
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

    /// The event in the form of the API, as the account sees it.
    fn view(&mut self, next: Merged) -> storage::Result<Event> {
        let Merged { source, id, seq, event } = next;
        let member = &self.members[source];
        match event.kind {
            Some(Kind::Deletion(deletion)) => {
                // Includes messages from before the account joined, because some clients find the conversation of the
                // event by its messages alone.
                let messages = deletion
                    .seqs
                    .into_iter()
                    .map(|seq| reference(store::MessageRef { conversation_id: id.0, seq }))
                    .collect();
                let by = self.accounts.name(event.author_id)?;
                let conversation_id = id.to_string();
                Ok(Event::Deleted(chat::MessagesDeleted { messages, by, seq, conversation_id }))
            }
            Some(Kind::Body(_) | Kind::Erased(_)) => {
                let read = match member {
                    Some(member) => member.has_read(self.state, seq, &event)?,
                    None => true,
                };
                let seen = Seen { by: self.account, id, seq, read };
                let message = view::message(self.state, &mut self.accounts, &seen, event)?;
                Ok(Event::Message(message.unwrap_or_default()))
            }
            _ => {
                let change = view::change(&mut self.accounts, seq, &event)?;
                let mut conversation = match member {
                    Some(member) => view::conversation(self.state, &mut self.accounts, member, MEMBERS_SHOWN)?,
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

    /// A room as an account sees it that has left. The title of a private room may have changed since, so it is not
    /// shown.
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
