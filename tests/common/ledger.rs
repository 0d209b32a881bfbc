//! Writers and readers under a ledger: what was tried, what was acknowledged, and what the replicas then hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use quorate::{
    client::{Recipient, Session, outcome_is_unknown},
    types::{Consistency, ConversationId},
    wire::{Fault, chat},
};
use tokio::{task::JoinHandle, time::Instant};

use super::{Cluster, User, user::timeline};

/// One write.
#[derive(Debug, Clone)]
struct Attempt {
    body: String,
    invoked: Instant,
    acknowledged: Option<(Instant, u64, u64)>,
    unknown: bool,
}

/// What was tried.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Vec<Attempt>>>);

/// Writers and readers at work on one room.
pub struct Load {
    ledger: Ledger,
    room: ConversationId,
    reader: User,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    acknowledged: Arc<AtomicU64>,
}

impl Load {
    /// So many writers, each with an account and connections of its own, and a reader that checks that no read goes
    /// back behind what was acknowledged before it began (P3).
    pub async fn start(cluster: &Cluster, writers: usize) -> Self {
        let reader = User::register(cluster, "reader").await;
        let names: Vec<String> = (0..writers).map(|writer| format!("writer{writer}")).collect();
        let users = futures::future::join_all(names.iter().map(|name| User::register(cluster, name))).await;
        let room = reader.session.create_room("ledger", false, names).await.expect("a room");
        let room: ConversationId = room.conversation_id.parse().expect("a conversation id");
        let (ledger, stop, acknowledged) = (Ledger::default(), Arc::new(AtomicBool::new(false)), Arc::default());
        let mut tasks = Vec::new();
        for user in users {
            tasks.push(tokio::spawn(write(user, room, ledger.clone(), stop.clone(), Arc::clone(&acknowledged))));
        }
        tasks.push(tokio::spawn(read(reader.session.clone(), room, stop.clone(), Arc::clone(&acknowledged))));
        Self { ledger, room, reader, stop, tasks, acknowledged }
    }

    /// How many writes have been acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.ledger.entries().iter().filter(|attempt| attempt.acknowledged.is_some()).count()
    }

    /// Waits until so many more writes have been acknowledged.
    pub async fn goes_on(&self, more: usize) {
        let wanted = self.acknowledged() + more;
        super::eventually("writes go on", async || match self.acknowledged() {
            enough if enough >= wanted => Ok(()),
            few => Err(format!("{few} writes acknowledged, {wanted} wanted")),
        })
        .await;
    }

    /// The longest time in which no write was acknowledged.
    pub fn longest_gap(&self) -> Duration {
        let mut moments: Vec<Instant> =
            self.ledger.entries().iter().filter_map(|attempt| attempt.acknowledged.map(|(at, ..)| at)).collect();
        moments.sort_unstable();
        moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Ends the load and holds the replicas against the ledger (P1, P3, P4, P8).
    pub async fn finish(self, cluster: &Cluster) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap_or_else(|error| panic!("{error}\n{}", cluster.status()));
        }
        cluster.assert_replicas_agree().await;
        let room = Recipient::Conversation(self.room);
        let session = self.reader.session.reading(Consistency::Linearizable);
        let held = timeline(&session, &room).await.expect("the timeline can be read");
        let attempts = self.ledger.entries();
        check(&attempts, &held);
        attempts.iter().filter(|attempt| attempt.acknowledged.is_some()).count()
    }
}

impl Ledger {
    fn entries(&self) -> Vec<Attempt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn begin(&self, body: &str) -> usize {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = Attempt { body: body.to_owned(), invoked: Instant::now(), acknowledged: None, unknown: false };
        entries.push(attempt);
        entries.len() - 1
    }

    fn end(&self, at: usize, result: &Result<chat::SendMessageResponse, Fault>) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(sent) => {
                let message = sent.message.clone().unwrap_or_default();
                entries[at].acknowledged = Some((Instant::now(), message.seq, message.cursor));
            }
            Err(fault) => entries[at].unknown = outcome_is_unknown(fault),
        }
    }
}

async fn write(user: User, room: ConversationId, ledger: Ledger, stop: Arc<AtomicBool>, newest: Arc<AtomicU64>) {
    let room = Recipient::Conversation(room);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let body = format!("{} {number}", user.name);
        let at = ledger.begin(&body);
        let sent = user.session.send(&room, &body).await;
        if let Ok(sent) = &sent {
            newest.fetch_max(sent.message.as_ref().map_or(0, |message| message.seq), Ordering::SeqCst);
        }
        if let Err(fault) = &sent {
            assert!(fault.reason.is_transient(), "{body} was refused: {fault:?}");
        }
        ledger.end(at, &sent);
        // A write now and then shows as much as a thousand, and leaves the machine to the nodes.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn read(session: Session, room: ConversationId, stop: Arc<AtomicBool>, newest: Arc<AtomicU64>) {
    let room = Recipient::Conversation(room);
    while !stop.load(Ordering::Relaxed) {
        let before = newest.load(Ordering::SeqCst);
        let request = chat::ListMessagesRequest { before_seq: u64::MAX, page_size: 1, ..Default::default() };
        if let Ok(page) = session.messages(Some(&room), request).await {
            let seen = page.messages.iter().map(|message| message.seq).max().unwrap_or(0);
            assert!(seen >= before, "a read saw up to {seen} after {before} had been acknowledged (P3)");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn check(attempts: &[Attempt], held: &[chat::Message]) {
    let messages: Vec<&chat::Message> = held.iter().filter(|message| !message.body.is_empty()).collect();
    let mut by_body: BTreeMap<&str, &chat::Message> = BTreeMap::new();
    for message in &messages {
        let double = by_body.insert(&message.body, message);
        assert!(double.is_none(), "{:?} is there twice (P4)", message.body);
    }
    assert!(held.windows(2).all(|pair| pair[0].cursor < pair[1].cursor), "cursors must rise (P5)");
    let tried: BTreeSet<&str> = attempts.iter().map(|attempt| attempt.body.as_str()).collect();
    for message in &messages {
        assert!(tried.contains(message.body.as_str()), "{:?} was never sent", message.body);
    }
    for attempt in attempts {
        let found = by_body.get(attempt.body.as_str()).map(|message| (message.seq, message.cursor));
        match attempt.acknowledged {
            Some((_, seq, cursor)) => {
                assert_eq!(found, Some((seq, cursor)), "{:?} was acknowledged there (P1)", attempt.body);
            }
            None => assert!(attempt.unknown || found.is_none(), "{:?} was refused, and is there", attempt.body),
        }
    }
    in_real_time_order(attempts);
}

/// What was acknowledged before another was begun stands before it.
fn in_real_time_order(attempts: &[Attempt]) {
    let mut done: Vec<_> = attempts.iter().filter_map(|a| a.acknowledged.map(|(at, seq, _)| (at, seq))).collect();
    done.sort_unstable();
    let mut newest: Vec<u64> = Vec::with_capacity(done.len());
    for (_, seq) in &done {
        newest.push(newest.last().copied().unwrap_or(0).max(*seq));
    }
    for attempt in attempts {
        let Some((_, seq, _)) = attempt.acknowledged else { continue };
        let before = done.partition_point(|(at, _)| *at < attempt.invoked);
        let highest = before.checked_sub(1).map_or(0, |last| newest[last]);
        assert!(highest < seq, "{:?} (seq {seq}) was begun after seq {highest} was acknowledged (P3)", attempt.body);
    }
}
