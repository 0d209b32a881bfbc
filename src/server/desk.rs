//! What every call goes through, whichever service it is for.
//!
//! Its metadata is read, its address admitted or told to wait, its work done, its refusal logged and its answer stamped
//! with the log index that it reflects.

use std::{future::Future, sync::Arc, time::Duration};

use prost::Message;
use tokio::sync::watch;
use tonic::{Request, Response, Status, metadata::MetadataValue};
use tracing::debug;

use super::{
    call::{Call, session_fault},
    passwords::Passwords,
    places::Places,
    rates::{Origin, Rates},
    sessions::SeenAlive,
    translate::{Write, outcome},
    view,
};
use crate::{
    config::NodeConfig,
    node::Node,
    storage::kv::Read,
    types::{AccountId, Consistency, RequestId, SessionKey, limits},
    wire::{
        Fault, Reason,
        cluster::LeaderHint,
        metadata,
        store::{self, outcome::Result as Outcome},
    },
};

/// An answer, and the log index that it reflects.
#[derive(Debug)]
pub(super) struct Reply<T> {
    pub message: T,
    pub index: u64,
}

impl<T> Reply<T> {
    /// The same index with another message.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Reply<U> {
        Reply { message: f(self.message), index: self.index }
    }
}

/// A write that was accepted.
#[derive(Debug)]
pub(super) struct Done {
    pub outcome: Outcome,
    pub deduplicated: bool,
    pub index: u64,
}

/// What the services share.
pub(super) struct Desk {
    pub node: Node,
    pub passwords: Passwords,
    pub session_ttl: Duration,
    /// Places for subscriptions.
    pub subscriptions: Places,
    /// Room for pages on their way, in KiB.
    pages: Places,
    /// Becomes true, once, when the server stops.
    pub stopping: watch::Receiver<bool>,
    /// Whether the cluster has a quorum, as far as this node knows.
    pub has_quorum: watch::Receiver<bool>,
    /// How often clients may come.
    pub rates: Rates,
    sessions: SeenAlive,
}

impl Desk {
    pub fn new(
        node: Node,
        config: &NodeConfig,
        stopping: watch::Receiver<bool>,
        has_quorum: watch::Receiver<bool>,
    ) -> Self {
        Self {
            node,
            passwords: Passwords::new(config.argon2),
            session_ttl: config.session_ttl,
            subscriptions: Places::new(config.grpc.subscriptions),
            pages: Places::new(limits::PAGES_KIB),
            stopping,
            has_quorum,
            rates: Rates::new(&config.rates),
            sessions: SeenAlive::default(),
        }
    }

    /// Answers a user's call by `work`, unless too many come from its address.
    pub async fn answer<Q, T, F, Fut>(
        self: &Arc<Self>,
        method: &'static str,
        request: Request<Q>,
        work: F,
    ) -> Result<Response<T>, Status>
    where
        F: FnOnce(Arc<Self>, Call, Q) -> Fut,
        Fut: Future<Output = Result<Reply<T>, Fault>>,
    {
        let origin = request.remote_addr().map(|address| Origin::of(address.ip()));
        let held = request.extensions().get().cloned().unwrap_or_default();
        let answer = self.answer_always(method, request, |desk, call, request| async move {
            desk.rates.request(origin)?;
            desk.is_meant(&call)?;
            let call = call.from(origin, held);
            work(desk, call, request).await
        });
        answer.await
    }

    /// Answers by `work` what is asked to keep the cluster going, however busy the caller's address is.
    pub async fn answer_always<Q, T, F, Fut>(
        self: &Arc<Self>,
        method: &'static str,
        request: Request<Q>,
        work: F,
    ) -> Result<Response<T>, Status>
    where
        F: FnOnce(Arc<Self>, Call, Q) -> Fut,
        Fut: Future<Output = Result<Reply<T>, Fault>>,
    {
        let answered = match Call::of(request.metadata()) {
            Ok(call) => work(Arc::clone(self), call, request.into_inner()).await,
            Err(fault) => Err(fault),
        };
        match answered {
            Ok(reply) => Ok(stamped(reply)),
            Err(fault) => {
                debug!(method, reason = fault.reason.as_str(), message = %fault.message, "refused");
                Err(fault.into())
            }
        }
    }

    /// A client that finds this node where one of its own cluster used to be must not take its word.
    fn is_meant(&self, call: &Call) -> Result<(), Fault> {
        match &call.cluster {
            Some(meant) => self.node.belongs_to(meant),
            None => Ok(()),
        }
    }

    /// Reads on a view as fresh as `consistency` asks.
    pub async fn query<T: Send + 'static>(
        &self,
        consistency: Consistency,
        timeout: Duration,
        read: impl FnOnce(&dyn Read) -> view::Result<T> + Send + 'static,
    ) -> Result<(T, u64), Fault> {
        let (answer, index) = self.node.query(consistency, timeout, |state| view::part(read(state))).await?;
        Ok((answer?, index))
    }

    /// Reads for the account of the call's session, which is looked up in the very view that is read.
    pub async fn query_as<T: Message + 'static>(
        &self,
        call: &Call,
        read: impl FnOnce(&dyn Read, AccountId) -> view::Result<T> + Send + 'static,
    ) -> Result<Reply<T>, Fault> {
        let (key, now_ms) = (call.session()?, self.node.clock().now_ms());
        let reading = self.query(call.consistency, call.remaining(), move |state| {
            read(state, view::live_account(state, key, now_ms)?)
        });
        let (message, index) = reading.await?;
        let room = self.pages.take_wide(call.origin, message.encoded_len().div_ceil(1024));
        call.held.hold(room.map_err(|_| overloaded("too many pages are on their way to callers"))?);
        Ok(Reply { message, index })
    }

    /// Reads what a write has just brought about: as new as the write, and no round for a quorum.
    pub async fn query_after<T: Send + 'static>(
        &self,
        done: &Done,
        call: &Call,
        read: impl FnOnce(&dyn Read) -> view::Result<T> + Send + 'static,
    ) -> Result<Reply<T>, Fault> {
        let (message, index) = self.query(Consistency::AtLeast(done.index), call.remaining(), read).await?;
        Ok(Reply { message, index })
    }

    /// Agrees on a write of the call's session.
    pub async fn write(&self, call: &Call, write: Write) -> Result<Done, Fault> {
        let key = call.session()?;
        if let Some(account) = self.admit(call, key, write.request_id).await? {
            self.rates.write(account)?;
        }
        let done = self.propose(call, Some(key), write).await;
        if done.as_ref().is_err_and(|fault| fault.reason == Reason::SessionInvalid) {
            self.sessions.forget(key);
        }
        done
    }

    /// Agrees on a write; `session` is that of the acting account, where one is needed.
    pub async fn propose(&self, call: &Call, session: Option<SessionKey>, write: Write) -> Result<Done, Fault> {
        let command = store::Command {
            request_id: write.request_id.as_bytes().to_vec().into(),
            session_key: session.map(|key| key.0.to_vec().into()).unwrap_or_default(),
            verb: Some(write.verb),
        };
        let proposed = self.node.propose(command, call.remaining()).await?;
        let outcome = outcome::accepted(proposed.outcome)?;
        Ok(Done { outcome, deduplicated: proposed.deduplicated, index: proposed.index })
    }

    /// Keeps forged and dead sessions out of the log. One that this node does not know may be newer than its state, so
    /// a fresh view has the last word; and a retry of a write that ended its own session still gets its outcome.
    /// Answers with the session's account, if it is alive.
    async fn admit(&self, call: &Call, key: SessionKey, request_id: RequestId) -> Result<Option<AccountId>, Fault> {
        if let Some(account) = self.sessions.account(key) {
            return Ok(Some(account));
        }
        let now_ms = self.node.clock().now_ms();
        for consistency in [Consistency::Stale, Consistency::Linearizable] {
            let look = move |state: &dyn Read| view::admission(state, key, now_ms, request_id);
            match self.query(consistency, call.remaining(), look).await?.0 {
                view::Admission::Alive(account) => {
                    self.sessions.add(key, account);
                    return Ok(Some(account));
                }
                view::Admission::Repeated => return Ok(None),
                view::Admission::Unknown => {}
            }
        }
        Err(session_fault("the session is unknown, expired or revoked"))
    }

    /// Sends the caller to the leader before costly work that only the leader can finish.
    pub fn only_on_leader(&self) -> Result<(), Fault> {
        let known = self.node.membership();
        if known.leader_id != 0 && known.leader_id == known.answered_by_id {
            return Ok(());
        }
        let hint = LeaderHint {
            cluster_id: known.cluster_id,
            leader_id: known.leader_id,
            leader_address: known.leader_address,
            term: known.term,
        };
        Err(match (known.answered_by_id, known.leader_id) {
            (0, _) => Fault::new(Reason::NotMember, "this node belongs to no cluster yet"),
            (_, 0) => Fault::new(Reason::NoLeader, "no leader is known").retry_after(Duration::from_millis(100)),
            _ => Fault::new(Reason::NotLeader, format!("node {} is not the leader", known.answered_by))
                .next(format!("ask {}", hint.leader_address)),
        }
        .leader(hint))
    }
}

fn stamped<T>(reply: Reply<T>) -> Response<T> {
    let mut response = Response::new(reply.message);
    response.metadata_mut().insert(metadata::INDEX, MetadataValue::from(reply.index));
    response
}

/// OVERLOADED, with a moment to wait.
pub(super) fn overloaded(message: &str) -> Fault {
    Fault::new(Reason::Overloaded, message)
        .next("repeat the call, here or on another node")
        .retry_after(Duration::from_millis(200))
}

/// SHUTTING_DOWN.
pub(super) fn shutting_down() -> Fault {
    Fault::new(Reason::ShuttingDown, "the node is stopping").next("go on at another node")
}
