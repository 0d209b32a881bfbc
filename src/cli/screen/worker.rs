//! Runs the effects of the screen: calls to the cluster, and the outbox on disk.
//!
//! Each call runs as a task of its own, and its answer comes back as an event, in any order. Messages are the exception:
//! one task sends them one by one, in the order of the outbox.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
    time::timeout,
};

use super::{
    PAGE,
    event::{Effect, Event},
};
use crate::{
    client::{Delivery, Fate, Outbox, Recipient, Session, Start},
    types::{Consistency, RequestId},
    wire::{
        Fault, Reason,
        chat::{ListMessagesRequest, ListMessagesResponse, MessageRef},
    },
};

/// How long a linearizable read may take, before a read that any node can answer replaces it.
const LINEARIZABLE_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause before a waiting message is tried again, unless [`Effect::RetryNow`] comes first.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// An election that has not ended after this time cannot be won: too few nodes are up. One takes about a second, and may
/// have to be repeated.
const ELECTION: Duration = Duration::from_secs(3);
/// Accounts asked for to complete a name.
const NAMES: i32 = 20;

/// Runs effects. Dropping it aborts all tasks; messages that were not acknowledged stay in the outbox.
pub(super) struct Worker {
    session: Session,
    outbox: Outbox,
    events: mpsc::Sender<Event>,
    tasks: JoinSet<()>,
    wake: Arc<Notify>,
}

impl Worker {
    /// Subscribes, and starts to send the messages of the outbox.
    pub(super) fn start(session: Session, outbox: Outbox, events: mpsc::Sender<Event>) -> Self {
        let wake = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(session.clone(), events.clone()));
        tasks.spawn(send_all(session.clone(), outbox.clone(), events.clone(), wake.clone()));
        Self { session, outbox, events, tasks, wake }
    }

    /// Starts one effect. A message is in the outbox when this returns, so the outbox has the order of typing.
    pub(super) fn run(&mut self, effect: Effect) {
        let (session, events) = (self.session.clone(), self.events.clone());
        match effect {
            Effect::List => self.spawn(async move {
                let listed =
                    read_with_fallback(
                        &session,
                        |session| async move { session.all_conversations(false, false).await },
                    );
                Event::Listed(listed.await)
            }),
            Effect::Load { of, before } => self.spawn(async move {
                let page = read_with_fallback(&session, |session| load(session, of.clone(), before)).await;
                Event::Loaded { of, before, page }
            }),
            Effect::Mark { conversation, up_to } => self.spawn(async move {
                let result = session.mark_read_up_to(conversation, up_to).await.map(|_| ());
                Event::Marked { conversation, result }
            }),
            Effect::MarkSeen { conversation, seqs } => self.spawn(async move {
                let reference = |seq| MessageRef { conversation_id: conversation.to_string(), seq };
                let result = session.mark_read(seqs.into_iter().map(reference).collect()).await.map(|_| ());
                Event::Marked { conversation, result }
            }),
            Effect::Complete { prefix } => self.spawn(async move {
                let found = session.users(&format!("{prefix}*"), NAMES, "").await.unwrap_or_default();
                let names = found.accounts.into_iter().filter(|account| !account.deleted);
                Event::Completed { prefix, names: names.map(|account| account.username).collect() }
            }),
            Effect::Send { id, to, body } => {
                if let Err(error) = self.outbox.keep(id, &to, &body) {
                    self.tell(events, Event::NotKept { id, why: error.to_string() });
                }
                self.wake.notify_one();
            }
            Effect::Renew { id, fresh } => self.renew(id, fresh),
            Effect::Drop { id } => {
                // It is not there if it could not be written.
                let _ = self.outbox.strike(id);
            }
            Effect::AwaitLeader { election } => self.spawn(async move {
                tokio::time::sleep(ELECTION).await;
                Event::LeaderOverdue { election }
            }),
            Effect::RetryNow => self.wake.notify_one(),
            Effect::Quit => {}
        }
    }

    fn renew(&mut self, id: RequestId, fresh: RequestId) {
        if let Err(error) = self.outbox.renew(id, fresh) {
            self.tell(self.events.clone(), Event::NotKept { id: fresh, why: error.to_string() });
        }
        self.wake.notify_one();
    }

    /// Waits until a task has ended. Returns whether it panicked.
    pub(super) async fn failed(&mut self) -> bool {
        match self.tasks.join_next().await {
            Some(ended) => ended.is_err(),
            None => std::future::pending().await,
        }
    }

    fn spawn(&mut self, call: impl Future<Output = Event> + Send + 'static) {
        let events = self.events.clone();
        self.tasks.spawn(async move {
            // The receiver is gone if the screen is closing.
            let _ = events.send(call.await).await;
        });
    }

    fn tell(&mut self, events: mpsc::Sender<Event>, event: Event) {
        self.tasks.spawn(async move {
            let _ = events.send(event).await;
        });
    }
}

/// A linearizable read, or, if there is no quorum in time, one that is at least as new as everything seen so far
/// (read-your-writes). So the screen still shows conversations without a quorum.
async fn read_with_fallback<T, F, Fut>(session: &Session, read: F) -> Result<T, Fault>
where
    F: Fn(Session) -> Fut,
    Fut: Future<Output = Result<T, Fault>>,
{
    match timeout(LINEARIZABLE_TIMEOUT, read(session.clone())).await {
        Ok(Err(fault)) if fault.reason.is_transient() => {}
        Ok(answer) => return answer,
        Err(_) => {}
    }
    read(session.reading(Consistency::AtLeast(session.index()))).await
}

async fn load(session: Session, of: Recipient, before: Option<u64>) -> Result<ListMessagesResponse, Fault> {
    let before_seq = before.unwrap_or(u64::MAX);
    let page_size = i32::try_from(PAGE).unwrap_or(i32::MAX);
    let request = ListMessagesRequest { before_seq, page_size, ..Default::default() };
    session.messages(Some(&of), request).await
}

/// Turns updates of the subscription into events until it ends.
async fn follow(session: Session, events: mpsc::Sender<Event>) {
    let mut subscription = session.subscribe(Start::Now);
    while let Some(update) = subscription.next().await {
        let event = match update {
            Ok(update) => Event::Update(update),
            Err(fault) => Event::Ended(fault),
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// Sends the messages of the outbox one at a time and in order, now and whenever there are new ones.
async fn send_all(session: Session, outbox: Outbox, events: mpsc::Sender<Event>, wake: Arc<Notify>) {
    loop {
        let is_done = send_waiting(&session, &outbox, &events).await;
        if is_done {
            wake.notified().await;
        } else {
            // Waking early is harmless: a repeated attempt has the same request id.
            let _ = timeout(RETRY_PAUSE, wake.notified()).await;
        }
    }
}

/// Tries each waiting message, until one must wait longer. Returns whether nothing is left to retry.
async fn send_waiting(session: &Session, outbox: &Outbox, events: &mpsc::Sender<Event>) -> bool {
    let entries = match outbox.entries() {
        Ok(entries) => entries,
        Err(error) => {
            let _ = events.send(Event::Notice(error.to_string())).await;
            return true;
        }
    };
    for kept in entries.into_iter().filter(|kept| kept.fate == Fate::Waiting) {
        let delivery = match outbox.deliver(session, &kept).await {
            Ok(delivery) => delivery,
            Err(error) => Delivery::Waiting(Fault::new(Reason::Internal, error.to_string())),
        };
        let waits = matches!(delivery, Delivery::Waiting(_));
        if events.send(Event::Delivered { id: kept.id, delivery }).await.is_err() || waits {
            return false;
        }
    }
    true
}
