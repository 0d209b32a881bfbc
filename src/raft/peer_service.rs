//! What this node answers to its peers.

use std::{
    pin::Pin,
    sync::{Arc, RwLock},
};

use futures::{Stream, StreamExt};
use openraft::{ReadPolicy, raft::TransferLeaderRequest};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{
    SnapshotData, convert,
    network::Identity,
    types::{AppendEntriesRequest, Raft, Snapshot, StreamAppendError},
};
use crate::{
    storage::{Blocking, StateSlot, archive},
    wire::{
        Fault, Reason, metadata,
        raft::{self as pb, raft_service_server::RaftService},
    },
};

/// What a member needs to answer its peers.
#[derive(Clone)]
pub struct Serving {
    /// Who this node is.
    pub identity: Identity,
    /// Its consensus.
    pub raft: Raft,
    /// Its state, into which snapshots are received.
    pub slot: StateSlot,
    /// Where blocking work runs.
    pub blocking: Blocking,
    /// Called whenever a leader is heard.
    pub heard: Arc<dyn Fn() + Send + Sync>,
}

/// Answers peers of this node's own cluster and epoch that mean this very node; refuses all others by name.
///
/// An empty node answers nobody until it is adopted: [`PeerService::serve`] gives it what it needs then.
#[derive(Clone, Default)]
pub struct PeerService(Arc<RwLock<Option<Serving>>>);

impl PeerService {
    /// Begins to answer.
    pub fn serve(&self, serving: Serving) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(serving);
    }

    /// Answers nobody from now on.
    pub fn stop(&self) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }

    fn serving(&self, headers: &MetadataMap) -> Result<Serving, Status> {
        let current = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let serving = current.ok_or_else(|| {
            Fault::new(Reason::NotMember, "this node does not take part in any cluster at the moment")
        })?;
        check(headers, &serving.identity)?;
        Ok(serving)
    }
}

fn check(headers: &MetadataMap, own: &Identity) -> Result<(), Fault> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let number = |name| text(name).parse::<u64>().ok();
    let refuse = |message: String| {
        tracing::warn!(from = text(metadata::FROM), %message, "refused a peer");
        Err(Fault::new(Reason::WrongCluster, message))
    };
    if text(metadata::CLUSTER) != own.cluster_id {
        return refuse(format!(
            "this node belongs to cluster {}, the caller to `{}`",
            own.cluster_id,
            text(metadata::CLUSTER)
        ));
    }
    if number(metadata::EPOCH) != Some(own.epoch) {
        return refuse(format!(
            "this cluster was recovered: it is at epoch {}, the caller at {}",
            own.epoch,
            text(metadata::EPOCH)
        ));
    }
    if number(metadata::TO) != Some(own.node_id) {
        return refuse(format!("this is node {}, the caller means node {}", own.node_id, text(metadata::TO)));
    }
    Ok(())
}

fn malformed(error: convert::Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

fn fatal(error: impl std::fmt::Display) -> Status {
    Fault::new(Reason::Quarantined, format!("this node has stopped: {error}")).into()
}

/// The requests of a stream up to the first that is broken off or not whole; the answers end there, and the leader
/// begins anew.
fn whole_requests(requests: Streaming<pb::AppendRequest>) -> impl Stream<Item = AppendEntriesRequest> + Send {
    requests
        .map(|request| match request.map(convert::read_append_request) {
            Ok(Ok(request)) => Some(request),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a leader sent an append that is not whole");
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

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let serving = self.serving(request.metadata())?;
        let heard = serving.heard.clone();
        let requests = whole_requests(request.into_inner());
        let answers = serving.raft.stream_append(requests);
        let answers = answers.map(move |answer| match answer {
            Ok(result) => {
                // Only a leader of this term or a later one is answered so: an old one hears of the higher vote.
                if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
                    heard();
                }
                Ok(convert::append_response(&result))
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
        Ok(Response::new(convert::vote_response(&response.map_err(fatal)?)))
    }

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

/// Receives the archive into a file beside the live one, with bounded memory: the next chunk is read from the network
/// only when the last is on its way to disk.
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
