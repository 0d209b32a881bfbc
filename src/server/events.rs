//! EventService: live push, resumed from a cursor on any node.
//!
//! A subscription is level-triggered. Its doorbell, which is there before the first look at the state, only says that
//! there may be something to see; what there is, is read from the state after the cursor. Live events and the replay of
//! missed ones take the same path, so falling behind cannot lose anything (P5).
//!
//! Nothing is pushed into a queue: the next events are read when the consumer has taken the last ones. A slow consumer
//! lags, its cursor stands still, and all that it costs is one page.
//!
//! # Why a ring tells its index
//!
//! Looking at the changed conversations alone spares an account with thousands of them a long look. But a view may be
//! newer than the ring: it could show an event at index 9 of a conversation that rang, while one at index 8 of another
//! has not rung yet. Were 9 delivered, 8 would be behind the cursor for ever. So a look at some conversations takes no
//! event beyond the index that the ring vouches for. A look at all of them needs no such care, and one is taken with
//! every heartbeat, too.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use futures::stream::{self, BoxStream, StreamExt};
use prost::Message;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tonic::{Request, Response, Status};
use tracing::debug;

use super::{
    call::{Call, DEFAULT_TIMEOUT},
    cluster::stopped,
    desk::{Desk, Reply, overloaded, shutting_down},
    places::Place,
    translate::{
        events::{self as translate, Start},
        outcome::time,
    },
    view,
};
use crate::{
    fault_injection::{self, Bug},
    machine::query,
    node::{Doorbell, Ring},
    storage::{self, kv::Read},
    types::{AccountId, Consistency, ConversationId, Cursor, SessionKey, limits},
    wire::{
        Fault, Reason,
        chat::{self, event_service_server::EventService, subscribe_response::Event},
    },
};

/// The longest silence of a subscription.
const HEARTBEAT: Duration = Duration::from_secs(5);

pub(super) struct Events(pub Arc<Desk>);

type Delivery = BoxStream<'static, Result<chat::SubscribeResponse, Status>>;

#[tonic::async_trait]
impl EventService for Events {
    type SubscribeStream = Delivery;

    async fn subscribe(&self, request: Request<chat::SubscribeRequest>) -> Result<Response<Delivery>, Status> {
        self.0.answer("Subscribe", request, subscribe).await
    }
}

async fn subscribe(desk: Arc<Desk>, call: Call, request: chat::SubscribeRequest) -> Result<Reply<Delivery>, Fault> {
    let key = call.session()?;
    let start = translate::start(&request)?;
    let place = desk.subscriptions.take(call.origin);
    let place = place.map_err(|full| overloaded(&format!("too many subscriptions are served: {full}")))?;
    let (account, index) = match start {
        Start::Now => who(&desk, &call, key, Consistency::Linearizable).await?,
        Start::After(cursor) => resume(&desk, &call, key, cursor).await?,
    };
    let cursor = match start {
        Start::Now => Cursor::end_of(index),
        Start::After(cursor) if fault_injection::enabled(Bug::EventDroppedOnResume) && cursor > Cursor(0) => {
            Cursor::end_of(cursor.index() + 1)
        }
        Start::After(cursor) => cursor,
    };
    let doorbell = desk.node.doorbell(account, Vec::new())?;
    let subscription = Subscription::new(desk, key, cursor, doorbell, place);
    let stream = stream::unfold(Some(subscription), async |subscription| {
        let mut subscription = subscription?;
        match subscription.next().await {
            Ok(event) => Some((Ok(event), Some(subscription))),
            Err(fault) => {
                debug!(method = "Subscribe", reason = fault.reason.as_str(), message = %fault.message, "ended");
                Some((Err(fault.into()), None))
            }
        }
    });
    Ok(Reply { message: stream.boxed(), index })
}

async fn who(desk: &Desk, call: &Call, key: SessionKey, consistency: Consistency) -> Result<(AccountId, u64), Fault> {
    let now_ms = desk.node.clock().now_ms();
    desk.query(consistency, call.remaining(), move |state| view::live_account(state, key, now_ms)).await
}

/// This node's own view will do, with or without a quorum, if it has the session and reaches as far as the cursor. If
/// not, the node may lag; whoever is not in a view that is fresh is not of this cluster.
async fn resume(desk: &Desk, call: &Call, key: SessionKey, cursor: Cursor) -> Result<(AccountId, u64), Fault> {
    match who(desk, call, key, Consistency::Stale).await {
        Ok((account, index)) if index >= cursor.index() => return Ok((account, index)),
        Err(fault) if fault.reason != Reason::SessionInvalid => return Err(fault),
        _ => {}
    }
    let (account, index) = who(desk, call, key, Consistency::Linearizable).await?;
    if index < cursor.index() {
        let message = format!("the cursor is of log index {}, this cluster is at {index}", cursor.index());
        return Err(Fault {
            field: Some("after_cursor".to_owned()),
            ..Fault::new(Reason::CursorInvalid, message).next("subscribe from 0 or from_now")
        });
    }
    Ok((account, index))
}

/// What to look at next.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Look {
    /// At nothing: all was seen.
    Nothing,
    /// At these conversations, up to this log index.
    At { conversations: Vec<ConversationId>, through: u64 },
    /// At everything that the account may see.
    All,
}

impl Look {
    /// What to look at after a `ring`.
    fn after(ring: Ring) -> Self {
        match ring.conversations {
            Some(conversations) if !ring.account => Self::At { conversations, through: ring.through },
            _ => Self::All,
        }
    }

    fn conversations(&self) -> Option<&[ConversationId]> {
        match self {
            Self::At { conversations, .. } => Some(conversations),
            Self::Nothing | Self::All => None,
        }
    }

    /// How far this look, at a view of log index `index`, sees everything.
    fn sees_through(&self, index: u64) -> u64 {
        match self {
            Self::At { through, .. } => index.min(*through),
            Self::Nothing | Self::All => index,
        }
    }
}

/// The first of `events` that fit into `bytes`, but at least one; the rest is read again when these have been taken.
fn bounded(events: impl Iterator<Item = chat::SubscribeResponse>, bytes: usize) -> VecDeque<chat::SubscribeResponse> {
    let mut room = Some(bytes);
    let fits = |event: &chat::SubscribeResponse| {
        let fits = room.is_some();
        room = room.and_then(|room| room.checked_sub(event.encoded_len()));
        fits
    };
    events.take_while(fits).collect()
}

struct Subscription {
    desk: Arc<Desk>,
    key: SessionKey,
    /// All up to here was delivered.
    cursor: Cursor,
    doorbell: Doorbell,
    /// Read, and not yet delivered.
    pending: VecDeque<chat::SubscribeResponse>,
    look: Look,
    /// The account may have joined or left conversations since the doorbell was told of them.
    moved: bool,
    heartbeat_at: Instant,
    /// What the last heartbeat said.
    told_quorum: Option<bool>,
    has_quorum: watch::Receiver<bool>,
    stopping: watch::Receiver<bool>,
    _place: Place,
}

impl Subscription {
    fn new(desk: Arc<Desk>, key: SessionKey, cursor: Cursor, doorbell: Doorbell, place: Place) -> Self {
        Self {
            key,
            cursor,
            doorbell,
            pending: VecDeque::new(),
            look: Look::All,
            moved: true,
            heartbeat_at: Instant::now(),
            told_quorum: None,
            has_quorum: desk.has_quorum.clone(),
            stopping: desk.stopping.clone(),
            _place: place,
            desk,
        }
    }

    /// The next event or heartbeat, or why there will be none.
    async fn next(&mut self) -> Result<chat::SubscribeResponse, Fault> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                self.cursor = self.cursor.max(Cursor(event.cursor));
                return Ok(event);
            }
            if self.look != Look::Nothing {
                self.read().await?;
            } else if let Some(heartbeat) = self.heartbeat() {
                return Ok(heartbeat);
            } else {
                self.wait().await?;
            }
        }
    }

    /// Reads one page of what there is to look at. The session is looked up in the same view: one that has ended ends
    /// the subscription, before it shows anything more.
    async fn read(&mut self) -> Result<(), Fault> {
        if mem::take(&mut self.moved) {
            let conversations = self.query(query::conversation_ids).await?.0;
            self.doorbell.listen_to(&conversations);
        }
        let (look, cursor) = (self.look.clone(), self.cursor);
        let reading = self.query(move |state, account| {
            query::events_after(state, account, cursor, look.conversations(), limits::SUBSCRIPTION_READ_AHEAD)
        });
        let ((events, _), index) = reading.await?;
        let through = Cursor::end_of(self.look.sees_through(index));
        let seen = events.into_iter().take_while(|event| event.cursor <= through.0);
        self.pending = bounded(seen, limits::SUBSCRIPTION_READ_AHEAD_BYTES);
        if self.pending.is_empty() {
            self.look = Look::Nothing;
            self.cursor = self.cursor.max(through);
        }
        Ok(())
    }

    async fn query<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Read, AccountId) -> storage::Result<T> + Send + 'static,
    ) -> Result<(T, u64), Fault> {
        let (key, now_ms) = (self.key, self.desk.node.clock().now_ms());
        let reading = self.desk.query(Consistency::Stale, DEFAULT_TIMEOUT, move |state| {
            Ok(read(state, view::live_account(state, key, now_ms)?)?)
        });
        reading.await
    }

    /// A heartbeat, if one is due: now and then, and when the quorum is lost or found.
    fn heartbeat(&mut self) -> Option<chat::SubscribeResponse> {
        let has_quorum = *self.has_quorum.borrow_and_update();
        if Instant::now() < self.heartbeat_at && self.told_quorum == Some(has_quorum) {
            return None;
        }
        self.heartbeat_at = Instant::now() + HEARTBEAT;
        self.told_quorum = Some(has_quorum);
        let server_time = Some(time(self.desk.node.clock().now_ms()));
        let event = Event::Heartbeat(chat::Heartbeat { server_time, has_quorum });
        Some(chat::SubscribeResponse { cursor: self.cursor.0, event: Some(event) })
    }

    /// Waits until there may be something to look at, or a heartbeat is due.
    async fn wait(&mut self) -> Result<(), Fault> {
        tokio::select! {
            biased;
            () = stopped(&mut self.stopping) => Err(shutting_down()),
            ring = self.doorbell.wait() => {
                let ring = ring.ok_or_else(shutting_down)?;
                self.moved |= ring.account;
                self.look = Look::after(ring);
                Ok(())
            }
            () = sleep_until(self.heartbeat_at) => {
                self.look = Look::All;
                Ok(())
            }
            changed = self.has_quorum.changed() => changed.map_err(|_| shutting_down()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(conversations: Option<Vec<u64>>, account: bool) -> Ring {
        let conversations = conversations.map(|ids| ids.into_iter().map(ConversationId).collect());
        Ring { conversations, through: 7, account }
    }

    #[test]
    fn a_ring_of_some_conversations_is_looked_into_no_further_than_it_vouches() {
        let look = Look::after(ring(Some(vec![1]), false));
        assert_eq!(look.conversations(), Some(&[ConversationId(1)][..]));
        assert_eq!(look.sees_through(9), 7, "the view is newer than the ring");
        assert_eq!(look.sees_through(5), 5, "a view never shows what it has not");
    }

    #[test]
    fn what_is_read_ahead_is_bounded_in_bytes_but_never_nothing() {
        let event = |cursor, length| {
            let message = chat::Message { body: "x".repeat(length), ..Default::default() };
            chat::SubscribeResponse { cursor, event: Some(Event::Message(message)) }
        };
        let cursors = |lengths: &[usize]| -> Vec<u64> {
            let events = (1..).zip(lengths).map(|(cursor, length)| event(cursor, *length));
            bounded(events, 100).into_iter().map(|event| event.cursor).collect()
        };
        assert_eq!(cursors(&[1_000, 1]), [1], "the first always fits");
        assert_eq!(cursors(&[40, 80, 1]), [1, 2], "what goes over the edge is the last");
        assert_eq!(cursors(&[1, 1, 1]), [1, 2, 3]);
    }

    #[test]
    fn a_ring_of_the_account_or_of_too_much_means_a_look_at_all() {
        for ring in [ring(Some(vec![1]), true), ring(None, false)] {
            let look = Look::after(ring);
            assert_eq!((look.conversations(), look.sees_through(9)), (None, 9));
        }
    }
}
