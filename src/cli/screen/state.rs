//! What the screen knows, and how each event changes it.

use std::collections::BTreeMap;

use super::{
    compose::Composer,
    event::{Effect, Event},
    rows,
    timeline::Timeline,
};
use crate::{
    client::{Delivery, Fate, Kept, Recipient, To, Update},
    types::{ConversationId, RequestId},
    wire::{
        Fault,
        chat::{Conversation, ListMessagesResponse, Message, MessagesDeleted, ReadMarkMoved, subscribe_response},
    },
};

/// The whole of the screen. Pure, but for the request ids, which it draws from the seam it is given.
pub(super) struct State {
    pub(super) account: String,
    /// Columns and rows of the terminal.
    pub(super) size: (u16, u16),
    /// The latest first, as far as is known.
    pub(super) chats: Vec<Conversation>,
    pub(super) open: Option<Timeline>,
    pub(super) composer: Composer,
    drafts: BTreeMap<String, Composer>,
    pub(super) mode: Mode,
    pub(super) link: Link,
    pub(super) quorum: bool,
    pub(super) notice: Option<String>,
    pub(super) outgoing: Vec<Outgoing>,
    ids: Box<dyn FnMut() -> RequestId + Send>,
    listed: bool,
    listing: bool,
    list_again: bool,
    marking: Option<(ConversationId, u64)>,
    pub(super) effects: Vec<Effect>,
}

/// What the keys mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// Writing a message.
    Compose,
    /// Searching the open conversation; at the message found. `seeking`: older ones are being loaded for it.
    Search { words: Composer, at: Option<u64>, seeking: bool },
    /// Choosing a conversation or a person.
    GoTo { words: Composer, names: Vec<String>, picked: usize },
    /// Reading the help.
    Help,
}

/// How the screen is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    /// For the first time.
    Connecting,
    /// To this node.
    Up(String),
    /// Not any more, for this reason.
    Lost(String),
    /// Never again, for this reason.
    Ended(String),
}

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) id: RequestId,
    pub(super) to: Recipient,
    pub(super) body: String,
    pub(super) stage: Stage,
    /// It seems to stand in the timeline already, though nobody has acknowledged it yet.
    pub(super) seen: bool,
    /// The outbox has it.
    pub(super) on_disk: bool,
}

/// How far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    Sending,
    /// Tried, and to be tried again by itself.
    Waiting(String),
    /// Refused for certain.
    Failed(String),
    /// Perhaps delivered: the person decides.
    TooOld,
}

impl Stage {
    /// Whether the person must decide what becomes of it.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::TooOld)
    }
}

impl State {
    pub(super) fn new(account: &str, size: (u16, u16), ids: Box<dyn FnMut() -> RequestId + Send>) -> Self {
        Self {
            account: account.to_owned(),
            size,
            chats: Vec::new(),
            open: None,
            composer: Composer::default(),
            drafts: BTreeMap::new(),
            mode: Mode::Compose,
            link: Link::Connecting,
            quorum: true,
            notice: None,
            outgoing: Vec::new(),
            ids,
            listed: false,
            listing: false,
            list_again: false,
            marking: None,
            effects: Vec::new(),
        }
    }

    /// Takes an event, and says what is to be done.
    pub(super) fn take(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Key(key) => self.key(key),
            Event::Paste(text) => self.paste(&text),
            Event::Update(update) => self.update(update),
            Event::Ended(fault) => self.link = Link::Ended(fault.message),
            Event::Listed(listed) => self.listed(listed),
            Event::Loaded { of, before, page } => self.loaded(&of, before, page),
            Event::Found(kept) => self.outgoing.extend(kept.into_iter().filter_map(Outgoing::of)),
            Event::NotKept { id, why } => self.not_kept(id, why),
            Event::Delivered { id, delivery } => self.delivered(id, delivery),
            Event::Marked { conversation, result } => self.marked(conversation, result),
            Event::Completed { prefix, names } => self.completed(&prefix, names),
            Event::Notice(text) => self.notice = Some(text),
        }
        self.mark();
        std::mem::take(&mut self.effects)
    }

    /// The terminal has another size now.
    pub(super) fn resize(&mut self, columns: u16, rows: u16) {
        self.size = (columns, rows);
        self.scroll(0);
    }

    pub(super) fn request_id(&mut self) -> RequestId {
        (self.ids)()
    }

    fn update(&mut self, update: Update) {
        match update {
            Update::Connected(node) => {
                self.link = Link::Up(node.to_string());
                self.quorum = true;
                self.refresh();
            }
            Update::Reconnecting(fault) => self.link = Link::Lost(fault.message),
            Update::NoQuorum => self.quorum = false,
            Update::Quorum => {
                self.quorum = true;
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

    /// All is well again: what may have been missed is asked for, what waits is sent.
    fn refresh(&mut self) {
        self.list();
        self.marking = None;
        if let Some(open) = &mut self.open {
            open.loading = true;
            self.effects.push(Effect::Load { of: open.to.clone(), before: None });
        }
        self.effects.push(Effect::Hurry);
    }

    fn message(&mut self, message: Message) {
        let own = message.sender.eq_ignore_ascii_case(&self.account);
        match self.chats.iter().position(|chat| chat.conversation_id == message.conversation_id) {
            Some(at) => {
                let mut chat = self.chats.remove(at);
                // The listing may have counted it already.
                if message.seq > chat.last_seq {
                    chat.last_seq = message.seq;
                    chat.unread_count += u64::from(!own && !message.read);
                }
                self.chats.insert(0, chat);
            }
            None => self.list(),
        }
        if own {
            self.recognise(&message);
        }
        if let Some(open) = self.open.as_mut().filter(|open| open.is(&message.conversation_id)) {
            let moves = open.above > 0 && !open.messages.contains_key(&message.seq);
            open.put(message);
            if moves {
                self.hold_view();
            }
        }
    }

    fn changed(&mut self, conversation: Conversation) {
        let open = self.open.as_mut().filter(|open| open.is(&conversation.conversation_id));
        if let (Some(open), Some(change)) = (open, conversation.change) {
            let moves = open.above > 0 && !open.changes.contains_key(&change.seq);
            open.put_change(change);
            if moves {
                self.scroll(1);
            }
        }
        self.list();
    }

    /// A message of one's own came by the stream before its acknowledgement did: it is not shown twice.
    fn recognise(&mut self, message: &Message) {
        let here = self.open.as_ref().is_some_and(|open| open.is(&message.conversation_id));
        let fits = |out: &&mut Outgoing| here && !out.seen && !out.stage.is_over() && out.body == message.body;
        if let Some(out) = self.outgoing.iter_mut().find(fits) {
            out.seen = true;
        }
    }

    /// Keeps what is in view where it is while a message comes below it.
    fn hold_view(&mut self) {
        let (width, _) = rows::view(self);
        let Some(open) = &self.open else { return };
        let added = open.messages.values().next_back().map_or(0, |last| rows::of_message(self, last, width).len());
        self.scroll(isize::try_from(added).unwrap_or(0));
    }

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

    fn read(&mut self, read: &ReadMarkMoved) {
        if !read.username.eq_ignore_ascii_case(&self.account) {
            if let Some(chat) = self.chats.iter_mut().find(|chat| chat.conversation_id == read.conversation_id) {
                chat.peer_read_seq = chat.peer_read_seq.max(read.read_seq);
            }
            if self.listing {
                // What is on its way may be from before.
                self.list_again = true;
            }
            return self.see_receipt();
        }
        match self.chats.iter_mut().find(|chat| chat.conversation_id == read.conversation_id) {
            Some(chat) if read.read_seq >= chat.last_seq => (chat.unread_count, chat.read_seq) = (0, read.read_seq),
            _ => self.list(),
        }
    }

    /// Takes over how far the other one has read the open conversation.
    fn see_receipt(&mut self) {
        let Some(open) = &mut self.open else { return };
        let chat = self.chats.iter().find(|chat| open.is(&chat.conversation_id));
        open.read_by_other = chat.filter(|chat| chat.direct).map_or(0, |chat| chat.peer_read_seq);
    }

    pub(super) fn list(&mut self) {
        if self.listing {
            self.list_again = true;
        } else {
            self.listing = true;
            self.effects.push(Effect::List);
        }
    }

    fn listed(&mut self, listed: Result<Vec<Conversation>, Fault>) {
        self.listing = false;
        match listed {
            Ok(chats) => {
                self.order(chats);
                self.find_id();
                self.see_receipt();
                if !self.listed {
                    self.listed = true;
                    self.open_first();
                }
            }
            Err(fault) => self.notice = Some(format!("the conversations cannot be listed: {}", fault.message)),
        }
        if std::mem::take(&mut self.list_again) {
            self.list();
        }
    }

    /// Takes a listing, in the order in which conversations were last active here.
    fn order(&mut self, chats: Vec<Conversation>) {
        let place = |chat: &Conversation| self.chats.iter().position(|old| old.conversation_id == chat.conversation_id);
        let mut placed: Vec<(Option<usize>, Conversation)> =
            chats.into_iter().map(|chat| (place(&chat), chat)).collect();
        // New ones come first: `None` is less than any place.
        placed.sort_by_key(|(place, _)| *place);
        self.chats = placed.into_iter().map(|(_, chat)| chat).collect();
    }

    fn find_id(&mut self) {
        let account = &self.account;
        let Some(open) = self.open.as_mut().filter(|open| open.id.is_none()) else { return };
        let found = self.chats.iter().find(|chat| recipient(chat, account).as_ref() == Some(&open.to));
        open.id = found.and_then(|chat| chat.conversation_id.parse().ok());
        if open.id.is_some() && !open.loading {
            // It began with a message that is not here yet.
            open.loading = true;
            self.effects.push(Effect::Load { of: open.to.clone(), before: None });
        }
    }

    fn open_first(&mut self) {
        let unread = self.chats.iter().find(|chat| chat.unread_count > 0).or(self.chats.first());
        if let (None, Some(chat)) = (&self.open, unread.cloned()) {
            self.open_chat(&chat);
        }
    }

    /// Opens a conversation of the list.
    pub(super) fn open_chat(&mut self, chat: &Conversation) {
        if let Some(to) = recipient(chat, &self.account) {
            self.open_with(to, chat.conversation_id.parse().ok());
        }
    }

    /// Opens a conversation; the text being written stays with the one that it was for.
    pub(super) fn open_with(&mut self, to: Recipient, id: Option<ConversationId>) {
        if self.open.as_ref().is_some_and(|open| open.to == to) {
            return;
        }
        if let Some(before) = self.open.take() {
            let draft = std::mem::take(&mut self.composer);
            if draft.is_empty() {
                self.drafts.remove(&key(&before.to));
            } else {
                self.drafts.insert(key(&before.to), draft);
            }
            self.composer = self.drafts.remove(&key(&to)).unwrap_or_default();
        }
        self.effects.push(Effect::Load { of: to.clone(), before: None });
        self.open = Some(Timeline::new(to, id));
        self.find_id();
        self.see_receipt();
    }

    fn loaded(&mut self, of: &Recipient, before: Option<u64>, page: Result<ListMessagesResponse, Fault>) {
        let Some(open) = self.open.as_mut().filter(|open| open.to == *of) else { return };
        match page {
            Ok(page) => open.load(before, page),
            // A conversation with nothing in it yet.
            Err(fault) if fault.reason.exit_code() == 3 => (open.loading, open.complete) = (false, true),
            Err(fault) => {
                open.loading = false;
                self.notice = Some(format!("messages cannot be read: {}", fault.message));
            }
        }
        self.seek();
    }

    fn delivered(&mut self, id: RequestId, delivery: Delivery) {
        match delivery {
            Delivery::Sent(answer) => {
                let out = self.outgoing.iter().position(|out| out.id == id).map(|at| self.outgoing.remove(at));
                let Some(message) = answer.message else { return };
                let begins_here = out.is_some_and(|out| self.is_here(&out));
                if let Some(open) = self.open.as_mut().filter(|open| begins_here && open.id.is_none()) {
                    open.id = message.conversation_id.parse().ok();
                }
                self.message(message);
            }
            Delivery::Waiting(fault) => self.set_stage(id, Stage::Waiting(fault.message)),
            Delivery::Refused(fault) => self.set_stage(id, Stage::Failed(fault.message)),
            Delivery::TooOld(_) => self.set_stage(id, Stage::TooOld),
        }
    }

    fn not_kept(&mut self, id: RequestId, why: String) {
        self.set_stage(id, Stage::Failed(why));
        if let Some(out) = self.outgoing.iter_mut().find(|out| out.id == id) {
            out.on_disk = false;
        }
    }

    pub(super) fn set_stage(&mut self, id: RequestId, stage: Stage) {
        match self.outgoing.iter_mut().find(|out| out.id == id) {
            Some(out) => {
                out.seen &= !stage.is_over();
                out.stage = stage;
            }
            None if stage.is_over() => {
                self.notice = Some("a message kept earlier awaits your word: `chat outbox`".into())
            }
            None => {}
        }
    }

    /// Marks what is in view as read: the open conversation, if its end is shown.
    fn mark(&mut self) {
        let Some(open) = self.open.as_ref().filter(|open| open.above == 0 && !open.loading) else { return };
        let (Some(id), Some(newest)) = (open.id, open.messages.keys().next_back().copied()) else { return };
        let unread = self.chats.iter().any(|chat| open.is(&chat.conversation_id) && chat.unread_count > 0);
        let done = self.marking.is_some_and(|(marked, up_to)| marked == id && up_to >= newest);
        if unread && !done {
            self.marking = Some((id, newest));
            self.effects.push(Effect::Mark { conversation: id, up_to: newest });
        }
    }

    fn marked(&mut self, conversation: ConversationId, result: Result<(), Fault>) {
        let id = conversation.to_string();
        let up_to = self.marking.filter(|(marked, _)| *marked == conversation).map_or(0, |(_, up_to)| up_to);
        match (result, self.chats.iter_mut().find(|chat| chat.conversation_id == id)) {
            (Ok(()), Some(chat)) if up_to >= chat.last_seq => chat.unread_count = 0,
            (Ok(()), _) => self.list(),
            // The next message, or the next connection, tries again.
            (Err(_), _) => {}
        }
    }

    /// Whether a message on its way belongs to the open conversation.
    pub(super) fn is_here(&self, out: &Outgoing) -> bool {
        self.open.as_ref().is_some_and(|open| match &out.to {
            Recipient::Conversation(id) => open.id == Some(*id),
            to => key(to) == key(&open.to),
        })
    }
}

impl Outgoing {
    /// What the outbox holds for a conversation. For a room of which only the title is known, no place is yet.
    fn of(kept: Kept) -> Option<Self> {
        let To::Known(to) = kept.to else { return None };
        let stage = match kept.fate {
            Fate::Waiting => Stage::Sending,
            Fate::Refused(why) => Stage::Failed(why),
            Fate::TooOld => Stage::TooOld,
        };
        Some(Self { id: kept.id, to, body: kept.body, stage, seen: false, on_disk: true })
    }
}

/// The other one in a direct conversation.
pub(super) fn other<'a>(chat: &'a Conversation, me: &str) -> Option<&'a str> {
    chat.members.iter().map(String::as_str).find(|name| !name.eq_ignore_ascii_case(me))
}

/// How a conversation of the list is addressed.
fn recipient(chat: &Conversation, me: &str) -> Option<Recipient> {
    let id = chat.conversation_id.parse().ok().map(Recipient::Conversation);
    match other(chat, me) {
        Some(name) if chat.direct => Some(Recipient::Username(name.to_owned())),
        _ => id,
    }
}

fn key(to: &Recipient) -> String {
    match to {
        Recipient::Username(name) => format!("@{}", name.to_ascii_lowercase()),
        Recipient::Conversation(id) => id.to_string(),
    }
}
