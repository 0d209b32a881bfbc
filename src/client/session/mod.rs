//! A signed-in account, and every call that it makes.
//!
//! [`Session`] puts the token, the freshness of reads and the deadline into each request, and repeats it through
//! [`Cluster`]. The calls stand in one file for each service: [`accounts`], [`conversations`] and [`messages`].
//! Live events are in [`subscription`](super::subscription).

mod accounts;
mod conversations;
mod messages;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use messages::Recipient;
use tonic::{Request, Response, Status, metadata::AsciiMetadataValue, transport::Channel};

use super::{Cluster, effort::Kind};
use crate::{
    types::{Consistency, RequestId},
    wire::{
        Fault,
        chat::{self, account_service_client::AccountServiceClient},
        metadata,
    },
};

/// Key of a fault's metadata that holds the request_id of the write.
const REQUEST_ID: &str = "request_id";

/// A signed-in account. Cheap to clone; clones share the token and the newest index seen.
///
/// Each write mints one request_id and bears it in every attempt. A fault of a write carries that id in its metadata
/// under `request_id`. To repeat a write after its deadline, choose the id yourself and use the `_as` form.
///
/// # Invariants
/// - The token never appears in debug output: its header value is marked as sensitive.
/// - `index` never goes back. It is the newest log index that any answer to any clone reflected, so a read with
///   `Consistency::AtLeast(session.index())` sees all of the session's own writes.
/// - A session holds no connection. It may be used across any number of leader changes.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use quorate::{
///     client::{Cluster, Recipient, Session, Settings},
///     wire::Dialer,
/// };
///
/// let seeds = vec!["127.0.0.1:7400".parse()?];
/// let cluster = Cluster::new(seeds, Dialer::tcp(), Settings::new(Duration::from_secs(10)));
/// Session::register(&cluster, "alice", "correct horse battery").await?;
/// let (session, created) = Session::login(&cluster, "alice", "correct horse battery", "laptop").await?;
/// session.send(&Recipient::Username("bob".into()), "hello").await?;
///
/// // Later, or in another process: the token is all that is needed.
/// let same = Session::resume(&cluster, &created.token)?;
/// # let _ = same;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Session {
    cluster: Cluster,
    authorization: AsciiMetadataValue,
    index: Arc<AtomicU64>,
    consistency: Consistency,
}

impl Session {
    /// Creates an account. Does not sign in.
    pub async fn register(cluster: &Cluster, username: &str, password: &str) -> Result<chat::Account, Fault> {
        Self::register_as(cluster, cluster.request_id(), username, password).await
    }

    /// Creates an account under a given request_id, so that an attempt of unknown outcome can be repeated.
    pub async fn register_as(
        cluster: &Cluster,
        request_id: RequestId,
        username: &str,
        password: &str,
    ) -> Result<chat::Account, Fault> {
        let request = chat::CreateAccountRequest {
            request_id: request_id.to_string(),
            username: username.to_owned(),
            password: password.to_owned(),
        };
        let caller = Caller { cluster, authorization: None, index: None };
        let call = |channel, request| async move { AccountServiceClient::new(channel).create_account(request).await };
        let response = caller.write(request_id, request, call).await?;
        Ok(response.account.unwrap_or_default())
    }

    /// Signs in. `device` labels the session in listings. The response holds the token for [`Session::resume`].
    pub async fn login(
        cluster: &Cluster,
        username: &str,
        password: &str,
        device: &str,
    ) -> Result<(Self, chat::CreateSessionResponse), Fault> {
        let request_id = cluster.request_id();
        let request = chat::CreateSessionRequest {
            request_id: request_id.to_string(),
            username: username.to_owned(),
            password: password.to_owned(),
            device: device.to_owned(),
        };
        let index = Arc::new(AtomicU64::new(0));
        let caller = Caller { cluster, authorization: None, index: Some(&index) };
        let call = |channel, request| async move { AccountServiceClient::new(channel).create_session(request).await };
        let response = caller.write(request_id, request, call).await?;
        let session = Self::resume(cluster, &response.token)?;
        session.index.store(index.load(Ordering::Relaxed), Ordering::Relaxed);
        Ok((session, response))
    }

    /// Resumes a session from its token. Makes no call: if the session has ended, the first call says so.
    pub fn resume(cluster: &Cluster, token: &str) -> Result<Self, Fault> {
        let mut authorization: AsciiMetadataValue =
            format!("Bearer {token}").parse().map_err(|_| Fault::invalid("token", "the session's token is damaged"))?;
        authorization.set_sensitive(true);
        let index = Arc::new(AtomicU64::new(0));
        Ok(Self { cluster: cluster.clone(), authorization, index, consistency: Consistency::default() })
    }

    /// The same session with another freshness of reads. `AtLeast(session.index())` reads the session's own writes
    /// without a quorum round.
    #[must_use]
    pub fn reading(&self, consistency: Consistency) -> Self {
        Self { consistency, ..self.clone() }
    }

    /// The same session over another client of the same cluster, with that client's connections and timeout.
    #[must_use]
    pub fn through(&self, cluster: &Cluster) -> Self {
        Self { cluster: cluster.clone(), ..self.clone() }
    }

    /// The newest log index that any answer reflected; 0 before the first answer.
    pub fn index(&self) -> u64 {
        self.index.load(Ordering::Relaxed)
    }

    /// The cluster that the session calls.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Sends a write to the leader. `request` must already hold `id`.
    async fn write<Q, R, F, Fut>(&self, id: RequestId, request: Q, call: F) -> Result<R, Fault>
    where
        Q: Clone,
        F: Fn(Channel, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let authorization = Some(&self.authorization);
        Caller { cluster: &self.cluster, authorization, index: Some(&self.index) }.write(id, request, call).await
    }

    /// Sends a read to any node.
    async fn read<Q, R, F, Fut>(&self, request: Q, call: F) -> Result<R, Fault>
    where
        Q: Clone,
        F: Fn(Channel, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let attempt = |channel, timeout| call(channel, self.read_request(request.clone(), timeout));
        let (response, _) = self.cluster.call_any(attempt).await?;
        note_index(&self.index, &response);
        Ok(response.into_inner())
    }

    /// The request of a read: with the token, the timeout and the freshness that the session asks for.
    pub(super) fn read_request<Q>(&self, message: Q, timeout: Duration) -> Request<Q> {
        let mut request = self.signed(message);
        request.set_timeout(timeout);
        match self.consistency {
            Consistency::Linearizable => {}
            Consistency::AtLeast(index) => {
                request.metadata_mut().insert(metadata::MIN_INDEX, index.into());
            }
            Consistency::Stale => {
                request.metadata_mut().insert(metadata::CONSISTENCY, AsciiMetadataValue::from_static("stale"));
            }
        }
        request
    }

    /// A request with the session's token and no timeout.
    pub(super) fn signed<Q>(&self, message: Q) -> Request<Q> {
        let mut request = self.cluster.request(message);
        request.metadata_mut().insert(metadata::AUTHORIZATION, self.authorization.clone());
        request
    }
}

/// The author of a write: a session, or somebody who is not signed in yet.
struct Caller<'a> {
    cluster: &'a Cluster,
    authorization: Option<&'a AsciiMetadataValue>,
    index: Option<&'a AtomicU64>,
}

impl Caller<'_> {
    async fn write<Q, R, F, Fut>(&self, id: RequestId, message: Q, call: F) -> Result<R, Fault>
    where
        Q: Clone,
        F: Fn(Channel, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let attempt = |channel, timeout| {
            let mut request = self.cluster.request(message.clone());
            request.set_timeout(timeout);
            if let Some(authorization) = self.authorization {
                request.metadata_mut().insert(metadata::AUTHORIZATION, authorization.clone());
            }
            call(channel, request)
        };
        let response = self.cluster.call_leader(Kind::Write, attempt).await.map_err(|mut fault| {
            fault.metadata.insert(REQUEST_ID.into(), id.to_string());
            fault
        })?;
        if let Some(index) = self.index {
            note_index(index, &response);
        }
        Ok(response.into_inner())
    }
}

/// Raises `seen` to the index that an answer reflects.
fn note_index<R>(seen: &AtomicU64, response: &Response<R>) {
    let index = response.metadata().get(metadata::INDEX).and_then(|value| value.to_str().ok()?.parse().ok());
    seen.fetch_max(index.unwrap_or(0), Ordering::Relaxed);
}
