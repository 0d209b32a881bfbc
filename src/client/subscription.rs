//! A live stream of an account's events that outlives the nodes that serve it.

use std::{future::Future, pin::Pin, time::Duration};

use futures::{Stream, stream};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Streaming;

use super::{
    Session,
    backoff::Backoff,
    effort::fault_of,
    order::{Delivery, Order},
};
use crate::wire::{
    Address, Fault, Reason,
    chat::{SubscribeRequest, SubscribeResponse, event_service_client::EventServiceClient, subscribe_response::Event},
};

/// Longest silence of a node: it sends a heartbeat every 5 s when there is nothing to tell.
const SILENCE: Duration = Duration::from_secs(12);
/// How often in a row a cursor may be called invalid before it is believed: one that lags does not know it yet.
const REFUSALS: u32 = 3;

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what happens from now on.
    Now,
    /// After this cursor, which an earlier event or listing bore; 0 for everything.
    After(u64),
}

/// What a subscription has to tell.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// Something happened in the account's conversations. Each event comes once and in order.
    Event(SubscribeResponse),
    /// This node now serves the stream.
    Connected(Address),
    /// The stream broke; another node is being sought, with the cursor of the last event.
    Reconnecting(Fault),
    /// The serving node has lost the majority: nothing new can be agreed on until it returns.
    NoQuorum,
    /// The majority is back.
    Quorum,
    /// The promise of P5 was broken: the stream goes on, but something is missing or came twice.
    Broken(Fault),
}

/// A live stream of an account's events. Reconnects by itself for as long as it is polled.
pub struct Subscription {
    session: Session,
    start: Start,
    order: Order,
    link: Link,
    backoff: Backoff,
    quorum: bool,
    /// How often in a row the cursor was called invalid.
    refusals: u32,
    /// An event that comes after the news that something before it is missing.
    held: Option<SubscribeResponse>,
    ended: bool,
}

/// What connecting ends in: the stream and the node that serves it.
type Connected = Result<(Streaming<SubscribeResponse>, Address), Fault>;

/// Every state keeps what it waits for, so that dropping a poll half way loses nothing and starts nothing over.
enum Link {
    Down { until: Instant },
    Connecting(Pin<Box<dyn Future<Output = Connected> + Send>>),
    Up { address: Address, stream: Box<Streaming<SubscribeResponse>>, silent_at: Instant },
}

impl Subscription {
    pub(super) fn new(session: Session, start: Start) -> Self {
        Self {
            order: Order::after(if let Start::After(cursor) = start { cursor } else { 0 }),
            backoff: Backoff::new(session.cluster().entropy().clone()),
            session,
            start,
            link: Link::Down { until: Instant::now() },
            quorum: true,
            refusals: 0,
            held: None,
            ended: false,
        }
    }

    /// The cursor of the last event delivered: what [`Start::After`] resumes from, on any node. 0 before the first.
    pub fn cursor(&self) -> u64 {
        self.held.as_ref().map_or(self.order.cursor(), |held| held.cursor.saturating_sub(1))
    }

    /// The next update. A fault is final: the session ended, or the cursor is none of this cluster's; `None` after it.
    ///
    /// Nothing is lost when the returned future is dropped before it is ready.
    pub async fn next(&mut self) -> Option<Result<Update, Fault>> {
        if self.ended {
            return None;
        }
        if let Some(held) = self.held.take() {
            return Some(Ok(Update::Event(held)));
        }
        loop {
            match self.step().await {
                Ok(None) => {}
                Ok(Some(update)) => return Some(Ok(update)),
                Err(fault) => {
                    self.ended = true;
                    return Some(Err(fault));
                }
            }
        }
    }

    /// As a [`Stream`], for combinators.
    pub fn into_stream(self) -> impl Stream<Item = Result<Update, Fault>> + Send {
        stream::unfold(self, |mut subscription| async move {
            let update = subscription.next().await?;
            Some((update, subscription))
        })
    }

    async fn step(&mut self) -> Result<Option<Update>, Fault> {
        match &mut self.link {
            Link::Down { until } => {
                sleep_until(*until).await;
                self.link = Link::Connecting(Box::pin(connect(self.session.clone(), self.request())));
                Ok(None)
            }
            Link::Connecting(connecting) => match connecting.await {
                Ok((stream, address)) => {
                    self.link = Link::Up {
                        address: address.clone(),
                        stream: Box::new(stream),
                        silent_at: Instant::now() + SILENCE,
                    };
                    Ok(Some(Update::Connected(address)))
                }
                Err(fault) => self.lost(fault).map(Some),
            },
            Link::Up { address, stream, silent_at } => {
                let fault = match timeout_at(*silent_at, stream.message()).await {
                    Ok(Ok(Some(delivered))) => {
                        *silent_at = Instant::now() + SILENCE;
                        return Ok(self.take(delivered));
                    }
                    Ok(Ok(None)) => Fault::new(Reason::Unreachable, format!("{address} ended the stream")),
                    Ok(Err(status)) => fault_of(address, &status),
                    Err(_) => Fault::new(Reason::Timeout, format!("{address} has fallen silent")),
                };
                self.lost(fault).map(Some)
            }
        }
    }

    fn request(&self) -> SubscribeRequest {
        match (self.start, self.order.cursor()) {
            (Start::Now, 0) => SubscribeRequest { after_cursor: 0, from_now: true },
            (_, after_cursor) => SubscribeRequest { after_cursor, from_now: false },
        }
    }

    fn take(&mut self, delivered: SubscribeResponse) -> Option<Update> {
        self.backoff.reset();
        self.refusals = 0;
        let verdict = self.order.judge(&delivered);
        if let Some(Event::Heartbeat(beat)) = &delivered.event {
            self.session.cluster().freshen();
            let before = std::mem::replace(&mut self.quorum, beat.has_quorum);
            return match (before, beat.has_quorum) {
                (true, false) => Some(Update::NoQuorum),
                (false, true) => Some(Update::Quorum),
                _ => None,
            };
        }
        match verdict {
            Delivery::New => Some(Update::Event(delivered)),
            Delivery::Repeated => None,
            Delivery::Gap { conversation, after, got } => {
                self.held = Some(delivered);
                let message = format!("{conversation}: message {got} came after {after}: the stream is not complete");
                let next = "`chat history` shows what is there; please report this as a fault of the service";
                Some(Update::Broken(Fault::new(Reason::Internal, message).next(next)))
            }
        }
    }

    /// The stream or the attempt to open it broke. Says so, and goes on, unless the fault is final.
    fn lost(&mut self, fault: Fault) -> Result<Update, Fault> {
        // Another node is better asked than this one again.
        self.session.cluster().roam();
        let goes_on = match fault.reason {
            Reason::CursorInvalid => {
                self.refusals += 1;
                self.refusals < REFUSALS
            }
            Reason::Internal | Reason::WrongCluster => true,
            reason => reason.is_transient(),
        };
        if !goes_on {
            return Err(fault);
        }
        let wait = self.backoff.delay().max(fault.retry_after.unwrap_or_default());
        self.link = Link::Down { until: Instant::now() + wait };
        Ok(Update::Reconnecting(fault))
    }
}

async fn connect(session: Session, request: SubscribeRequest) -> Connected {
    // No grpc-timeout: it would end the stream as well.
    let call = |channel, _| {
        let request = session.signed(request);
        async move { EventServiceClient::new(channel).subscribe(request).await }
    };
    let (response, address) = session.cluster().anywhere(call).await?;
    Ok((response.into_inner(), address))
}
