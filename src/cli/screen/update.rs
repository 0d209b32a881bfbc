//! How each event changes the state, apart from keys: news of the subscription, answers to calls, fates of messages.

use super::{
    event::{Effect, Event},
    rows,
    state::{Connection, Outgoing, Quorum, Stage, State},
    timeline::is_unread,
};
use crate::{
    client::{Delivery, Recipient, Update},
    types::{ConversationId, RequestId, limits},
    wire::{
        Fault, Reason,
        chat::{Conversation, ListMessagesResponse, Message, MessagesDeleted, ReadMarkMoved, subscribe_response},
    },
};

impl State {
    /// Handles one event. The caller must run the effects in order.
    pub(super) fn handle(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Key(key) => self.key(key),
            Event::Paste(text) => self.paste(&text),
            Event::Update(update) => self.update(update),
            Event::Ended(fault) => self.connection = Connection::Ended(fault.message),
            Event::Listed(listed) => self.listed(listed),
            Event::Loaded { of, before, page } => self.loaded(&of, before, page),
            Event::OutboxRead(kept) => self.outgoing.extend(kept.into_iter().filter_map(Outgoing::from_outbox)),
            Event::NotKept { id, why } => self.not_kept(id, why),
            Event::Delivered { id, delivery } => self.delivered(id, delivery),
            Event::Marked { conversation, result } => self.marked(conversation, result),
            Event::Completed { prefix, names } => self.completed(&prefix, names),
            Event::LeaderOverdue { election } => {
                if self.quorum == Quorum::Electing && self.elections == election {
                    self.quorum = Quorum::Missing;
                }
            }
            Event::Notice(text) => self.notice = Some(text),
        }
        self.mark_read_in_view();
        std::mem::take(&mut self.effects)
    }

    fn update(&mut self, update: Update) {
        match update {
            Update::Connected(node) => {
                self.connection = Connection::Connected(node.to_string());
                self.quorum = Quorum::Present;
                self.refresh();
            }
            Update::Reconnecting(fault) => self.connection = Connection::Lost(fault.message),
            Update::NoQuorum => {
                self.quorum = Quorum::Electing;
                self.elections += 1;
                self.effects.push(Effect::AwaitLeader { election: self.elections });
            }
            Update::Quorum => {
                self.quorum = Quorum::Present;
                self.refresh();
            }
            Update::Broken(fault) => self.notice = Some(format!("WARNING: {}", fault.message)),
            Update::Event(delivered) => match delivered.event {
                Some(subscribe_response::Event::Message(message)) => self.message(message),
                Some(subscribe_response::Event::Deleted(deleted)) => self.deleted(&deleted),
                Some(subscribe_response::Event::Read(read)) => self.read(&read),
                Some(subscribe_response::Event::Conversation(conversation)) => self.changed(conversation),
                Some(subscribe_response::Event::Heartbeat(_)) | None => {}
            },
        }
    }

    /// After a connection or a quorum is back: loads what may have been missed, and retries waiting messages.
    fn refresh(&mut self) {
        self.list();
        self.marking = None;
        if let Some(open) = &mut self.open {
            open.marked.clear();
            open.loading = true;
            self.effects.push(Effect::Load { of: open.to.clone(), before: None });
        }
        self.effects.push(Effect::RetryNow);
    }

    /// Takes a message, from the stream or as the acknowledgement of one sent here. The same one may come by both ways.
    fn message(&mut self, message: Message) {
        let own = message.sender.eq_ignore_ascii_case(&self.account);
        match self.chats.iter().position(|chat| chat.conversation_id == message.conversation_id) {
            Some(at) => {
                let mut chat = self.chats.remove(at);
                // A listing may have counted this message already.
                if message.seq > chat.last_seq {
                    chat.last_seq = message.seq;
                    chat.unread_count += u64::from(!own && !message.read);
                }
                self.chats.insert(0, chat);
            }
            None => self.list(),
        }
        if own {
            self.match_outgoing(&message);
        }
        if let Some(open) = self.open.as_mut().filter(|open| open.is(&message.conversation_id)) {
            let moves = open.rows_below > 0 && !open.messages.contains_key(&message.seq);
            open.put(message);
            if moves {
                self.keep_view();
            }
        }
    }

    /// Takes a change of a conversation. The listing has the new title and members.
    fn changed(&mut self, conversation: Conversation) {
        let open = self.open.as_mut().filter(|open| open.is(&conversation.conversation_id));
        if let (Some(open), Some(change)) = (open, conversation.change) {
            let moves = open.rows_below > 0 && !open.changes.contains_key(&change.seq);
            open.put_change(change);
            if moves {
                self.scroll(1);
            }
        }
        self.list();
    }

    /// The stream may deliver a message of this account before its acknowledgement arrives. Hides the outgoing copy.
    fn match_outgoing(&mut self, message: &Message) {
        let here = self.open.as_ref().is_some_and(|open| open.is(&message.conversation_id));
        let fits = |out: &&mut Outgoing| here && !out.seen && !out.stage.needs_decision() && out.body == message.body;
        if let Some(out) = self.outgoing.iter_mut().find(fits) {
            out.seen = true;
        }
    }

    /// Takes a deletion: `seq` is 0 if this account has hidden the messages, else they were erased for everyone.
    fn deleted(&mut self, deleted: &MessagesDeleted) {
        if let Some(open) = &mut self.open {
            for place in &deleted.messages {
                if open.is(&place.conversation_id) {
                    open.delete(place.seq, deleted.seq == 0);
                }
            }
        }
        self.list();
    }

    /// Takes a read mark: a receipt of the other account, or this account's own mark from another device.
    fn read(&mut self, read: &ReadMarkMoved) {
        if !read.username.eq_ignore_ascii_case(&self.account) {
            if let Some(chat) = self.chats.iter_mut().find(|chat| chat.conversation_id == read.conversation_id) {
                chat.peer_read_seq = chat.peer_read_seq.max(read.read_seq);
            }
            if self.listing {
                // The listing under way may be older than this receipt.
                self.list_again = true;
            }
            return self.update_receipt();
        }
        match self.chats.iter_mut().find(|chat| chat.conversation_id == read.conversation_id) {
            Some(chat) if read.read_seq >= chat.last_seq => (chat.unread_count, chat.read_seq) = (0, read.read_seq),
            _ => self.list(),
        }
    }

    /// Asks for a listing, or for another one after the one under way.
    fn list(&mut self) {
        if self.listing {
            self.list_again = true;
        } else {
            self.listing = true;
            self.effects.push(Effect::List);
        }
    }

    /// Takes a listing, and opens a conversation after the first one.
    fn listed(&mut self, listed: Result<Vec<Conversation>, Fault>) {
        self.listing = false;
        match listed {
            Ok(chats) => {
                self.order(chats);
                self.resolve_open_id();
                self.update_receipt();
                if !self.has_listing {
                    self.has_listing = true;
                    self.open_first();
                }
            }
            Err(fault) => self.notice = Some(format!("cannot list the conversations: {}", fault.message)),
        }
        if std::mem::take(&mut self.list_again) {
            self.list();
        }
    }

    /// Takes a listing, but keeps the order of activity. Conversations that are new here come first.
    fn order(&mut self, chats: Vec<Conversation>) {
        let place = |chat: &Conversation| self.chats.iter().position(|old| old.conversation_id == chat.conversation_id);
        let mut placed: Vec<(Option<usize>, Conversation)> =
            chats.into_iter().map(|chat| (place(&chat), chat)).collect();
        // `None` sorts before every place.
        placed.sort_by_key(|(place, _)| *place);
        self.chats = placed.into_iter().map(|(_, chat)| chat).collect();
    }

    /// Opens the first unread conversation, or else the first.
    fn open_first(&mut self) {
        let unread = self.chats.iter().find(|chat| chat.unread_count > 0).or(self.chats.first());
        if let (None, Some(chat)) = (&self.open, unread.cloned()) {
            self.open_chat(&chat);
        }
    }

    /// Takes a page of messages. Ignored if another conversation is open by now.
    fn loaded(&mut self, of: &Recipient, before: Option<u64>, page: Result<ListMessagesResponse, Fault>) {
        let Some(open) = self.open.as_mut().filter(|open| open.to == *of) else { return };
        match page {
            Ok(page) => open.load(before, page),
            // Not found: a direct conversation without messages.
            Err(fault) if fault.reason.exit_code() == 3 => (open.loading, open.complete) = (false, true),
            Err(fault) => {
                open.loading = false;
                self.notice = Some(format!("cannot read messages: {}", fault.message));
            }
        }
        self.seek();
    }

    /// Takes the result of an attempt to send.
    fn delivered(&mut self, id: RequestId, delivery: Delivery) {
        match delivery {
            Delivery::Sent(answer) => {
                // Only a quorum acknowledges. The node that serves us may not have heard of the new leader yet.
                self.quorum = Quorum::Present;
                let out = self.outgoing.iter().position(|out| out.id == id).map(|at| self.outgoing.remove(at));
                let Some(message) = answer.message else { return };
                let begins_here = out.is_some_and(|out| self.is_here(&out));
                if let Some(open) = self.open.as_mut().filter(|open| begins_here && open.id.is_none()) {
                    open.id = message.conversation_id.parse().ok();
                }
                self.message(message);
            }
            Delivery::Waiting(fault) => {
                // The leader itself says so.
                if fault.reason == Reason::NoQuorum {
                    self.quorum = Quorum::Missing;
                }
                self.set_stage(id, Stage::Waiting(fault.message));
            }
            Delivery::Refused(fault) => self.set_stage(id, Stage::Failed(fault.message)),
            Delivery::TooOld(fault) => {
                self.set_stage(id, Stage::TooOld);
                // It names both clocks: a message that was just typed is too old only by a wrong one.
                self.notice = Some(fault.message);
            }
        }
    }

    /// A message could not be written to disk, so it was not sent. The person may try again.
    fn not_kept(&mut self, id: RequestId, why: String) {
        self.set_stage(id, Stage::Failed(why));
        if let Some(out) = self.outgoing.iter_mut().find(|out| out.id == id) {
            out.on_disk = false;
        }
    }

    /// Sets the stage of an outgoing message. A failed one is shown again even if the stream seemed to have delivered it.
    /// One that is not in the list belongs to a room known by its title only.
    fn set_stage(&mut self, id: RequestId, stage: Stage) {
        match self.outgoing.iter_mut().find(|out| out.id == id) {
            Some(out) => {
                out.seen &= !stage.needs_decision();
                out.stage = stage;
            }
            None if stage.needs_decision() => {
                self.notice = Some("an earlier message needs your decision: see `chat outbox`".into())
            }
            None => {}
        }
    }

    /// Marks the unread messages in view as read. Those above and below it stay unread.
    fn mark_read_in_view(&mut self) {
        let Some(open) = self.open.as_ref().filter(|open| !open.loading) else { return };
        let chat = self.chats.iter().find(|chat| open.is(&chat.conversation_id) && chat.unread_count > 0);
        let (Some(id), Some(chat)) = (open.id, chat) else { return };
        let is_new = |seq: &u64| {
            *seq > chat.read_seq && open.messages.get(seq).is_some_and(|message| is_unread(message, &self.account))
        };
        let mut seen: Vec<u64> = rows::in_view(self, open).filter_map(|row| row.ends).filter(is_new).collect();
        let Some(newest) = seen.last().copied() else { return };
        if seen.len() as u64 >= chat.unread_count {
            let done = self.marking.is_some_and(|(marked, up_to)| marked == id && up_to >= newest);
            if !done {
                self.marking = Some((id, newest));
                self.effects.push(Effect::Mark { conversation: id, up_to: newest });
            }
            return;
        }
        seen.retain(|seq| !open.marked.contains(seq));
        seen.truncate(limits::MESSAGE_REFS);
        let Some(open) = self.open.as_mut().filter(|_| !seen.is_empty()) else { return };
        open.marked.extend(&seen);
        self.effects.push(Effect::MarkSeen { conversation: id, seqs: seen });
    }

    /// A read mark was set or not. The listing is asked for if messages have come since.
    fn marked(&mut self, conversation: ConversationId, result: Result<(), Fault>) {
        let id = conversation.to_string();
        let up_to = self.marking.filter(|(marked, _)| *marked == conversation).map_or(0, |(_, up_to)| up_to);
        match (result, self.chats.iter_mut().find(|chat| chat.conversation_id == id)) {
            (Ok(()), Some(chat)) if up_to >= chat.last_seq => chat.unread_count = 0,
            (Ok(()), _) => self.list(),
            // Tried again with the next message, or after the next connection.
            (Err(_), _) => {}
        }
    }
}
