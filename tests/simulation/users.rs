//! Users who write, read and listen by the real client library, and keep a ledger of it.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use quorate::{
    client::{Cluster, Recipient, Session, Settings, Start, Update, outcome_is_unknown},
    types::Consistency,
    wire::{
        Fault, Reason,
        chat::{ListMessagesRequest, Message, subscribe_response::Event},
    },
};
use tokio::time::sleep;

use crate::{
    ledger::{Fate, Ledger, Number},
    net::dialer,
    rng::Rng,
    world::World,
};

pub const PASSWORD: &str = "correct horse battery";
/// How long one operation may take.
pub const PATIENCE: Duration = Duration::from_secs(6);

/// What the users know together.
#[derive(Default)]
pub struct Notes {
    pub ledger: RefCell<Ledger>,
    /// Messages as each user's stream delivered them, by conversation.
    pub streams: RefCell<BTreeMap<String, BTreeMap<String, Vec<Message>>>>,
    /// Who has signed in.
    pub present: RefCell<BTreeSet<String>>,
    /// Who has done all that it is to do after the faults.
    pub done: RefCell<BTreeSet<String>>,
}

/// One user on a machine of its own.
pub struct User {
    world: Rc<World>,
    notes: Rc<Notes>,
    name: String,
    others: Vec<String>,
    rng: RefCell<Rng>,
}

pub fn cluster(world: &World, name: &str, timeout: Duration) -> Cluster {
    let settings = Settings { timeout, clock: world.clock(name), entropy: world.entropy(name) };
    Cluster::new(world.addresses(), dialer(), settings)
}

impl User {
    pub fn new(world: Rc<World>, notes: Rc<Notes>, name: &str, all: &[String]) -> Self {
        let others = all.iter().filter(|other| *other != name).cloned().collect();
        let rng = RefCell::new(Rng::of(world.seed, &format!("user {name}")));
        Self { world, notes, name: name.to_owned(), others, rng }
    }

    /// Lives until the world is calm, then looks back.
    pub async fn live(self) {
        let cluster = cluster(&self.world, &self.name, PATIENCE);
        let session = self.sign_in(&cluster).await;
        self.notes.present.borrow_mut().insert(self.name.clone());
        while self.notes.present.borrow().len() <= self.others.len() {
            sleep(Duration::from_millis(50)).await;
        }
        tokio::join!(self.work(&session), self.listen(&session));
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

    async fn work(&self, session: &Session) {
        while !self.world.calm.get() {
            let other = self.draw(|rng| rng.pick(&self.others).cloned()).unwrap_or_default();
            match self.draw(|rng| rng.within(0..100)) {
                0..50 => self.send(session, &other).await,
                50..65 => self.send_again(session).await,
                65..95 => self.read(session, &other).await,
                _ => self.mark_read(session).await,
            }
            let pause = self.draw(|rng| rng.within(0..150));
            sleep(Duration::from_millis(pause)).await;
        }
        while !self.world.healed.get() {
            sleep(Duration::from_millis(50)).await;
        }
        self.look_back(session).await;
        self.notes.done.borrow_mut().insert(self.name.clone());
    }

    fn draw<T>(&self, how: impl FnOnce(&mut Rng) -> T) -> T {
        how(&mut self.rng.borrow_mut())
    }

    async fn endure(&self, what: &str, fault: &Fault) {
        tracing::info!(target: "simulation", user = self.name, what, reason = ?fault.reason, message = fault.message);
        self.world.count("operations that failed");
        if matches!(fault.reason, Reason::Internal | Reason::InvalidArgument) {
            self.world.violation(format!("{} of {}: {}", what, self.name, fault.message));
        }
        sleep(Duration::from_millis(100)).await;
    }

    async fn send(&self, session: &Session, to: &str) {
        let id = session.cluster().request_id();
        let number = self.notes.ledger.borrow_mut().begin(id, &self.name, to, self.world.elapsed_ms());
        self.attempt(session, number).await;
    }

    /// Repeats an earlier attempt, acknowledged or not, under its request_id.
    async fn send_again(&self, session: &Session) {
        let mine: Vec<Number> = {
            let ledger = self.notes.ledger.borrow();
            let mine = ledger.attempts.iter().enumerate();
            mine.filter(|(_, attempt)| attempt.from == self.name && attempt.fate != Fate::Refused)
                .map(|(number, _)| number)
                .collect()
        };
        let recent = &mine[mine.len().saturating_sub(20)..];
        if let Some(number) = self.draw(|rng| rng.pick(recent).copied()) {
            self.attempt(session, number).await;
        }
    }

    async fn attempt(&self, session: &Session, number: Number) -> bool {
        let attempt = self.notes.ledger.borrow().attempts[number].clone();
        let sent = session.send_as(attempt.id, &Recipient::Username(attempt.to.clone()), &attempt.body).await;
        self.world.count("writes");
        match sent {
            Ok(response) => {
                let message = response.message.unwrap_or_default();
                tracing::info!(target: "simulation", user = self.name, number, seq = message.seq, "acknowledged");
                let now = self.world.elapsed_ms();
                if let Err(wrong) = self.notes.ledger.borrow_mut().acknowledge(number, &message, now) {
                    self.world.violation(wrong);
                }
                true
            }
            Err(fault) => {
                match outcome_is_unknown(&fault) {
                    true => self.notes.ledger.borrow_mut().doubt(number),
                    false => self.notes.ledger.borrow_mut().refuse(number),
                }
                self.endure("send", &fault).await;
                false
            }
        }
    }

    async fn read(&self, session: &Session, other: &str) {
        let known = self.notes.ledger.borrow().known(&self.name, other);
        let strong = self.draw(|rng| rng.chance(70));
        let consistency = if strong { Consistency::Linearizable } else { Consistency::AtLeast(session.index()) };
        let read = timeline(&session.reading(consistency), other).await;
        self.world.count("reads");
        match read {
            Ok(timeline) => {
                let texts: BTreeMap<u64, String> =
                    timeline.into_iter().map(|message| (message.seq, message.body)).collect();
                // A weaker read need only show what this session has seen: its own.
                let owed = known.iter().filter(|(_, body)| strong || body.contains(&format!("from {} ", self.name)));
                for (seq, body) in owed {
                    if texts.get(seq) != Some(body) {
                        let found = texts.get(seq);
                        let wrong = format!(
                            "{} read {found:?} at {seq}, not the acknowledged \"{body}\" ({consistency:?})",
                            self.name
                        );
                        self.world.violation(wrong);
                    }
                }
            }
            Err(fault) if fault.reason == Reason::ConversationNotFound && known.is_empty() => {}
            Err(fault) => self.endure("read", &fault).await,
        }
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

    /// Collects the stream from its beginning, for ever.
    async fn listen(&self, session: &Session) {
        let mut subscription = session.subscribe(Start::After(0));
        while let Some(update) = subscription.next().await {
            match update {
                Ok(Update::Event(event)) => {
                    let Some(Event::Message(message)) = event.event else { continue };
                    self.world.count("events");
                    let mut streams = self.notes.streams.borrow_mut();
                    let mine = streams.entry(self.name.clone()).or_default();
                    mine.entry(message.conversation_id.clone()).or_default().push(message);
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
    }

    /// After the faults: settles what is unknown, writes afresh, and holds everything against the timelines.
    async fn look_back(&self, session: &Session) {
        let unknown: Vec<Number> = {
            let ledger = self.notes.ledger.borrow();
            let mine = ledger.attempts.iter().enumerate().filter(|(_, attempt)| attempt.from == self.name);
            mine.filter(|(_, attempt)| attempt.fate == Fate::Unknown).map(|(number, _)| number).collect()
        };
        for number in unknown {
            while !self.attempt(session, number).await {}
        }
        for other in &self.others {
            let id = session.cluster().request_id();
            let number = self.notes.ledger.borrow_mut().begin(id, &self.name, other, self.world.elapsed_ms());
            while !self.attempt(session, number).await {}
        }
    }
}

/// The whole timeline with `other`, oldest first.
pub async fn timeline(session: &Session, other: &str) -> Result<Vec<Message>, Fault> {
    let mut whole = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListMessagesRequest { page_size: 500, page_token, ..Default::default() };
        let page = session.messages(Some(&Recipient::Username(other.to_owned())), request).await?;
        whole.extend(page.messages);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    whole.sort_by_key(|message| message.seq);
    Ok(whole)
}
