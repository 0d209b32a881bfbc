//! The server side of the calls between peers.

use std::{
    pin::Pin,
    sync::{Arc, RwLock},
};

use futures::{Stream, StreamExt};
use openraft::{ReadPolicy, raft::TransferLeaderRequest};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{
    DiskChecks, PeerIdentity, Raft, SnapshotData, convert, stopped,
    types::{AppendEntriesRequest, Snapshot, StreamAppendError},
};
use crate::{
    storage::{Blocking, StateSlot, archive},
    types::NodeId,
    wire::{
        Fault, Reason, metadata,
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
    /// Trust in the disks.
    pub disks: DiskChecks,
    /// Called whenever a leader of the current term is heard.
    pub on_leader_contact: Arc<dyn Fn() + Send + Sync>,
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
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(serving);
    }

    /// Refuses every call from now on.
    pub fn stop(&self) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }

    fn serving(&self, headers: &MetadataMap) -> Result<Serving, Status> {
        let current = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let serving = current.ok_or_else(|| {
            Fault::new(Reason::NotMember, "this node does not take part in any cluster at the moment")
        })?;
        serving.identity.check(headers)?;
        Ok(serving)
    }

    /// Answers a call with `handle`. Both sides learn of each other's disk, whatever comes of the call.
    async fn answer<Q, A, F>(
        &self,
        request: Request<Q>,
        handle: impl FnOnce(Serving, NodeId, Q) -> F,
    ) -> Result<Response<A>, Status>
    where
        F: Future<Output = Result<A, Status>>,
    {
        let serving = self.serving(request.metadata())?;
        let (disks, from) = (serving.disks.clone(), caller(request.metadata()));
        let heard = disks.hear_call(from, request.metadata()).and_then(|()| Ok(disks.own.may_answer()?));
        let result = match heard {
            Ok(()) => handle(serving, from, request.into_inner()).await,
            Err(status) => Err(status),
        };
        match result {
            Ok(message) => {
                let mut response = Response::new(message);
                disks.stamp(response.metadata_mut(), from);
                Ok(response)
            }
            Err(mut status) => {
                disks.stamp(status.metadata_mut(), from);
                Err(status)
            }
        }
    }
}

/// The node that calls, by its own word; 0 if it does not say.
fn caller(headers: &MetadataMap) -> NodeId {
    headers.get(metadata::FROM).and_then(|from| from.to_str().ok()?.parse().ok()).unwrap_or(0)
}

fn malformed(error: convert::Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

fn fatal(error: impl std::fmt::Display) -> Status {
    stopped(error).into()
}

/// The requests of a stream up to the first one that fails or is malformed. The answers end there, and the leader opens
/// the stream again.
fn valid_requests(
    requests: Streaming<pb::AppendRequest>,
    disks: DiskChecks,
    from: NodeId,
) -> impl Stream<Item = AppendEntriesRequest> + Send {
    requests
        .map(|request| match request.map(convert::read_append_request) {
            Ok(Ok(request)) => Some(request),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a leader sent a malformed append");
                None
            }
            Err(_) => None,
        })
        .map(move |request| {
            let request = request.filter(|request| disks.own.may_follow(request.vote.leader_id().term).is_ok())?;
            disks.peers.note_term(from, request.vote.leader_id().term);
            disks.peers.note_committed(request.leader_commit);
            Some(request)
        })
        .take_while(|request| std::future::ready(request.is_some()))
        .filter_map(std::future::ready)
}

/// The answers to a leader's stream of appends.
fn append(
    serving: Serving,
    from: NodeId,
    requests: Streaming<pb::AppendRequest>,
) -> <PeerService as RaftService>::AppendStream {
    let (on_leader_contact, disks) = (serving.on_leader_contact.clone(), serving.disks.clone());
    let requests = valid_requests(requests, disks.clone(), from);
    let answers = serving.raft.stream_append(requests).map(move |answer| match answer {
        Ok(result) => {
            // The trust may have gone while the stream was open.
            disks.own.may_answer()?;
            // A leader of an older term is answered with the higher vote. Any other answer went to a leader of the
            // current term.
            if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
                on_leader_contact();
            }
            Ok(convert::append_response(&result))
        }
        Err(error) => Err(fatal(error)),
    });
    Box::pin(answers)
}

async fn vote(serving: Serving, from: NodeId, message: pb::VoteRequest) -> Result<pb::VoteResponse, Status> {
    serving.disks.own.may_vote()?;
    let pre_vote = message.pre_vote;
    let rpc = convert::read_vote_request(message).map_err(malformed)?;
    if !pre_vote {
        serving.disks.peers.note_term(from, rpc.vote.leader_id().term);
    }
    let response = match pre_vote {
        true => serving.raft.pre_vote(rpc).await,
        false => serving.raft.vote(rpc).await,
    };
    // The trust may have gone meanwhile.
    serving.disks.own.may_vote()?;
    Ok(convert::vote_response(&response.map_err(fatal)?))
}

async fn install_snapshot(
    serving: Serving,
    mut chunks: Streaming<pb::SnapshotChunk>,
) -> Result<pb::SnapshotResponse, Status> {
    let first = chunks.message().await?.and_then(|chunk| chunk.part);
    let Some(pb::snapshot_chunk::Part::Header(header)) = first else {
        return Err(Status::invalid_argument("a snapshot begins with its header"));
    };
    let (vote, meta) = convert::read_snapshot_header(header).map_err(malformed)?;
    serving.disks.own.may_follow(vote.leader_id().term)?;
    let index = meta.last_log_id.as_ref().map(|id| id.index());
    tracing::info!(index, "receiving a snapshot");
    let loaded = receive(&serving, chunks).await?;
    let snapshot = Snapshot { meta, snapshot: SnapshotData::Received(loaded) };
    let response = serving.raft.install_full_snapshot(vote, snapshot).await.map_err(fatal)?;
    tracing::info!(index, "installed a snapshot");
    serving.disks.own.may_answer()?;
    Ok(pb::SnapshotResponse { vote: Some(convert::vote(&response.vote)) })
}

async fn transfer_leader(
    serving: Serving,
    message: pb::TransferLeaderRequest,
) -> Result<pb::TransferLeaderResponse, Status> {
    serving.disks.own.may_vote()?;
    let from = convert::require_vote(message.from).map_err(malformed)?;
    let last_log_id = message.last_log_id.map(convert::read_log_id);
    let rpc = TransferLeaderRequest::new(from, message.to_node_id, last_log_id);
    let answer = serving.raft.handle_transfer_leader(rpc).await.map_err(fatal)?;
    Ok(match answer {
        Ok(()) => pb::TransferLeaderResponse { accepted: true, refusal: String::new() },
        Err(error) => pb::TransferLeaderResponse { accepted: false, refusal: error.to_string() },
    })
}

async fn read_index(serving: Serving) -> Result<pb::ReadIndexResponse, Status> {
    let read = serving.raft.get_read_log_id(ReadPolicy::ReadIndex).await;
    let (read_log_id, _) = read.map_err(|error| Fault::new(Reason::NoQuorum, error.to_string()))?;
    Ok(pb::ReadIndexResponse { read_log_id: Some(convert::log_id(read_log_id.log_id())) })
}

#[tonic::async_trait]
impl RaftService for PeerService {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<pb::AppendResponse, Status>> + Send>>;

    /// Receives entries and heartbeats of a leader, pipelined on one stream. Answers come in the order of the requests.
    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        self.answer(request, |serving, from, requests| async move { Ok(append(serving, from, requests)) }).await
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        self.answer(request, vote).await
    }

    /// Receives a snapshot and installs it. Nothing of a broken or damaged transfer reaches the live state.
    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotChunk>>,
    ) -> Result<Response<pb::SnapshotResponse>, Status> {
        self.answer(request, |serving, _, chunks| install_snapshot(serving, chunks)).await
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        self.answer(request, |serving, _, message| transfer_leader(serving, message)).await
    }

    /// Confirms this leader by a quorum round and returns its read index. A node that does not lead fails with NO_QUORUM;
    /// the caller then looks for the leader again.
    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexResponse>, Status> {
        self.answer(request, |serving, _, _| read_index(serving)).await
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
