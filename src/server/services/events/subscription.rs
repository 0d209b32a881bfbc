//! One live subscription.
//!
//! A subscription is level-triggered. Its doorbell, which exists before the first read, only says that there may be
//! something new; the events themselves are read from the state after the cursor. Live events and the replay of missed
//! ones take the same path, so a subscription that falls behind loses nothing (P5).
//!
//! Events are not queued. The next ones are read when the client has taken the last ones. A slow client lags, its
//! cursor stands still, and it costs the node one page of read-ahead.
//!
//! # Why a ring carries an index
//!
//! Reading only the conversations that rang spares an account with thousands of them a full read. But the view that is
//! read may be newer than the ring: it could show an event at index 9 of a conversation that rang, while another
//! conversation has an event at index 8 and has not rung yet. If 9 were delivered, the cursor would pass 8, which would
//! be lost for ever. So a partial read takes no event beyond the index that the ring vouches for. A full read needs no
//! such bound. One is done with every heartbeat.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use prost::Message;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    machine::query,
    node::{Doorbell, Ring},
    server::{
        faults::shutting_down,
        limits::Permit,
        services::{auth_queries, call::DEFAULT_TIMEOUT, outcome::time, service_context::ServiceContext},
        shutdown::Shutdown,
    },
    storage::{self, kv::Read},
    types::{AccountId, Consistency, ConversationId, Cursor, SessionKey, limits},
    wire::{
        Fault,
        chat::{self, subscribe_response::Event},
    },
};

/// Longest silence of a subscription. Its client takes a longer one for a dead connection.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What to read next.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    /// Nothing: everything up to the cursor has been read.
    Nothing,
    /// These conversations, up to this log index.
    Some { conversations: Vec<ConversationId>, through: u64 },
    /// Every conversation of the account.
    All,
}

impl Scope {
    /// What a ring of the doorbell asks to read.
    fn of(ring: Ring) -> Self {
        match ring.conversations {
            Some(conversations) if !ring.account => Self::Some { conversations, through: ring.through },
            _ => Self::All,
        }
    }

    fn conversations(&self) -> Option<&[ConversationId]> {
        match self {
            Self::Some { conversations, .. } => Some(conversations),
            Self::Nothing | Self::All => None,
        }
    }

    /// The log index up to which a read of this scope, in a view at `index`, misses nothing.
    fn complete_through(&self, index: u64) -> u64 {
        match self {
            Self::Some { through, .. } => index.min(*through),
            Self::Nothing | Self::All => index,
        }
    }
}

/// The first of `events`, until they reach `bytes`; at least one. The rest is read again later.
fn bounded(events: impl Iterator<Item = chat::SubscribeResponse>, bytes: usize) -> VecDeque<chat::SubscribeResponse> {
    let mut room = Some(bytes);
    let fits = |event: &chat::SubscribeResponse| {
        let fits = room.is_some();
        room = room.and_then(|room| room.checked_sub(event.encoded_len()));
        fits
    };
    events.take_while(fits).collect()
}

/// The state of one subscription. Used by one task, so nothing is locked.
///
/// Invariants:
/// - Since its start, every event of the account up to `cursor` has been delivered, in order, and none beyond it.
/// - `pending` holds the events that follow `cursor`, without a gap, within the bounds of the read-ahead.
/// - `scope` and the rings that `doorbell` keeps cover, together, every event after `pending`. So a read that finds
///   nothing may wait for the next ring.
pub(super) struct Subscription {
    context: Arc<ServiceContext>,
    key: SessionKey,
    cursor: Cursor,
    doorbell: Doorbell,
    pending: VecDeque<chat::SubscribeResponse>,
    scope: Scope,
    /// The account may have joined or left conversations that the doorbell does not know of.
    conversations_changed: bool,
    heartbeat_at: Instant,
    /// What the last heartbeat said of the quorum.
    announced_quorum: Option<bool>,
    has_quorum: watch::Receiver<bool>,
    shutdown: Shutdown,
    _permit: Permit,
}

impl Subscription {
    pub fn new(
        context: Arc<ServiceContext>,
        key: SessionKey,
        cursor: Cursor,
        doorbell: Doorbell,
        permit: Permit,
    ) -> Self {
        Self {
            key,
            cursor,
            doorbell,
            pending: VecDeque::new(),
            scope: Scope::All,
            conversations_changed: true,
            heartbeat_at: Instant::now(),
            announced_quorum: None,
            has_quorum: context.has_quorum.clone(),
            shutdown: context.shutdown.clone(),
            _permit: permit,
            context,
        }
    }

    /// The next event or heartbeat. A fault ends the subscription.
    pub async fn next(&mut self) -> Result<chat::SubscribeResponse, Fault> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                self.cursor = self.cursor.max(Cursor(event.cursor));
                return Ok(event);
            }
            if self.scope != Scope::Nothing {
                self.read().await?;
            } else if let Some(heartbeat) = self.heartbeat() {
                return Ok(heartbeat);
            } else {
                self.wait().await?;
            }
        }
    }

    /// Reads one page of the scope. The session is checked in the same view, so a session that has ended shows nothing
    /// more and ends the subscription.
    async fn read(&mut self) -> Result<(), Fault> {
        if mem::take(&mut self.conversations_changed) {
            let conversations = self.query(query::conversation_ids).await?.0;
            self.doorbell.listen_to(&conversations);
        }
        let (scope, cursor) = (self.scope.clone(), self.cursor);
        let reading = self.query(move |state, account| {
            query::events_after(state, account, cursor, scope.conversations(), limits::SUBSCRIPTION_READ_AHEAD)
        });
        let ((events, _), index) = reading.await?;
        let through = Cursor::end_of(self.scope.complete_through(index));
        let complete = events.into_iter().take_while(|event| event.cursor <= through.0);
        self.pending = bounded(complete, limits::SUBSCRIPTION_READ_AHEAD_BYTES);
        if self.pending.is_empty() {
            self.scope = Scope::Nothing;
            self.cursor = self.cursor.max(through);
        }
        Ok(())
    }

    async fn query<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Read, AccountId) -> storage::Result<T> + Send + 'static,
    ) -> Result<(T, u64), Fault> {
        let (key, now_ms) = (self.key, self.context.node.now_ms());
        let reading = self.context.query(Consistency::Stale, DEFAULT_TIMEOUT, move |state| {
            Ok(read(state, auth_queries::live_account(state, key, now_ms)?)?)
        });
        reading.await
    }

    /// A heartbeat, if one is due: after [`HEARTBEAT`], and at once when the quorum is lost or regained.
    fn heartbeat(&mut self) -> Option<chat::SubscribeResponse> {
        let has_quorum = *self.has_quorum.borrow_and_update();
        if Instant::now() < self.heartbeat_at && self.announced_quorum == Some(has_quorum) {
            return None;
        }
        self.heartbeat_at = Instant::now() + HEARTBEAT;
        self.announced_quorum = Some(has_quorum);
        let server_time = Some(time(self.context.node.now_ms()));
        let event = Event::Heartbeat(chat::Heartbeat { server_time, has_quorum });
        Some(chat::SubscribeResponse { cursor: self.cursor.0, event: Some(event) })
    }

    /// Waits for a ring, for the time of the next heartbeat, or for a change of the quorum.
    async fn wait(&mut self) -> Result<(), Fault> {
        tokio::select! {
            biased;
            () = self.shutdown.requested() => Err(shutting_down()),
            ring = self.doorbell.wait() => {
                let ring = ring.ok_or_else(shutting_down)?;
                self.conversations_changed |= ring.account;
                self.scope = Scope::of(ring);
                Ok(())
            }
            () = sleep_until(self.heartbeat_at) => {
                self.scope = Scope::All;
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
    fn a_ring_of_some_conversations_is_read_no_further_than_it_vouches() {
        let scope = Scope::of(ring(Some(vec![1]), false));
        assert_eq!(scope.conversations(), Some(&[ConversationId(1)][..]));
        assert_eq!(scope.complete_through(9), 7, "the view is newer than the ring");
        assert_eq!(scope.complete_through(5), 5, "a view never shows what it does not have");
    }

    #[test]
    fn the_read_ahead_is_bounded_in_bytes_but_never_empty() {
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
    fn a_ring_of_the_account_or_of_too_much_means_a_full_read() {
        for ring in [ring(Some(vec![1]), true), ring(None, false)] {
            let scope = Scope::of(ring);
            assert_eq!((scope.conversations(), scope.complete_through(9)), (None, 9));
        }
    }
}
