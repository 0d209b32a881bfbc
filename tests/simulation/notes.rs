//! What the users know together: the ledger, their conversations, and what each was shown.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use quorate::{
    client::{
        Session,
        ledger::{Attempt, Entry, Ledger, Outcome},
    },
    types::ConversationId,
    wire::{
        Fault,
        chat::{ListMessagesRequest, Message},
    },
};

/// Shared by all users and the judge.
#[derive(Default)]
pub struct Notes {
    pub ledger: RefCell<Ledger>,
    /// Messages of the ledger's conversations, as each user's stream delivered them.
    pub streams: RefCell<BTreeMap<String, Vec<(ConversationId, Entry)>>>,
    /// Who has an account.
    pub registered: RefCell<BTreeSet<String>>,
    /// Who has signed in, met the others and made its room.
    pub present: RefCell<BTreeSet<String>>,
    /// Who has done all that it is to do after the faults.
    pub done: RefCell<BTreeSet<String>>,
    places: RefCell<BTreeMap<ConversationId, Place>>,
    standings: RefCell<BTreeMap<(String, ConversationId), Standing>>,
    /// Messages that a user hid from itself, and whether it was told that they are.
    hidden: RefCell<BTreeMap<(String, usize), bool>>,
}

/// A conversation and who is in it from beginning to end. In a room the others come and go.
#[derive(Debug, Clone)]
struct Place {
    room: bool,
    members: Vec<String>,
}

/// Whether a visitor is in a room.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    /// `None`: nobody can tell.
    inside: Option<bool>,
    moves: u64,
    under_way: u32,
    /// Since nothing was under way, two moves were at once: which took effect last is not known.
    crossed: bool,
    /// Some move may have taken effect, or may yet.
    doubtful: bool,
}

impl Notes {
    /// A conversation enters the ledger, with its members for good.
    pub fn open(&self, id: ConversationId, base: u64, room: bool, members: Vec<String>) {
        self.ledger.borrow_mut().open(id, base);
        self.places.borrow_mut().insert(id, Place { room, members });
    }

    /// Conversations that `user` is in for good.
    pub fn own(&self, user: &str) -> Vec<ConversationId> {
        self.places.borrow().iter().filter(|(_, place)| place.has(user)).map(|(id, _)| *id).collect()
    }

    /// Rooms that `user` may visit.
    pub fn foreign(&self, user: &str) -> Vec<ConversationId> {
        self.places.borrow().iter().filter(|(_, place)| !place.has(user) && place.room).map(|(id, _)| *id).collect()
    }

    /// Rooms that `user` made.
    pub fn made_by(&self, user: &str) -> Vec<ConversationId> {
        let mine = |place: &Place| place.room && place.members.first().is_some_and(|owner| owner == user);
        self.places.borrow().iter().filter(|(_, place)| mine(place)).map(|(id, _)| *id).collect()
    }

    pub fn is_own(&self, user: &str, id: ConversationId) -> bool {
        self.places.borrow().get(&id).is_some_and(|place| place.has(user))
    }

    /// Every conversation, and one who sees all of it.
    pub fn readers(&self) -> Vec<(ConversationId, String)> {
        self.places.borrow().iter().map(|(id, place)| (*id, place.members[0].clone())).collect()
    }

    /// The other one of a direct conversation.
    pub fn peer(&self, user: &str, id: ConversationId) -> Option<String> {
        let places = self.places.borrow();
        let place = places.get(&id).filter(|place| !place.room)?;
        place.members.iter().find(|member| *member != user).cloned()
    }

    /// A move of `user` into a room or out of it begins.
    pub fn begin_move(&self, user: &str, room: ConversationId) {
        let mut standings = self.standings.borrow_mut();
        let standing = standings.entry((user.to_owned(), room)).or_default();
        standing.inside = None;
        standing.moves += 1;
        standing.crossed |= standing.under_way > 0;
        standing.under_way += 1;
    }

    /// It has ended: `Some` with where it left the user, `None` if nobody can tell.
    pub fn end_move(&self, user: &str, room: ConversationId, inside: Option<bool>) {
        let mut standings = self.standings.borrow_mut();
        let standing = standings.entry((user.to_owned(), room)).or_default();
        standing.under_way -= 1;
        standing.doubtful |= inside.is_none();
        let certain = !standing.doubtful && !standing.crossed && standing.under_way == 0;
        standing.inside = inside.filter(|_| certain);
        standing.crossed &= standing.under_way > 0;
    }

    /// Whether `user` is in a room, if that is certain, and the number of its last move.
    pub fn standing(&self, user: &str, room: ConversationId) -> (Option<bool>, u64) {
        if self.is_own(user, room) {
            return (Some(true), 0);
        }
        let standings = self.standings.borrow();
        standings.get(&(user.to_owned(), room)).map_or((None, 0), |standing| (standing.inside, standing.moves))
    }

    /// Notes that `user` hides a message from itself, or has hidden it.
    pub fn hide(&self, user: &str, attempt: usize, done: bool) {
        *self.hidden.borrow_mut().entry((user.to_owned(), attempt)).or_default() |= done;
    }

    /// What `user` was told that it has hidden, by number of the attempt.
    pub fn hidden_by(&self, user: &str) -> Vec<usize> {
        let hidden = self.hidden.borrow();
        hidden.iter().filter(|((who, _), done)| who == user && **done).map(|((_, attempt), _)| *attempt).collect()
    }

    /// Accounts that come to a room and leave it.
    pub fn visitors(&self, room: ConversationId) -> Vec<String> {
        let all = self.registered.borrow();
        all.iter().filter(|user| !self.is_own(user, room)).cloned().collect()
    }

    /// A message as it was shown to `user`, for the ledger, which knows nothing of what one hides from oneself: the
    /// text stands in again. Says what is wrong with it, given what was `hidden` before it was asked for.
    pub fn entry(&self, user: &str, message: Message, hidden: &[usize]) -> Result<Entry, String> {
        let ledger = self.ledger.borrow();
        let (seq, id) = (message.seq, message.conversation_id.parse::<ConversationId>().ok());
        let here = |attempt: &Attempt| {
            Some(attempt.conversation) == id
                && matches!(attempt.outcome, Outcome::Acknowledged { seq: at, .. } if at == seq)
        };
        let asked = self.hidden.borrow();
        let mut mine = asked.keys().filter(|(who, _)| who == user).map(|(_, attempt)| *attempt);
        let found = mine.find(|attempt| here(&ledger.attempts()[*attempt]));
        let mut entry = Entry::from(message.clone());
        match found {
            Some(attempt) if hidden.contains(&attempt) && !entry.body.is_empty() => {
                return Err(format!("{user} was shown {:?} again, which it has hidden", entry.body));
            }
            Some(attempt) if entry.body.is_empty() => entry.body.clone_from(&ledger.attempts()[attempt].body),
            _ => {}
        }
        let signed = entry.body.split_once(" from ").is_none_or(|(_, rest)| rest.starts_with(&message.sender));
        if signed { Ok(entry) } else { Err(format!("{:?} stands under the name {}", entry.body, message.sender)) }
    }

    pub fn sent(&self) -> usize {
        self.ledger.borrow().attempts().len()
    }

    pub fn acknowledged(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Acknowledged { .. }))
    }

    pub fn acknowledged_to(&self, user: &str) -> usize {
        let (ledger, from) = (self.ledger.borrow(), format!(" from {user} "));
        let told = |attempt: &&Attempt| matches!(attempt.outcome, Outcome::Acknowledged { .. });
        ledger.attempts().iter().filter(told).filter(|attempt| attempt.body.contains(&from)).count()
    }

    pub fn refused(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Refused { .. }))
    }

    fn count(&self, of: impl Fn(&Outcome) -> bool) -> usize {
        self.ledger.borrow().attempts().iter().filter(|attempt| of(&attempt.outcome)).count()
    }
}

impl Place {
    fn has(&self, user: &str) -> bool {
        self.members.iter().any(|member| member == user)
    }
}

/// A conversation after `after`, to its end, oldest first.
pub async fn messages(session: &Session, id: ConversationId, after: u64) -> Result<Vec<Message>, Fault> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListMessagesRequest { page_size: 500, page_token, after_seq: after, ..Default::default() };
        let page = session.messages(Some(&quorate::client::Recipient::Conversation(id)), request).await?;
        all.extend(page.messages);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}
