//! What the users know together: the ledger of messages, their conversations, and what each of them was shown.
//!
//! [`Ledger`] checks messages. What it does not know is recorded here: who is in which room at the moment, and which
//! messages a user has hidden from itself.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use quorate::{
    client::ledger::{Attempt, Entry, Ledger, Outcome},
    types::ConversationId,
    wire::chat::Message,
};

/// Shared by all users and the judge, on one thread.
///
/// Invariants:
/// - `registered`, `present` and `done` only grow, and a user enters them in this order. Users wait for each other by
///   comparing their sizes with the number of users.
/// - Every conversation of the ledger is in `conversations`, with at least one permanent member.
/// - No borrow of a cell lives across an `await`.
#[derive(Default)]
pub struct Notes {
    pub ledger: RefCell<Ledger>,
    /// Messages of the ledger's conversations, as each user's stream delivered them.
    pub streams: RefCell<BTreeMap<String, Vec<(ConversationId, Entry)>>>,
    /// Users who have an account.
    pub registered: RefCell<BTreeSet<String>>,
    /// Users who have opened their conversations and are at work.
    pub present: RefCell<BTreeSet<String>>,
    /// Users who have checked what they left open, after the faults.
    pub done: RefCell<BTreeSet<String>>,
    conversations: RefCell<BTreeMap<ConversationId, Members>>,
    presences: RefCell<BTreeMap<(String, ConversationId), Presence>>,
    /// Messages (as attempts of the ledger) that a user asked to hide from itself, and whether that was acknowledged.
    hidden: RefCell<BTreeMap<(String, usize), bool>>,
}

/// The permanent members of a conversation: they see all of it, from its start to its end. Everybody else may visit a
/// room, and leave it again.
#[derive(Debug, Clone)]
struct Members {
    is_room: bool,
    /// The first one created it.
    permanent: Vec<String>,
}

/// A visitor's presence in a room, as far as the users can tell.
///
/// Joining and leaving are calls that can fail with an unknown outcome, and several can be under way: the owner may
/// remove a visitor who is about to join. Which of two overlapping moves took effect last is not known then.
#[derive(Debug, Clone, Copy, Default)]
struct Presence {
    /// `None` while nobody can tell.
    is_inside: Option<bool>,
    /// Counts the moves that were started. Who sees the same count twice knows that no move started in between.
    moves: u64,
    /// Moves that have not ended.
    under_way: u32,
    /// Two moves have overlapped since none was under way.
    overlapped: bool,
    /// A move ended with an unknown outcome. It may still take effect at any later time, so this is for good.
    is_doubtful: bool,
}

impl Notes {
    /// Adds a conversation to the ledger. Messages up to `base` are not part of it.
    pub fn open(&self, id: ConversationId, base: u64, is_room: bool, permanent: Vec<String>) {
        self.ledger.borrow_mut().open(id, base);
        self.conversations.borrow_mut().insert(id, Members { is_room, permanent });
    }

    /// Conversations of which `user` is a permanent member.
    pub fn own(&self, user: &str) -> Vec<ConversationId> {
        self.conversations.borrow().iter().filter(|(_, members)| members.has(user)).map(|(id, _)| *id).collect()
    }

    /// Rooms that `user` may visit.
    pub fn visitable(&self, user: &str) -> Vec<ConversationId> {
        let conversations = self.conversations.borrow();
        conversations.iter().filter(|(_, members)| !members.has(user) && members.is_room).map(|(id, _)| *id).collect()
    }

    /// Rooms that `user` created.
    pub fn rooms_of(&self, user: &str) -> Vec<ConversationId> {
        let is_owner = |members: &Members| members.is_room && members.permanent.first().is_some_and(|one| one == user);
        self.conversations.borrow().iter().filter(|(_, members)| is_owner(members)).map(|(id, _)| *id).collect()
    }

    /// Whether `user` is a permanent member.
    pub fn is_own(&self, user: &str, id: ConversationId) -> bool {
        self.conversations.borrow().get(&id).is_some_and(|members| members.has(user))
    }

    /// Every conversation, each with a permanent member, who can read all of it.
    pub fn readers(&self) -> Vec<(ConversationId, String)> {
        self.conversations.borrow().iter().map(|(id, members)| (*id, members.permanent[0].clone())).collect()
    }

    /// The other member of a direct conversation.
    pub fn peer(&self, user: &str, id: ConversationId) -> Option<String> {
        let conversations = self.conversations.borrow();
        let members = conversations.get(&id).filter(|members| !members.is_room)?;
        members.permanent.iter().find(|member| *member != user).cloned()
    }

    /// Records that a call starts which moves `user` into a room or out of it.
    pub fn begin_move(&self, user: &str, room: ConversationId) {
        let mut presences = self.presences.borrow_mut();
        let presence = presences.entry((user.to_owned(), room)).or_default();
        presence.is_inside = None;
        presence.moves += 1;
        presence.overlapped |= presence.under_way > 0;
        presence.under_way += 1;
    }

    /// Records the end of such a call, and where it left the user: `None` if its outcome is unknown.
    pub fn end_move(&self, user: &str, room: ConversationId, is_inside: Option<bool>) {
        let mut presences = self.presences.borrow_mut();
        let presence = presences.entry((user.to_owned(), room)).or_default();
        presence.under_way -= 1;
        presence.is_doubtful |= is_inside.is_none();
        let is_certain = !presence.is_doubtful && !presence.overlapped && presence.under_way == 0;
        presence.is_inside = is_inside.filter(|_| is_certain);
        presence.overlapped &= presence.under_way > 0;
    }

    /// Whether `user` is in a conversation, if that is certain, and the number of moves so far.
    pub fn presence(&self, user: &str, room: ConversationId) -> (Option<bool>, u64) {
        if self.is_own(user, room) {
            return (Some(true), 0);
        }
        let presences = self.presences.borrow();
        presences.get(&(user.to_owned(), room)).map_or((None, 0), |presence| (presence.is_inside, presence.moves))
    }

    /// Records that `user` hides a message from itself: asks for it, or (`done`) has it acknowledged.
    pub fn hide(&self, user: &str, attempt: usize, done: bool) {
        *self.hidden.borrow_mut().entry((user.to_owned(), attempt)).or_default() |= done;
    }

    /// The attempts whose messages are certainly hidden from `user`.
    pub fn hidden_by(&self, user: &str) -> Vec<usize> {
        let hidden = self.hidden.borrow();
        hidden.iter().filter(|((who, _), done)| who == user && **done).map(|((_, attempt), _)| *attempt).collect()
    }

    /// Users who may visit a room.
    pub fn visitors(&self, room: ConversationId) -> Vec<String> {
        let all = self.registered.borrow();
        all.iter().filter(|user| !self.is_own(user, room)).cloned().collect()
    }

    /// Turns a message that was shown to `user` into an entry for the ledger, which knows nothing of hidden messages:
    /// the entry gets the original text back. `hidden` are the attempts that were certainly hidden before the read
    /// started. The error names a violation: a hidden message that was shown, or a text under the wrong name.
    pub fn entry(&self, user: &str, message: Message, hidden: &[usize]) -> Result<Entry, String> {
        let ledger = self.ledger.borrow();
        let (seq, id) = (message.seq, message.conversation_id.parse::<ConversationId>().ok());
        let is_this = |attempt: &Attempt| {
            Some(attempt.conversation) == id
                && matches!(attempt.outcome, Outcome::Acknowledged { seq: at, .. } if at == seq)
        };
        let asked = self.hidden.borrow();
        let mut asked_by_user = asked.keys().filter(|(who, _)| who == user).map(|(_, attempt)| *attempt);
        let found = asked_by_user.find(|attempt| is_this(&ledger.attempts()[*attempt]));
        let mut entry = Entry::from(message.clone());
        match found {
            Some(attempt) if hidden.contains(&attempt) && !entry.body.is_empty() => {
                return Err(format!("{user} was shown {:?}, although it had hidden that message", entry.body));
            }
            Some(attempt) if entry.body.is_empty() => entry.body.clone_from(&ledger.attempts()[attempt].body),
            _ => {}
        }
        // Users write their name into the text: see `User::invoke`.
        let is_authentic = entry.body.split_once(" from ").is_none_or(|(_, rest)| rest.starts_with(&message.sender));
        if is_authentic { Ok(entry) } else { Err(format!("{:?} was shown as sent by {}", entry.body, message.sender)) }
    }

    /// The number of messages that users tried to send.
    pub fn sent(&self) -> usize {
        self.ledger.borrow().attempts().len()
    }

    pub fn acknowledged(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Acknowledged { .. }))
    }

    pub fn acknowledged_to(&self, user: &str) -> usize {
        let (ledger, from) = (self.ledger.borrow(), format!(" from {user} "));
        let is_acknowledged = |attempt: &&Attempt| matches!(attempt.outcome, Outcome::Acknowledged { .. });
        ledger.attempts().iter().filter(is_acknowledged).filter(|attempt| attempt.body.contains(&from)).count()
    }

    pub fn refused(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Refused { .. }))
    }

    fn count(&self, of: impl Fn(&Outcome) -> bool) -> usize {
        self.ledger.borrow().attempts().iter().filter(|attempt| of(&attempt.outcome)).count()
    }
}

impl Members {
    fn has(&self, user: &str) -> bool {
        self.permanent.iter().any(|member| member == user)
    }
}
