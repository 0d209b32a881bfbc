//! Users who write, read and listen by the real client library, and keep a ledger of it.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use quorate::{
    client::{
        Cluster, Recipient, Session, Settings, Start, Subscription, Update,
        ledger::{Attempt, Entry, Outcome},
        outcome_is_unknown,
    },
    types::{Consistency, ConversationId},
    wire::{
        Fault, Reason,
        chat::{Message, subscribe_response::Event},
    },
};
use tokio::time::sleep;

use crate::{
    clerks::Clerks,
    guests::Guests,
    notes::{Notes, messages},
    rng::Rng,
    world::World,
};

pub const PASSWORD: &str = "correct horse battery";
/// How long one operation may take.
pub const TIMEOUT: Duration = Duration::from_secs(6);
/// How long one who is in a hurry waits for an acknowledgement: often not long enough.
const HURRY: Duration = Duration::from_millis(400);
/// Messages before the last one seen that a read of the end shows again.
const AGAIN: u64 = 10;
/// The latest attempts, of which some are made again.
const RECENT: usize = 20;

/// One user on a machine of its own.
pub struct User {
    pub(crate) world: Rc<World>,
    pub(crate) notes: Rc<Notes>,
    pub(crate) name: String,
    others: Vec<String>,
    rng: RefCell<Rng>,
    /// Among all users, as a reader.
    number: usize,
    /// The last of each conversation that it has been told of.
    seen: RefCell<BTreeMap<ConversationId, u64>>,
    /// Its attempts.
    mine: RefCell<Vec<usize>>,
    /// Its session by way of a client that gives up early.
    hurried: OnceCell<Session>,
}

pub fn cluster(world: &World, name: &str, timeout: Duration) -> Cluster {
    let settings = Settings { timeout, clock: world.clock(name), entropy: world.entropy(name) };
    Cluster::new(world.addresses(), world.wires.dialer(), settings)
}

impl User {
    pub fn new(world: Rc<World>, notes: Rc<Notes>, name: &str, all: &[String]) -> Self {
        let others = all.iter().filter(|other| *other != name).cloned().collect();
        let rng = RefCell::new(Rng::of(world.seed, &format!("user {name}")));
        let number = all.iter().position(|other| other == name).unwrap_or(0);
        let (seen, mine, hurried) = Default::default();
        Self { world, notes, name: name.to_owned(), others, rng, number, seen, mine, hurried }
    }

    /// Lives until the world is calm, then looks back.
    pub async fn live(self) {
        let cluster = cluster(&self.world, &self.name, TIMEOUT);
        let session = self.sign_in(&cluster).await;
        self.notes.registered.borrow_mut().insert(self.name.clone());
        while self.notes.registered.borrow().len() <= self.others.len() {
            sleep(Duration::from_millis(50)).await;
        }
        self.settle_in(&session).await;
        self.notes.present.borrow_mut().insert(self.name.clone());
        while self.notes.present.borrow().len() <= self.others.len() {
            sleep(Duration::from_millis(50)).await;
        }
        let idle = Cell::new(false);
        let work = async {
            self.work(&session).await;
            self.look_back(&session).await;
            while !idle.get() {
                sleep(Duration::from_millis(50)).await;
            }
            self.notes.done.borrow_mut().insert(self.name.clone());
        };
        let accounts = async {
            let guests = Guests::of(&self);
            let clerks = async {
                if self.number == 0 {
                    Clerks::of(&self).work(&session).await;
                }
            };
            tokio::join!(guests.come_and_go(&session), clerks);
            idle.set(true);
        };
        tokio::join!(work, accounts, self.listen(&session));
    }

    async fn sign_in(&self, cluster: &Cluster) -> Session {
        loop {
            match Session::register(cluster, &self.name, PASSWORD).await {
                Ok(_) => break,
                // An attempt whose answer was lost.
                Err(fault) if fault.reason == Reason::NameTaken => break,
                Err(fault) => self.endure("register", &fault).await,
            }
        }
        loop {
            match Session::login(cluster, &self.name, PASSWORD, "simulated").await {
                Ok((session, _)) => return session,
                Err(fault) => self.endure("login", &fault).await,
            }
        }
    }

    /// Opens a conversation with everybody who comes later in the alphabet, and a room with whoever comes next. What
    /// makes a conversation stays out of the ledger.
    async fn settle_in(&self, session: &Session) {
        for other in self.others.iter().filter(|other| **other > self.name) {
            let (id, to) = (session.cluster().request_id(), Recipient::Username(other.clone()));
            let opened = loop {
                match session.send_as(id, &to, "hello").await {
                    Ok(answer) => break answer.message.unwrap_or_default(),
                    Err(fault) => self.endure("open", &fault).await,
                }
            };
            let members = vec![self.name.clone(), other.clone()];
            self.notes.open(id_of(&opened.conversation_id), opened.seq, false, members);
        }
        let next = self.others.iter().find(|other| **other > self.name).or(self.others.first());
        let guests: Vec<String> = next.into_iter().cloned().collect();
        let room = loop {
            match session.create_room(&format!("room of {}", self.name), false, guests.clone()).await {
                Ok(room) => break room,
                Err(fault) => self.endure("create room", &fault).await,
            }
        };
        let members = [vec![self.name.clone()], guests].concat();
        self.notes.open(id_of(&room.conversation_id), room.last_seq, true, members);
    }

    async fn work(&self, session: &Session) {
        while !self.world.calm.get() {
            match self.draw(|rng| rng.within(0..100)) {
                0..45 => self.send(session).await,
                45..57 => self.send_again(session).await,
                57..82 => self.read(session).await,
                82..86 => self.mark_read(session).await,
                86..91 => self.erase(session).await,
                91..93 => self.hide(session).await,
                _ => self.move_about(session).await,
            }
            let pause = self.draw(|rng| rng.within(0..150));
            sleep(Duration::from_millis(pause)).await;
        }
        while !self.world.healed.get() {
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn draw<T>(&self, how: impl FnOnce(&mut Rng) -> T) -> T {
        how(&mut self.rng.borrow_mut())
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_millis(self.world.elapsed_ms())
    }

    pub(crate) async fn endure(&self, what: &str, fault: &Fault) {
        tracing::info!(target: "simulation", user = self.name, what, reason = ?fault.reason, message = fault.message);
        self.world.count("operations that failed");
        if matches!(fault.reason, Reason::Internal | Reason::InvalidArgument) {
            self.world.violation(format!("{} of {}: {}", what, self.name, fault.message));
        }
        sleep(Duration::from_millis(100)).await;
    }

    /// Repeats a write that can be repeated under a new request id. `done` says that an earlier try has done it.
    pub(crate) async fn until_done<Fut>(&self, what: &str, done: Reason, write: impl Fn() -> Fut)
    where
        Fut: Future<Output = Result<(), Fault>>,
    {
        let mut doubtful = false;
        loop {
            match write().await {
                Ok(()) => return,
                Err(fault) if doubtful && fault.reason == done => return,
                Err(fault) if !fault.reason.is_transient() => {
                    return self.world.violation(format!("{what} was refused: {:?} {}", fault.reason, fault.message));
                }
                Err(fault) => {
                    doubtful |= outcome_is_unknown(&fault);
                    self.endure(what, &fault).await;
                }
            }
        }
    }

    /// A conversation to write to or read from: mostly its own.
    fn somewhere(&self) -> Option<ConversationId> {
        let (own, foreign) = (self.notes.own(&self.name), self.notes.foreign(&self.name));
        self.draw(|rng| if rng.chance(85) { rng.pick(&own).copied() } else { rng.pick(&foreign).copied() })
    }

    async fn send(&self, session: &Session) {
        if let Some(conversation) = self.somewhere() {
            let number = self.begin(session, conversation);
            let hurried = self
                .hurried
                .get_or_init(|| session.through(&cluster(&self.world, &format!("{} in a hurry", self.name), HURRY)));
            let client = if self.draw(|rng| rng.chance(25)) { hurried } else { session };
            self.attempt(client, number).await;
            // Whoever has written looks at it, at any node and without a round for a quorum.
            if self.notes.is_own(&self.name, conversation) && self.draw(|rng| rng.chance(30)) {
                self.read_own(session, conversation, false).await;
            }
        }
    }

    fn begin(&self, session: &Session, conversation: ConversationId) -> usize {
        let mut ledger = self.notes.ledger.borrow_mut();
        let body = format!("{} from {} to {conversation}", ledger.attempts().len(), self.name);
        let number = ledger.invoke(self.now(), session.cluster().request_id(), conversation, body);
        self.mine.borrow_mut().push(number);
        number
    }

    /// Repeats an earlier attempt, acknowledged or not, under its request_id.
    async fn send_again(&self, session: &Session) {
        let mine: Vec<usize> = self.mine.borrow().iter().rev().take(RECENT).copied().collect();
        if let Some(number) = self.draw(|rng| rng.pick(&mine).copied())
            && !matches!(self.outcome(number), Outcome::Refused { .. })
        {
            self.attempt(session, number).await;
        }
    }

    fn outcome(&self, number: usize) -> Outcome {
        self.notes.ledger.borrow().attempts()[number].outcome.clone()
    }

    /// Makes an attempt; says whether its outcome is certain now.
    async fn attempt(&self, session: &Session, number: usize) -> bool {
        let Attempt { id, conversation, body, ended, .. } = self.notes.ledger.borrow().attempts()[number].clone();
        // By name or by number, but all repetitions alike: they are one request.
        let to = match self.notes.peer(&self.name, conversation).filter(|_| number.is_multiple_of(2)) {
            Some(peer) => Recipient::Username(peer),
            None => Recipient::Conversation(conversation),
        };
        let (inside, moves) = self.notes.standing(&self.name, conversation);
        let sent = session.send_as(id, &to, &body).await;
        self.world.count("writes");
        match sent {
            Ok(response) => {
                let message = response.message.unwrap_or_default();
                tracing::info!(target: "simulation", user = self.name, number, seq = message.seq, "acknowledged");
                if message.body != body || message.conversation_id != conversation.to_string() {
                    self.world.violation(format!("attempt {number} was answered with {message:?}"));
                }
                self.notes.ledger.borrow_mut().acknowledge(self.now(), number, message.seq, message.cursor);
                self.saw(conversation, message.seq);
                true
            }
            Err(fault) => {
                let unknown = outcome_is_unknown(&fault);
                match unknown {
                    true => self.notes.ledger.borrow_mut().lose_sight(self.now(), number),
                    false => self.notes.ledger.borrow_mut().refuse(self.now(), number, fault.reason),
                }
                // A repetition is told how it ended first, wherever its sender is by now.
                let outside = fault.reason == Reason::ConversationNotFound && ended.is_none();
                if outside && inside == Some(true) && self.notes.standing(&self.name, conversation).1 == moves {
                    self.world.violation(format!("{} is in {conversation}, and may not write there", self.name));
                }
                self.endure("send", &fault).await;
                !unknown && !fault.reason.is_transient()
            }
        }
    }

    fn saw(&self, conversation: ConversationId, seq: u64) {
        let mut seen = self.seen.borrow_mut();
        let last = seen.entry(conversation).or_default();
        *last = seq.max(*last);
    }

    async fn read(&self, session: &Session) {
        let Some(conversation) = self.somewhere() else { return };
        if self.notes.is_own(&self.name, conversation) {
            let strong = self.draw(|rng| rng.chance(70));
            self.read_own(session, conversation, strong).await;
        } else {
            self.look_in(session, conversation).await;
        }
    }

    async fn read_own(&self, session: &Session, conversation: ConversationId, strong: bool) {
        let whole = self.draw(|rng| rng.chance(20));
        let consistency = if strong { Consistency::Linearizable } else { Consistency::AtLeast(session.index()) };
        let seen = self.seen.borrow().get(&conversation).copied().unwrap_or(0);
        let whence = format!("{} at {} ms, {consistency:?}", self.name, self.world.elapsed_ms());
        let (number, base) = {
            let mut ledger = self.notes.ledger.borrow_mut();
            let base = ledger.bases()[&conversation];
            let number = match strong {
                true => ledger.begin_read(self.number, conversation, whence),
                false => ledger.begin_session_read(self.number, conversation, whence, seen),
            };
            (number, base)
        };
        let after = if whole { base } else { seen.saturating_sub(AGAIN).max(base) };
        let hidden = self.notes.hidden_by(&self.name);
        let read = messages(&session.reading(consistency), conversation, after).await;
        self.world.count("reads");
        match read {
            Ok(messages) => {
                let entries = self.entries(messages, &hidden);
                if let Some(last) = entries.last() {
                    self.saw(conversation, last.seq);
                }
                self.notes.ledger.borrow_mut().end_read(number, entries);
            }
            Err(fault) => self.endure("read", &fault).await,
        }
    }

    /// What was shown, given what had been hidden before.
    fn entries(&self, messages: Vec<Message>, hidden: &[usize]) -> Vec<Entry> {
        let entry =
            |message| self.notes.entry(&self.name, message, hidden).map_err(|wrong| self.world.violation(wrong));
        messages.into_iter().filter_map(|message| entry(message).ok()).collect()
    }

    async fn mark_read(&self, session: &Session) {
        self.world.count("inboxes");
        match session.inbox(false, 100, "").await {
            Ok(inbox) => {
                let Some(conversation) = self.draw(|rng| rng.pick(&inbox.conversations).cloned()) else { return };
                if let Ok(id) = conversation.conversation_id.parse()
                    && let Err(fault) = session.mark_read_up_to(id, conversation.last_seq).await
                {
                    self.endure("mark read", &fault).await;
                }
            }
            Err(fault) => self.endure("inbox", &fault).await,
        }
    }

    /// Collects the stream from its beginning, for ever: now and then by another subscription, which goes on from the
    /// cursor of the last event, as a client does that was started again.
    async fn listen(&self, session: &Session) {
        let mut cursor = 0;
        loop {
            let events = self.draw(|rng| rng.within(20..400));
            cursor = self.follow(session.subscribe(Start::After(cursor)), events).await;
            self.world.count("streams resumed by a cursor");
        }
    }

    /// So many events of one subscription. Answers with the cursor of the last.
    async fn follow(&self, mut subscription: Subscription, mut events: u64) -> u64 {
        while events > 0 {
            let Some(update) = subscription.next().await else { std::future::pending().await };
            match update {
                Ok(Update::Event(event)) => {
                    self.told(event.event);
                    events -= 1;
                }
                Ok(Update::Broken(fault)) => {
                    self.world.violation(format!("{}'s stream: {}", self.name, fault.message));
                }
                Ok(update) => tracing::info!(target: "simulation", user = self.name, ?update, "stream"),
                Err(fault) => {
                    let (name, reason) = (&self.name, fault.reason);
                    self.world.violation(format!("{name}'s stream ended: {reason:?} {}", fault.message));
                }
            }
        }
        subscription.cursor()
    }

    fn told(&self, event: Option<Event>) {
        self.world.count("events");
        match event {
            Some(Event::Message(message)) => {
                let conversation = id_of(&message.conversation_id);
                let base = self.notes.ledger.borrow().bases().get(&conversation).copied();
                if base.is_some_and(|base| message.seq > base) {
                    let entries = self.entries(vec![message], &[]);
                    let mut streams = self.notes.streams.borrow_mut();
                    let mine = streams.entry(self.name.clone()).or_default();
                    mine.extend(entries.into_iter().map(|entry| (conversation, entry)));
                }
            }
            Some(Event::Conversation(changed)) => {
                self.notes.ledger.borrow_mut().notice(id_of(&changed.conversation_id), changed.last_seq);
            }
            Some(Event::Deleted(deleted)) if deleted.seq > 0 => {
                self.notes.ledger.borrow_mut().notice(id_of(&deleted.conversation_id), deleted.seq);
            }
            _ => {}
        }
    }

    /// After the faults: settles what is unknown, and writes afresh.
    async fn look_back(&self, session: &Session) {
        let mine = self.mine.borrow().clone();
        for number in mine.into_iter().filter(|number| self.outcome(*number) == Outcome::Unknown) {
            while !self.attempt(session, number).await {}
        }
        for conversation in self.notes.own(&self.name) {
            while !self.write_afresh(session, conversation).await {}
        }
    }

    /// Writes something new; says whether it is there. What was refused is not tried again: it would be something else.
    async fn write_afresh(&self, session: &Session, conversation: ConversationId) -> bool {
        let number = self.begin(session, conversation);
        while self.outcome(number) == Outcome::Unknown {
            self.attempt(session, number).await;
        }
        matches!(self.outcome(number), Outcome::Acknowledged { .. })
    }
}

/// A conversation's id as the API writes it.
pub fn id_of(text: &str) -> ConversationId {
    text.parse().expect("the id of a conversation")
}
