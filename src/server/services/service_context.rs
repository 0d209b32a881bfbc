//! What the services share, and the common path of every RPC: read metadata, apply limits, run the handler, map errors.
//!
//! Reads use a view of this node's own state. How fresh it must be is the caller's choice: linearizable (the node asks
//! a quorum which index is committed, and waits until it has applied it), at least a log index, or whatever is there.
//!
//! Writes go through the log and end at the leader; another node answers NOT_LEADER with a hint and never forwards. The
//! session of a write is looked up before, so that forged tokens cost no other replica any work. The state machine
//! checks it again when it applies the command, and its answer is the one that counts.

use std::{future::Future, sync::Arc, time::Duration};

use prost::Message;
use tokio::sync::watch;
use tonic::{Request, Response, Status, metadata::MetadataValue};
use tracing::debug;

use super::{
    auth_queries::{self, SessionState},
    call::Call,
    check::Write,
    outcome,
};
use crate::{
    config::NodeConfig,
    node::Node,
    server::{
        faults::{overloaded, session_invalid},
        limits::{Origin, Quota, Rates},
        passwords::Passwords,
        session_cache::SessionCache,
        shutdown::Shutdown,
    },
    storage::kv::Read,
    types::{AccountId, Consistency, RequestId, SessionKey, limits},
    wire::{
        Fault, Reason,
        cluster::LeaderHint,
        metadata,
        store::{self, outcome::Result as Outcome},
    },
};

/// Time after which a client may ask again while no leader is known: well within an election.
const NO_LEADER_DELAY: Duration = Duration::from_millis(100);

/// A method of the API, as the common path treats it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method {
    name: &'static str,
    limited: bool,
}

impl Method {
    /// A method of users: its calls count against the rate of their address, and must mean this node's cluster.
    pub const fn limited(name: &'static str) -> Self {
        Self { name, limited: true }
    }

    /// A method of discovery or of operators: it works however busy the address is, and on a node of any cluster.
    pub const fn exempt(name: &'static str) -> Self {
        Self { name, limited: false }
    }
}

/// An answer, and the log index that it reflects.
#[derive(Debug)]
pub(super) struct Reply<T> {
    pub message: T,
    pub index: u64,
}

impl<T> Reply<T> {
    /// Replaces the message.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Reply<U> {
        Reply { message: f(self.message), index: self.index }
    }
}

/// A write that was committed, applied and not refused.
#[derive(Debug)]
pub(super) struct Committed {
    pub outcome: Outcome,
    /// Whether an earlier attempt with the same request id had the effect.
    pub deduplicated: bool,
    pub index: u64,
}

/// What the services share. One for each server; every part locks itself.
pub(in crate::server) struct ServiceContext {
    pub node: Node,
    /// Password hashing on the cores of this node.
    pub passwords: Passwords,
    /// Life of a new session.
    pub session_ttl: Duration,
    /// Permits for live subscriptions.
    pub subscriptions: Quota,
    /// One permit for each KiB of a page on its way to a caller.
    pages: Quota,
    /// Ends every stream when the server stops.
    pub shutdown: Shutdown,
    /// Whether the cluster has a quorum, as far as this node knows.
    pub has_quorum: watch::Receiver<bool>,
    /// Requests, writes and wrong passwords per unit of time.
    pub rates: Rates,
    /// Saves the writes of a live session the lookup.
    sessions: SessionCache,
}

impl ServiceContext {
    pub fn new(node: Node, config: &NodeConfig, shutdown: Shutdown, has_quorum: watch::Receiver<bool>) -> Self {
        Self {
            node,
            passwords: Passwords::new(config.argon2),
            session_ttl: config.session_ttl,
            subscriptions: Quota::new(config.grpc.subscriptions),
            pages: Quota::new(limits::PAGES_KIB),
            shutdown,
            has_quorum,
            rates: Rates::new(&config.rates),
            sessions: SessionCache::default(),
        }
    }

    /// Runs `handler` on a call of `method`, and turns its result into a response or a status. Refusals are logged at
    /// debug level only, so that a flood of them does not fill the log.
    pub(super) async fn answer<Q, T, F, Fut>(
        self: &Arc<Self>,
        method: Method,
        request: Request<Q>,
        handler: F,
    ) -> Result<Response<T>, Status>
    where
        F: FnOnce(Arc<Self>, Call, Q) -> Fut,
        Fut: Future<Output = Result<Reply<T>, Fault>>,
    {
        let answered = match self.admit_call(method, &request) {
            Ok(call) => handler(Arc::clone(self), call, request.into_inner()).await,
            Err(fault) => Err(fault),
        };
        match answered {
            Ok(reply) => Ok(response(reply)),
            Err(fault) => {
                debug!(method = method.name, reason = fault.reason.as_str(), message = %fault.message, "refused");
                Err(fault.into())
            }
        }
    }

    /// Reads the metadata of a call and applies the limits of its method.
    fn admit_call<Q>(&self, method: Method, request: &Request<Q>) -> Result<Call, Fault> {
        let origin = request.remote_addr().map(|address| Origin::of(address.ip()));
        let held = request.extensions().get().cloned().unwrap_or_default();
        let call = Call::of(request.metadata())?.with_origin(origin, held);
        if method.limited {
            self.rates.request(call.origin)?;
            // A client that finds this node at an address of its own cluster's must not believe what it says.
            call.cluster.as_deref().map_or(Ok(()), |cluster| self.node.belongs_to(cluster))?;
        }
        Ok(call)
    }

    /// Reads a view that is as fresh as `consistency` asks.
    pub(super) async fn query<T: Send + 'static>(
        &self,
        consistency: Consistency,
        timeout: Duration,
        read: impl FnOnce(&dyn Read) -> auth_queries::Result<T> + Send + 'static,
    ) -> Result<(T, u64), Fault> {
        let (answer, index) = self.node.query(consistency, timeout, |state| outcome::answered(read(state))).await?;
        Ok((answer?, index))
    }

    /// Reads on behalf of the call's account. The session is checked in the same view that is read. The answer keeps
    /// permits for its size until it has left.
    pub(super) async fn query_as<T: Message + 'static>(
        &self,
        call: &Call,
        read: impl FnOnce(&dyn Read, AccountId) -> auth_queries::Result<T> + Send + 'static,
    ) -> Result<Reply<T>, Fault> {
        let (key, now_ms) = (call.session()?, self.node.now_ms());
        let reading = self.query(call.consistency, call.remaining(), move |state| {
            read(state, auth_queries::live_account(state, key, now_ms)?)
        });
        let (message, index) = reading.await?;
        let permit = self.pages.take_wide(call.origin, message.encoded_len().div_ceil(1024));
        call.held.add(permit.map_err(|_| overloaded("too many pages are on their way to callers"))?);
        Ok(Reply { message, index })
    }

    /// Reads the effect of a write: as fresh as the write, without a round to a quorum.
    pub(super) async fn query_after<T: Send + 'static>(
        &self,
        committed: &Committed,
        call: &Call,
        read: impl FnOnce(&dyn Read) -> auth_queries::Result<T> + Send + 'static,
    ) -> Result<Reply<T>, Fault> {
        let consistency = Consistency::AtLeast(committed.index);
        let (message, index) = self.query(consistency, call.remaining(), read).await?;
        Ok(Reply { message, index })
    }

    /// Commits a write of the call's session. Repeating it with the same request id has one effect (P4).
    ///
    /// A write of a live session counts against the rate of its account, and a retry in a session that is over against that
    /// of its address: both enter the log.
    pub(super) async fn write(&self, call: &Call, write: Write) -> Result<Committed, Fault> {
        let key = call.session()?;
        if let Some(account) = self.admit_write(call, key, write.request_id).await? {
            self.rates.write(account)?;
        }
        let committed = self.propose(call, Some(key), write).await;
        if committed.as_ref().is_err_and(|fault| fault.reason == Reason::SessionInvalid) {
            self.sessions.forget(key);
        }
        committed
    }

    /// Commits a write whose session, if it needs one, has been checked by the caller.
    pub(super) async fn propose(
        &self,
        call: &Call,
        session: Option<SessionKey>,
        write: Write,
    ) -> Result<Committed, Fault> {
        let command = store::Command {
            request_id: write.request_id.as_bytes().to_vec().into(),
            session_key: session.map(|key| key.0.to_vec().into()).unwrap_or_default(),
            verb: Some(write.verb),
        };
        let proposed = self.node.propose(command, call.remaining()).await?;
        let outcome = outcome::accepted(proposed.outcome)?;
        Ok(Committed { outcome, deduplicated: proposed.deduplicated, index: proposed.index })
    }

    /// Refuses a write whose session is forged or over, and returns the account of a live one.
    ///
    /// This node may lag behind the session's creation, so a session that its own state does not know is looked up in a
    /// linearizable view. A retry of a write that ended its own session passes, without an account: it gets its
    /// outcome.
    async fn admit_write(
        &self,
        call: &Call,
        key: SessionKey,
        request_id: RequestId,
    ) -> Result<Option<AccountId>, Fault> {
        if let Some(account) = self.sessions.account(key) {
            return Ok(Some(account));
        }
        let now_ms = self.node.now_ms();
        for consistency in [Consistency::Stale, Consistency::Linearizable] {
            let look_up = move |state: &dyn Read| auth_queries::session_state(state, key, now_ms, request_id);
            match self.query(consistency, call.remaining(), look_up).await?.0 {
                SessionState::Alive(account) => {
                    self.sessions.add(key, account);
                    return Ok(Some(account));
                }
                SessionState::Repeated => {
                    self.rates.write_from(call.origin)?;
                    return Ok(None);
                }
                SessionState::Unknown => {}
            }
        }
        Err(session_invalid("the session is unknown, expired or revoked"))
    }

    /// Refuses, with a hint to the leader, on any other node. Called before work that is costly and useless elsewhere.
    pub fn require_leader(&self) -> Result<(), Fault> {
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
            (_, 0) => Fault::new(Reason::NoLeader, "no leader is known").retry_after(NO_LEADER_DELAY),
            _ => Fault::new(Reason::NotLeader, format!("node {} is not the leader", known.answered_by))
                .next(format!("ask {}", hint.leader_address)),
        }
        .leader(hint))
    }
}

/// The log index travels as metadata: the client sends it back to read its own writes.
fn response<T>(reply: Reply<T>) -> Response<T> {
    let mut response = Response::new(reply.message);
    response.metadata_mut().insert(metadata::INDEX, MetadataValue::from(reply.index));
    response
}
