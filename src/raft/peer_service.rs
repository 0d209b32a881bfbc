//! The server side of the calls between peers.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use futures::{Stream, StreamExt, stream};
use openraft::{ReadPolicy, async_runtime::WatchReceiver, raft::TransferLeaderRequest};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{
    Serving, SnapshotData,
    clocks::Sample,
    convert,
    peer_call::{Call, invalid},
    receive::{self, Header},
    stopped,
    types::{AppendEntriesRequest, Snapshot, StreamAppendError},
};
use crate::wire::{
    Fault, Reason,
    raft::{self as pb, raft_service_server::RaftService},
};

/// Answers peers of the same cluster and epoch that mean exactly this node, and refuses all others (see
/// [`PeerIdentity::check`]). Cheap to clone; all clones are the same service.
///
/// An empty node refuses everybody until it is adopted and [`PeerService::serve`] is called. The lock guards only the
/// `Option` and is never held across an `await`: a call that began before [`PeerService::stop`] ends with the consensus
/// that it was given.
///
/// Invariant: no message reaches openraft before [`Call`] or [`receive`] has checked it.
///
/// [`PeerIdentity::check`]: super::PeerIdentity::check
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

    fn call(&self, headers: &MetadataMap) -> Result<Call, Status> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let serving = current.ok_or_else(|| {
            Fault::new(Reason::NotMember, "this node does not take part in any cluster at the moment")
        })?;
        Ok(Call::accept(serving, headers)?)
    }
    /// Answers a call with `handle`. Both sides learn of each other's disk, whatever comes of the call.
    async fn answer<Q, A, F>(
        &self,
        request: Request<Q>,
        handle: impl FnOnce(Call, Q) -> F,
    ) -> Result<Response<A>, Status>
    where
        F: Future<Output = Result<A, Status>>,
    {
        let call = self.call(request.metadata())?;
        let (disks, from) = (call.serving.disks.clone(), call.sender);
        let heard = disks.hear_call(from, request.metadata()).and_then(|()| Ok(disks.own.may_answer()?));
        let result = match heard {
            Ok(()) => handle(call, request.into_inner()).await,
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

fn fatal(error: impl std::fmt::Display) -> Status {
    stopped(error).into()
}

/// Why a stream of appends was ended by this node. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
struct Refusal(Arc<Mutex<Option<Status>>>);

impl Refusal {
    fn set(&self, status: Status) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    fn take(&self) -> Option<Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The time that came with the last request of a stream. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
struct ClaimedTime(Arc<Mutex<Option<Sample>>>);

impl ClaimedTime {
    fn set(&self, time_ms: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Sample::now(time_ms);
    }

    fn get(&self) -> Option<Sample> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The requests of a stream up to the first one that breaks off or is refused. The answers end there, with the `refusal`,
/// and an honest leader opens the stream again. `claimed` holds the sender's time, as the last of them tells it.
fn valid_requests(
    call: Call,
    requests: Streaming<pb::AppendRequest>,
    claimed: ClaimedTime,
    refusal: Refusal,
) -> impl Stream<Item = AppendEntriesRequest> + Send {
    let valid = move |request: Result<pb::AppendRequest, Status>| {
        let request = request.ok()?;
        let time_ms = request.time_ms;
        let request = convert::read_append_request(request).map_err(invalid);
        match request.and_then(|request| admit(&call, &request).map(|()| request)) {
            Ok(request) => {
                claimed.set(time_ms);
                Some(request)
            }
            Err(status) => {
                refusal.set(status);
                None
            }
        }
    };
    requests.map(valid).take_while(|request| std::future::ready(request.is_some())).filter_map(std::future::ready)
}

/// Checks one append, and remembers what it tells of its sender.
fn admit(call: &Call, request: &AppendEntriesRequest) -> Result<(), Status> {
    call.check_append(request)?;
    let (disks, term) = (&call.serving.disks, request.vote.leader_id().term);
    disks.own.may_follow(term)?;
    disks.peers.note_term(call.sender, term);
    disks.peers.note_committed(request.leader_commit);
    Ok(())
}

/// The answers to a leader's stream of appends.
fn append(call: Call, requests: Streaming<pb::AppendRequest>) -> <PeerService as RaftService>::AppendStream {
    let Serving { raft, disks, clocks, on_leader_contact, .. } = call.serving.clone();
    let (claimed, refusal) = (ClaimedTime::default(), Refusal::default());
    let requests = valid_requests(call, requests, claimed.clone(), refusal.clone());
    let answers = raft.stream_append(requests).map(move |answer| match answer {
        Ok(result) => {
            // The trust may have gone while the stream was open.
            disks.own.may_answer()?;
            // A leader of an older term is answered with the higher vote. Any other answer went to a leader of the
            // current term.
            if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
                on_leader_contact();
                // Believed only now: the sender is a leader of the current term.
                clocks.record_leader(claimed.get());
            }
            Ok(pb::AppendResponse { time_ms: clocks.own_ms(), ..convert::append_response(&result) })
        }
        Err(error) => Err(fatal(error)),
    });
    let end = stream::once(async move { refusal.take() }).filter_map(std::future::ready).map(Err);
    Box::pin(answers.chain(end))
}

async fn vote(call: Call, message: pb::VoteRequest) -> Result<pb::VoteResponse, Status> {
    let (raft, disks) = (&call.serving.raft, &call.serving.disks);
    disks.own.may_vote()?;
    let pre_vote = message.pre_vote;
    let rpc = convert::read_vote_request(message).map_err(invalid)?;
    call.check_candidate(&rpc)?;
    if !pre_vote {
        disks.peers.note_term(call.sender, rpc.vote.leader_id().term);
    }
    let response = match pre_vote {
        true => raft.pre_vote(rpc).await,
        false => raft.vote(rpc).await,
    };
    // The trust may have gone meanwhile.
    disks.own.may_vote()?;
    let response = convert::vote_response(&response.map_err(fatal)?);
    Ok(pb::VoteResponse { time_ms: call.serving.clocks.own_ms(), ..response })
}

/// Receives a snapshot and installs it. Nothing of a broken or damaged transfer reaches the live state.
async fn install_snapshot(
    call: Call,
    mut chunks: Streaming<pb::SnapshotChunk>,
) -> Result<pb::SnapshotResponse, Status> {
    let Header { vote, meta } = receive::header(&call, &mut chunks).await?;
    let (raft, disks) = (&call.serving.raft, &call.serving.disks);
    disks.own.may_follow(vote.leader_id().term)?;
    let own = raft.metrics().borrow_watched().vote;
    if vote < own {
        // openraft would refuse it as well, but only after everything was received.
        return Ok(pb::SnapshotResponse { vote: Some(convert::vote(&own)) });
    }
    let index = meta.last_log_id.as_ref().map(|id| id.index());
    tracing::info!(index, "receiving a snapshot");
    let loaded = receive::archive(&call, &meta, chunks).await?;
    let snapshot = Snapshot { meta, snapshot: SnapshotData::Received(loaded) };
    let response = raft.install_full_snapshot(vote, snapshot).await.map_err(fatal)?;
    tracing::info!(index, "installed a snapshot");
    disks.own.may_answer()?;
    Ok(pb::SnapshotResponse { vote: Some(convert::vote(&response.vote)) })
}

async fn transfer_leader(call: Call, message: pb::TransferLeaderRequest) -> Result<pb::TransferLeaderResponse, Status> {
    call.serving.disks.own.may_vote()?;
    let from = convert::require_vote(message.from).map_err(invalid)?;
    let last_log_id = message.last_log_id.map(convert::read_log_id);
    call.check_leader(&from)?;
    call.standpoint().transfer(&from, last_log_id.as_ref()).map_err(invalid)?;
    let rpc = TransferLeaderRequest::new(from, message.to_node_id, last_log_id);
    let answer = call.serving.raft.handle_transfer_leader(rpc).await.map_err(fatal)?;
    Ok(match answer {
        Ok(()) => pb::TransferLeaderResponse { accepted: true, refusal: String::new() },
        Err(error) => pb::TransferLeaderResponse { accepted: false, refusal: error.to_string() },
    })
}

/// Confirms this leader by a quorum round.
async fn read_index(call: Call) -> Result<pb::ReadIndexResponse, Status> {
    call.check_member()?;
    let read = call.serving.raft.get_read_log_id(ReadPolicy::ReadIndex).await;
    let (read_log_id, _) = read.map_err(|error| Fault::new(Reason::NoQuorum, error.to_string()))?;
    Ok(pb::ReadIndexResponse { read_log_id: Some(convert::log_id(read_log_id.log_id())) })
}

#[tonic::async_trait]
impl RaftService for PeerService {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<pb::AppendResponse, Status>> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        self.answer(request, |call, requests| async move { Ok(append(call, requests)) }).await
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        self.answer(request, vote).await
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotChunk>>,
    ) -> Result<Response<pb::SnapshotResponse>, Status> {
        self.answer(request, install_snapshot).await
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        self.answer(request, transfer_leader).await
    }

    /// A node that does not lead fails with NO_QUORUM; the client then looks for the leader again.
    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexResponse>, Status> {
        self.answer(request, |call, _| read_index(call)).await
    }
}
