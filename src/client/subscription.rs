//! An account's live stream of events, which moves to another node when the node that serves it fails.

use std::{future::Future, pin::Pin, time::Duration};

use futures::{Stream, stream};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Streaming;

use super::{
    Session,
    backoff::Backoff,
    effort::fault_of,
    order::{Order, Verdict},
};
use crate::wire::{
    Address, Fault, Reason,
    chat::{SubscribeRequest, SubscribeResponse, event_service_client::EventServiceClient, subscribe_response::Event},
};

/// Longest silence of a node before the stream is given up. A healthy node sends a heartbeat every 5 s.
const SILENCE: Duration = Duration::from_secs(12);
/// How often in a row nodes may refuse the cursor before the refusal is final. A node that lags behind refuses it too.
const REFUSALS: u32 = 3;

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the events that happen from now on.
    Now,
    /// After this cursor, taken from an earlier event or listing; 0 for all events.
    After(u64),
}

/// One item of a subscription.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// An event in the account's conversations. Each event comes once and in order.
    Event(SubscribeResponse),
    /// This node now serves the stream.
    Connected(Address),
    /// The stream broke. The subscription looks for another node and resumes after the last event.
    Reconnecting(Fault),
    /// The serving node knows no leader with a quorum: one is being elected, or too few nodes are up.
    NoQuorum,
    /// The quorum is back.
    Quorum,
    /// The service broke promise P5: an event is missing. The stream goes on.
    Broken(Fault),
}

/// An account's live stream of events. It reconnects by itself for as long as it is polled.
///
/// # Invariants
/// - Each event is returned once, in the order of cursors, across all nodes that serve the stream (P5). A gap is
///   reported as [`Update::Broken`] before the event that follows it.
/// - [`Subscription::cursor`] never runs ahead of the events returned, so resuming from it loses nothing.
/// - Dropping the future of [`Subscription::next`] loses nothing and restarts nothing: all progress is in `link`.
/// - After a final fault it is `ended` and returns `None`.
///
/// ```no_run
/// # async fn example(session: quorate::client::Session) {
/// use quorate::{
///     client::{Start, Update},
///     wire::chat::subscribe_response::Event,
/// };
///
/// let mut subscription = session.subscribe(Start::Now);
/// while let Some(Ok(update)) = subscription.next().await {
///     if let Update::Event(event) = update
///         && let Some(Event::Message(message)) = event.event
///     {
///         println!("{}: {}", message.sender, message.body);
///         // Keep `event.cursor` to resume with `Start::After(cursor)` after a restart.
///     }
/// }
/// # }
/// ```
pub struct Subscription {
    session: Session,
    start: Start,
    order: Order,
    link: Link,
    backoff: Backoff,
    /// Whether the serving node had its quorum at its last heartbeat; assumed until its first.
    quorum: bool,
    /// How often in a row nodes refused the cursor.
    refusals: u32,
    /// The event behind a gap, to be returned after [`Update::Broken`].
    held: Option<SubscribeResponse>,
    ended: bool,
}

/// The result of connecting: the stream and the node that serves it.
type Connected = Result<(Streaming<SubscribeResponse>, Address), Fault>;

/// The connection. Each state owns what it waits for, so dropping a poll half way loses nothing and restarts nothing.
enum Link {
    Down { until: Instant },
    Connecting(Pin<Box<dyn Future<Output = Connected> + Send>>),
    Up { address: Address, stream: Box<Streaming<SubscribeResponse>>, silent_at: Instant },
}

impl Subscription {
    fn new(session: Session, start: Start) -> Self {
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

    /// The cursor of the last event returned, for [`Start::After`] on any node. 0 before the first.
    pub fn cursor(&self) -> u64 {
        self.held.as_ref().map_or(self.order.cursor(), |held| held.cursor.saturating_sub(1))
    }

    /// The next update; `None` after a final fault. Cancel safe: dropping the future loses nothing.
    ///
    /// # Errors
    /// A fault is final: the session has ended, or the cluster does not know the cursor.
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

    /// Converts it to a [`Stream`], for combinators.
    pub fn into_stream(self) -> impl Stream<Item = Result<Update, Fault>> + Send {
        stream::unfold(self, |mut subscription| async move {
            let update = subscription.next().await?;
            Some((update, subscription))
        })
    }

    /// Waits for one thing to happen. Returns an update if there is one to report.
    async fn step(&mut self) -> Result<Option<Update>, Fault> {
        match &mut self.link {
            Link::Down { until } => {
                sleep_until(*until).await;
                self.link = Link::Connecting(Box::pin(connect(self.session.clone(), self.request())));
                Ok(None)
            }
            Link::Connecting(connecting) => match connecting.await {
                Ok((stream, address)) => {
                    // The new node's first heartbeat says how it stands.
                    self.quorum = true;
                    self.link = Link::Up {
                        address: address.clone(),
                        stream: Box::new(stream),
                        silent_at: Instant::now() + SILENCE,
                    };
                    Ok(Some(Update::Connected(address)))
                }
                Err(fault) => self.disconnected(fault).map(Some),
            },
            Link::Up { address, stream, silent_at } => {
                let fault = match timeout_at(*silent_at, stream.message()).await {
                    Ok(Ok(Some(delivered))) => {
                        *silent_at = Instant::now() + SILENCE;
                        return Ok(self.accept(delivered));
                    }
                    Ok(Ok(None)) => Fault::new(Reason::Unreachable, format!("{address} ended the stream")),
                    Ok(Err(status)) => fault_of(address, &status),
                    Err(_) => Fault::new(Reason::Timeout, format!("{address} has fallen silent")),
                };
                self.disconnected(fault).map(Some)
            }
        }
    }

    fn request(&self) -> SubscribeRequest {
        match (self.start, self.order.cursor()) {
            (Start::Now, 0) => SubscribeRequest { after_cursor: 0, from_now: true },
            (_, after_cursor) => SubscribeRequest { after_cursor, from_now: false },
        }
    }

    /// Accepts a delivery from the node. Returns an update if there is one to report.
    fn accept(&mut self, delivered: SubscribeResponse) -> Option<Update> {
        self.backoff.reset();
        self.refusals = 0;
        let verdict = self.order.judge(&delivered);
        if let Some(Event::Heartbeat(beat)) = &delivered.event {
            self.session.cluster().refresh_if_old();
            let before = std::mem::replace(&mut self.quorum, beat.has_quorum);
            return match (before, beat.has_quorum) {
                (true, false) => Some(Update::NoQuorum),
                (false, true) => Some(Update::Quorum),
                _ => None,
            };
        }
        match verdict {
            Verdict::New => Some(Update::Event(delivered)),
            Verdict::Repeated => None,
            Verdict::Gap { conversation, after, got } => {
                self.held = Some(delivered);
                let message = format!("{conversation}: message {got} came after {after}: the stream is not complete");
                let next = "`chat history` shows the whole conversation; please report this as a bug of the service";
                Some(Update::Broken(Fault::new(Reason::Internal, message).next(next)))
            }
        }
    }

    /// Handles a broken stream, or a failed attempt to open one: reconnects, unless the fault is final.
    fn disconnected(&mut self, fault: Fault) -> Result<Update, Fault> {
        // Try another node next.
        self.session.cluster().forget_favourite();
        let may_resume = match fault.reason {
            Reason::CursorInvalid => {
                self.refusals += 1;
                self.refusals < REFUSALS
            }
            Reason::Internal | Reason::WrongCluster => true,
            reason => reason.is_transient(),
        };
        if !may_resume {
            return Err(fault);
        }
        let wait = self.backoff.delay().max(fault.retry_after.unwrap_or_default());
        self.link = Link::Down { until: Instant::now() + wait };
        Ok(Update::Reconnecting(fault))
    }
}

impl Session {
    /// The account's live events from `start` on. Connects when it is first polled.
    pub fn subscribe(&self, start: Start) -> Subscription {
        Subscription::new(self.clone(), start)
    }
}

async fn connect(session: Session, request: SubscribeRequest) -> Connected {
    // No grpc-timeout: it would end the stream, too.
    let call = |channel, _| {
        let request = session.signed(request);
        async move { EventServiceClient::new(channel).subscribe(request).await }
    };
    let (response, address) = session.cluster().call_any(call).await?;
    Ok((response.into_inner(), address))
}
