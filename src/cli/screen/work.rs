//! The calls that the screen asks for. Each runs by itself and comes back as an event; what is sent goes out in order.

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
        chat::{ListMessagesRequest, ListMessagesResponse},
    },
};

/// How long a read may take that the majority confirms, before one that any node answers is taken instead.
const CONFIRMED: Duration = Duration::from_secs(3);
/// How long a message waits before it is tried again, unless the connection gets better sooner.
const AGAIN: Duration = Duration::from_secs(2);
/// Names asked for to complete one.
const NAMES: i32 = 20;

/// Runs what the screen asks for.
pub(super) struct Worker {
    session: Session,
    outbox: Outbox,
    events: mpsc::Sender<Event>,
    tasks: JoinSet<()>,
    hurry: Arc<Notify>,
}

impl Worker {
    /// Subscribes, and begins to send what the outbox holds.
    pub(super) fn start(session: Session, outbox: Outbox, events: mpsc::Sender<Event>) -> Self {
        let hurry = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(session.clone(), events.clone()));
        tasks.spawn(send_all(session.clone(), outbox.clone(), events.clone(), hurry.clone()));
        Self { session, outbox, events, tasks, hurry }
    }

    /// Begins one effect. Keeping a message on disk is done when this returns: the order in which it was typed counts.
    pub(super) fn begin(&mut self, effect: Effect) {
        let (session, events) = (self.session.clone(), self.events.clone());
        match effect {
            Effect::List => self.spawn(async move {
                let listed = lenient(&session, |session| async move { session.all_conversations(false, false).await });
                Event::Listed(listed.await)
            }),
            Effect::Load { of, before } => self.spawn(async move {
                let page = lenient(&session, |session| load(session, of.clone(), before)).await;
                Event::Loaded { of, before, page }
            }),
            Effect::Mark { conversation, up_to } => self.spawn(async move {
                let result = session.mark_read_up_to(conversation, up_to).await.map(|_| ());
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
                self.hurry.notify_one();
            }
            Effect::Renew { id, fresh } => self.renew(id, fresh),
            Effect::Drop { id } => {
                // One that could not be kept is not there.
                let _ = self.outbox.strike(id);
            }
            Effect::Hurry => self.hurry.notify_one(),
            Effect::Quit => {}
        }
    }

    fn renew(&mut self, id: RequestId, fresh: RequestId) {
        if let Err(error) = self.outbox.renew(id, fresh) {
            self.tell(self.events.clone(), Event::NotKept { id: fresh, why: error.to_string() });
        }
        self.hurry.notify_one();
    }

    /// Waits until a task has ended; says whether it did so by a fault of this program.
    pub(super) async fn failed(&mut self) -> bool {
        match self.tasks.join_next().await {
            Some(ended) => ended.is_err(),
            None => std::future::pending().await,
        }
    }

    fn spawn(&mut self, call: impl Future<Output = Event> + Send + 'static) {
        let events = self.events.clone();
        self.tasks.spawn(async move {
            // Nobody listens any more: the screen is being left.
            let _ = events.send(call.await).await;
        });
    }

    fn tell(&mut self, events: mpsc::Sender<Event>, event: Event) {
        self.tasks.spawn(async move {
            let _ = events.send(event).await;
        });
    }
}

/// A read that the majority confirms, or else, when that takes too long, one as new as anything seen so far.
async fn lenient<T, F, Fut>(session: &Session, read: F) -> Result<T, Fault>
where
    F: Fn(Session) -> Fut,
    Fut: Future<Output = Result<T, Fault>>,
{
    match timeout(CONFIRMED, read(session.clone())).await {
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

/// Sends what the outbox holds, one message at a time and in order; then whatever comes.
async fn send_all(session: Session, outbox: Outbox, events: mpsc::Sender<Event>, hurry: Arc<Notify>) {
    loop {
        let is_done = send_waiting(&session, &outbox, &events).await;
        if is_done {
            hurry.notified().await;
        } else {
            // An early wake is as good: the attempt is the same one.
            let _ = timeout(AGAIN, hurry.notified()).await;
        }
    }
}

/// Says whether nothing is left to be tried again.
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
