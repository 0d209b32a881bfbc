//! The state of the screen, and which conversation is open.

use std::collections::BTreeMap;

use super::{compose::Composer, event::Effect, timeline::Timeline};
use crate::{
    client::{Fate, Kept, Recipient, To},
    types::{ConversationId, RequestId},
    wire::chat::Conversation,
};

/// The state of the screen. It does no IO: it asks for calls by [`Effect`]s.
///
/// # Invariants
/// - `composer` holds the draft of the open conversation. `drafts` holds those of the others, and no empty ones.
/// - `chats` is in order of activity as seen here, the latest first; a listing does not reorder it.
/// - At most one listing is under way (`listing`). If news arrive meanwhile, the listing may be older than the news, so
///   `list_again` asks for another one.
/// - Each message in `outgoing` has a request id of its own, and stays until the service acknowledges it or the person
///   drops it. Its order is the order of sending.
/// - A message is marked as read only after it was in view. If every unread message of the conversation is in view, the
///   read mark moves; otherwise those in view are marked one by one.
pub(super) struct State {
    /// The signed-in account.
    pub(super) account: String,
    /// Columns and rows of the terminal.
    pub(super) size: (u16, u16),
    /// All conversations, as in the list at the left.
    pub(super) chats: Vec<Conversation>,
    /// The open conversation.
    pub(super) open: Option<Timeline>,
    pub(super) composer: Composer,
    drafts: BTreeMap<String, Composer>,
    pub(super) mode: Mode,
    pub(super) connection: Connection,
    pub(super) quorum: Quorum,
    /// Elections seen so far, so that the end of the wait for one is not taken for that of another.
    pub(super) elections: u64,
    /// A message to the person, in the last row until the next key.
    pub(super) notice: Option<String>,
    /// Messages sent here and not acknowledged yet.
    pub(super) outgoing: Vec<Outgoing>,
    /// The source of request ids, so that tests can fix them.
    ids: Box<dyn FnMut() -> RequestId + Send>,
    /// A first listing has arrived, and with it a conversation was opened.
    pub(super) has_listing: bool,
    pub(super) listing: bool,
    pub(super) list_again: bool,
    /// The read mark last asked for, so that it is asked for once.
    pub(super) marking: Option<(ConversationId, u64)>,
    /// Effects of the event being handled.
    pub(super) effects: Vec<Effect>,
}

/// What keys do at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// They write a message.
    Compose,
    /// They search the open conversation for `words`. `at` is the message found last. While `seeking`, older messages are
    /// being loaded to go on with the search.
    Search { words: Composer, at: Option<u64>, seeking: bool },
    /// They choose a conversation or a user. `names` are users whose names begin with `words`; `picked` is an index into
    /// [`State::choices`].
    GoTo { words: Composer, names: Vec<String>, picked: usize },
    /// They close the help.
    Help,
}

/// The state of the subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Connection {
    /// The first attempt is under way.
    Connecting,
    /// Connected to this node.
    Connected(String),
    /// Lost for this reason; the client looks for another node.
    Lost(String),
    /// Ended for good for this reason.
    Ended(String),
}

/// What the screen knows of the quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quorum {
    /// The node that serves us reaches one.
    Present,
    /// That node knows no leader. After a failure a new one is elected in about a second.
    Electing,
    /// A leader says that too few nodes answer, or an election has taken so long that too few nodes must be up.
    Missing,
}

/// A message that was sent here and that the service has not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) id: RequestId,
    pub(super) to: Recipient,
    pub(super) body: String,
    pub(super) stage: Stage,
    /// The stream has delivered a message with this body, which is probably this one, so it is not shown twice. Only the
    /// acknowledgement is certain, as the stream does not carry request ids.
    pub(super) seen: bool,
    /// The outbox holds it. False after a failed write to disk.
    pub(super) on_disk: bool,
}

/// How far an outgoing message has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// Being sent.
    Sending,
    /// An attempt failed for this reason; it is repeated by itself.
    Waiting(String),
    /// Refused for certain, for this reason.
    Failed(String),
    /// Too old to repeat. It may or may not have been delivered.
    TooOld,
}

impl Stage {
    /// Whether nothing more happens until the person sends the message again or drops it.
    pub(super) fn needs_decision(&self) -> bool {
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
            connection: Connection::Connecting,
            quorum: Quorum::Present,
            elections: 0,
            notice: None,
            outgoing: Vec::new(),
            ids,
            has_listing: false,
            listing: false,
            list_again: false,
            marking: None,
            effects: Vec::new(),
        }
    }

    /// A fresh request id.
    pub(super) fn request_id(&mut self) -> RequestId {
        (self.ids)()
    }

    /// Copies from the listing how far the other account has read the open conversation.
    pub(super) fn update_receipt(&mut self) {
        let Some(open) = &mut self.open else { return };
        let chat = self.chats.iter().find(|chat| open.is(&chat.conversation_id));
        open.read_by_other = chat.filter(|chat| chat.direct).map_or(0, |chat| chat.peer_read_seq);
    }

    /// Finds the id of the open conversation in the listing. A direct conversation has none before its first message.
    pub(super) fn resolve_open_id(&mut self) {
        let account = &self.account;
        let Some(open) = self.open.as_mut().filter(|open| open.id.is_none()) else { return };
        let found = self.chats.iter().find(|chat| recipient(chat, account).as_ref() == Some(&open.to));
        open.id = found.and_then(|chat| chat.conversation_id.parse().ok());
        if open.id.is_some() && !open.loading {
            // The other account has begun the conversation, so there is a message to load.
            open.loading = true;
            self.effects.push(Effect::Load { of: open.to.clone(), before: None });
        }
    }

    /// Opens a conversation of the list.
    pub(super) fn open_chat(&mut self, chat: &Conversation) {
        if let Some(to) = recipient(chat, &self.account) {
            self.open_with(to, chat.conversation_id.parse().ok());
        }
    }

    /// Opens a conversation. The draft stays with the conversation that it was written for.
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
        self.resolve_open_id();
        self.update_receipt();
        self.note_unread();
    }

    /// Remembers where the new messages of the conversation that was just opened begin.
    fn note_unread(&mut self) {
        let Some(open) = &mut self.open else { return };
        let chat = self.chats.iter().find(|chat| open.is(&chat.conversation_id));
        open.read_before = chat.filter(|chat| chat.unread_count > 0).map(|chat| chat.read_seq);
    }

    /// Whether an outgoing message belongs to the open conversation.
    pub(super) fn is_here(&self, out: &Outgoing) -> bool {
        self.open.as_ref().is_some_and(|open| match &out.to {
            Recipient::Conversation(id) => open.id == Some(*id),
            to => key(to) == key(&open.to),
        })
    }
}

impl Outgoing {
    /// A message of the outbox. `None` for a room that is known by its title only: it belongs to no conversation yet.
    pub(super) fn from_outbox(kept: Kept) -> Option<Self> {
        let To::Known(to) = kept.to else { return None };
        let stage = match kept.fate {
            Fate::Waiting => Stage::Sending,
            Fate::Refused(why) => Stage::Failed(why),
            Fate::TooOld => Stage::TooOld,
        };
        Some(Self { id: kept.id, to, body: kept.body, stage, seen: false, on_disk: true })
    }
}

/// The other account of a direct conversation.
pub(super) fn other<'a>(chat: &'a Conversation, me: &str) -> Option<&'a str> {
    chat.members.iter().map(String::as_str).find(|name| !name.eq_ignore_ascii_case(me))
}

/// The recipient by which a conversation of the list is addressed.
pub(super) fn recipient(chat: &Conversation, me: &str) -> Option<Recipient> {
    let id = chat.conversation_id.parse().ok().map(Recipient::Conversation);
    match other(chat, me) {
        Some(name) if chat.direct => Some(Recipient::Username(name.to_owned())),
        _ => id,
    }
}

/// A key for `drafts`: names regardless of case, ids never equal to names.
fn key(to: &Recipient) -> String {
    match to {
        Recipient::Username(name) => format!("@{}", name.to_ascii_lowercase()),
        Recipient::Conversation(id) => id.to_string(),
    }
}
