//! The server side of the calls between peers.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use futures::{Stream, StreamExt};
use openraft::{ReadPolicy, raft::TransferLeaderRequest};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{
    Clocks, PeerIdentity, Raft, SnapshotData,
    clocks::Sample,
    convert, stopped,
    types::{AppendEntriesRequest, Snapshot, StreamAppendError},
};
use crate::{
    storage::{Blocking, StateSlot, archive},
    wire::{
        Fault, Reason,
        raft::{self as pb, raft_service_server::RaftService},
    },
};

/// The parts of a member that answer its peers.
#[derive(Clone)]
pub struct Serving {
    /// This node.
    pub identity: PeerIdentity,
    /// The consensus.
    pub raft: Raft,
    /// The state, beside which snapshots are received.
    pub slot: StateSlot,
    /// Where blocking work runs.
    pub blocking: Blocking,
    /// Called whenever a leader of the current term is heard.
    pub on_leader_contact: Arc<dyn Fn() + Send + Sync>,
    /// This node's clock, and what leaders say of the cluster's time.
    pub clocks: Clocks,
}

/// Answers peers of the same cluster and epoch that mean exactly this node, and refuses all others (see
/// [`PeerIdentity::check`]). Cheap to clone; all clones are the same service.
///
/// An empty node refuses everybody until it is adopted and [`PeerService::serve`] is called. The lock guards only the
/// `Option` and is never held across an `await`: a call that began before [`PeerService::stop`] ends with the consensus
/// that it was given.
#[derive(Clone, Default)]
pub struct PeerService(Arc<RwLock<Option<Serving>>>);

impl PeerService {
    /// Starts to answer.
    pub fn serve(&self, serving: Serving) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(serving);
    }

    /// Refuses every call from now on.
    pub fn stop(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn serving(&self, headers: &MetadataMap) -> Result<Serving, Status> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let serving = current.ok_or_else(|| {
            Fault::new(Reason::NotMember, "this node does not take part in any cluster at the moment")
        })?;
        serving.identity.check(headers)?;
        Ok(serving)
    }
}

fn malformed(error: convert::Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

fn fatal(error: impl std::fmt::Display) -> Status {
    stopped(error).into()
}

/// The requests of a stream up to the first one that fails or is malformed. The answers end there, and the leader opens
/// the stream again.
///
/// `on_time` is given the sender's time with each request.
fn valid_requests(
    requests: Streaming<pb::AppendRequest>,
    on_time: impl Fn(u64) + Send,
) -> impl Stream<Item = AppendEntriesRequest> + Send {
    requests
        .inspect(move |request| {
            if let Ok(request) = request {
                on_time(request.time_ms);
            }
        })
        .map(|request| match request.map(convert::read_append_request) {
            Ok(Ok(request)) => Some(request),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a leader sent a malformed append");
                None
            }
            Err(_) => None,
        })
        .take_while(|request| std::future::ready(request.is_some()))
        .filter_map(std::future::ready)
}

#[tonic::async_trait]
impl RaftService for PeerService {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<pb::AppendResponse, Status>> + Send>>;

    /// Receives entries and heartbeats of a leader, pipelined on one stream. Answers come in the order of the requests.
    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let serving = self.serving(request.metadata())?;
        let on_leader_contact = serving.on_leader_contact.clone();
        // Believed once a request of this stream was accepted: the sender is then a leader of the current term.
        let clocks = serving.clocks.clone();
        let claimed = Arc::new(Mutex::new(None));
        let claim = claimed.clone();
        let requests = valid_requests(request.into_inner(), move |time_ms| {
            *claim.lock().unwrap_or_else(PoisonError::into_inner) = Sample::now(time_ms);
        });
        let answers = serving.raft.stream_append(requests);
        let answers = answers.map(move |answer| match answer {
            Ok(result) => {
                // A leader of an older term is answered with the higher vote. Any other answer went to a leader of the
                // current term.
                if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
                    on_leader_contact();
                    clocks.record_leader(*claimed.lock().unwrap_or_else(PoisonError::into_inner));
                }
                Ok(pb::AppendResponse { time_ms: clocks.own_ms(), ..convert::append_response(&result) })
            }
            Err(error) => Err(fatal(error)),
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        let serving = self.serving(request.metadata())?;
        let message = request.into_inner();
        let pre_vote = message.pre_vote;
        let rpc = convert::read_vote_request(message).map_err(malformed)?;
        let response = match pre_vote {
            true => serving.raft.pre_vote(rpc).await,
            false => serving.raft.vote(rpc).await,
        };
        let response = convert::vote_response(&response.map_err(fatal)?);
        Ok(Response::new(pb::VoteResponse { time_ms: serving.clocks.own_ms(), ..response }))
    }

    /// Receives a snapshot and installs it. Nothing of a broken or damaged transfer reaches the live state.
    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotChunk>>,
    ) -> Result<Response<pb::SnapshotResponse>, Status> {
        let serving = self.serving(request.metadata())?;
        let mut chunks = request.into_inner();
        let first = chunks.message().await?.and_then(|chunk| chunk.part);
        let Some(pb::snapshot_chunk::Part::Header(header)) = first else {
            return Err(Status::invalid_argument("a snapshot begins with its header"));
        };
        let (vote, meta) = convert::read_snapshot_header(header).map_err(malformed)?;
        let index = meta.last_log_id.as_ref().map(|id| id.index());
        tracing::info!(index, "receiving a snapshot");
        let loaded = receive(&serving, chunks).await?;
        let snapshot = Snapshot { meta, snapshot: SnapshotData::Received(loaded) };
        let response = serving.raft.install_full_snapshot(vote, snapshot).await.map_err(fatal)?;
        tracing::info!(index, "installed a snapshot");
        Ok(Response::new(pb::SnapshotResponse { vote: Some(convert::vote(&response.vote)) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let serving = self.serving(request.metadata())?;
        let message = request.into_inner();
        let from = convert::require_vote(message.from).map_err(malformed)?;
        let last_log_id = message.last_log_id.map(convert::read_log_id);
        let rpc = TransferLeaderRequest::new(from, message.to_node_id, last_log_id);
        let answer = serving.raft.handle_transfer_leader(rpc).await.map_err(fatal)?;
        let response = match answer {
            Ok(()) => pb::TransferLeaderResponse { accepted: true, refusal: String::new() },
            Err(error) => pb::TransferLeaderResponse { accepted: false, refusal: error.to_string() },
        };
        Ok(Response::new(response))
    }

    /// Confirms this leader by a quorum round and returns its read index. A node that does not lead fails with NO_QUORUM;
    /// the caller then looks for the leader again.
    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexResponse>, Status> {
        let serving = self.serving(request.metadata())?;
        let read = serving.raft.get_read_log_id(ReadPolicy::ReadIndex).await;
        let (read_log_id, _) = read.map_err(|error| Fault::new(Reason::NoQuorum, error.to_string()))?;
        Ok(Response::new(pb::ReadIndexResponse { read_log_id: Some(convert::log_id(read_log_id.log_id())) }))
    }
}

/// Receives the archive into a file beside the live one, with bounded memory: it reads the next chunk from the network
/// only after it wrote the last one.
async fn receive(serving: &Serving, mut chunks: Streaming<pb::SnapshotChunk>) -> Result<archive::Loaded, Status> {
    let refused = |error: crate::storage::StorageError| {
        tracing::warn!(%error, "a snapshot could not be received");
        Status::from(Fault::new(Reason::Internal, format!("the snapshot could not be received: {error}")))
    };
    let blocking = serving.blocking;
    let mut loader = serving.slot.loader().map_err(refused)?;
    while let Some(chunk) = chunks.message().await? {
        let Some(pb::snapshot_chunk::Part::Data(data)) = chunk.part else {
            return Err(Status::invalid_argument("a snapshot has one header"));
        };
        let fed;
        (loader, fed) = blocking
            .run(move || {
                let fed = loader.feed(&data);
                (loader, fed)
            })
            .await;
        fed.map_err(refused)?;
    }
    blocking.run(move || loader.finish()).await.map_err(refused)
}
