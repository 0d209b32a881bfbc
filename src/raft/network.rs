//! The client side of the calls between peers, as openraft's network.
//!
//! Each peer gets three connections: one for replication, one for heartbeats and votes, one for snapshots, so that bulk
//! data never delays a heartbeat. Every call names the cluster, its epoch, the sender and the node that is meant.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    FutureExt, Stream, StreamExt,
    stream::{self, BoxStream},
};
use openraft::{
    OptionalSend, RaftNetworkFactory,
    errors::{NetworkError, ReplicationClosed, Timeout, Unreachable},
    network::{Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption, RPCTypes},
};
use tokio::sync::mpsc;
use tonic::{Code, Request, Response, Status, transport::Channel};

use super::{
    Clocks, DiskChecks, Frame, PeerIdentity, SnapshotData, claims, convert, frames,
    peer_memory::{Conflict, Evidence},
    transfers::{Sending, Transfers},
    types::{
        AppendEntriesRequest, LogId, Member, RpcError, Snapshot, SnapshotResponse, StreamAppendError,
        StreamAppendResult, StreamingError, TransferLeaderRequest, TransferLeaderResponse, TypeConfig, Vote,
        VoteRequest, VoteResponse,
    },
};
use crate::{
    storage::{Blocking, archive},
    types::{NodeId, limits},
    wire::{
        Address, Dialer, Fault, Profile, Reason,
        raft::{self as pb, raft_service_client::RaftServiceClient},
    },
};

/// Shortest timeout of an append. openraft's own timeout is the heartbeat interval; on a link with longer round trips the
/// same batch would be resent for ever.
const MIN_APPEND_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a receiver may take to verify, sync and install a snapshot after its last byte.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);
/// Frames of a snapshot that may wait for the network.
const FRAMES_IN_FLIGHT: usize = 4;

/// The address of each peer, by the newest membership known here. Cheap to clone; all clones are the same.
///
/// openraft passes the address of a peer once, when it makes a client, and keeps the client for as long as the peer is a
/// member. When the membership changes the address, `note` records it and the client finds it here at its next call.
/// Entries of nodes that left stay: nobody dials them, and ids are never reused.
#[derive(Debug, Clone, Default)]
pub struct AddressBook(Arc<Mutex<BTreeMap<NodeId, String>>>);

impl AddressBook {
    /// Records the addresses of these members.
    pub fn note<'a>(&self, members: impl IntoIterator<Item = (NodeId, &'a Member)>) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, member) in members {
            book.insert(id, member.address.clone());
        }
    }

    fn of(&self, peer: NodeId) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned()
    }
}

/// Makes the clients that openraft asks for.
#[derive(Clone)]
pub struct PeerNetworkFactory {
    identity: PeerIdentity,
    dialer: Dialer,
    blocking: Blocking,
    transfers: Transfers,
    addresses: AddressBook,
    clocks: Clocks,
    disks: DiskChecks,
}

impl PeerNetworkFactory {
    /// Makes clients that dial with `dialer`, call as `identity` and record the peers' clocks in `clocks`.
    pub fn new(identity: PeerIdentity, dialer: Dialer, blocking: Blocking, clocks: Clocks, disks: DiskChecks) -> Self {
        let (transfers, addresses) = (Transfers::default(), AddressBook::default());
        Self { identity, dialer, blocking, transfers, addresses, clocks, disks }
    }

    /// The snapshots being sent.
    pub fn transfers(&self) -> Transfers {
        self.transfers.clone()
    }

    /// Where peers are dialled.
    pub fn addresses(&self) -> AddressBook {
        self.addresses.clone()
    }

    fn client(&self, target: NodeId, member: &Member, profile: Profile) -> PeerNetwork {
        self.addresses.note([(target, member)]);
        PeerNetwork {
            identity: self.identity.clone(),
            target,
            dialer: self.dialer.clone(),
            profile,
            addresses: self.addresses.clone(),
            dialled: None,
            blocking: self.blocking,
            transfers: self.transfers.clone(),
            clocks: self.clocks.clone(),
            disks: self.disks.clone(),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for PeerNetworkFactory {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: NodeId, node: &Member) -> PeerNetwork {
        self.client(target, node, Profile::Peer)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &Member) -> PeerNetwork {
        self.client(target, node, Profile::Peer)
    }

    async fn new_snapshot_client(&mut self, target: NodeId, node: &Member) -> PeerNetwork {
        self.client(target, node, Profile::Bulk)
    }
}

/// One connection to one peer, made when it is first used.
///
/// openraft owns each client in one task and calls it once at a time, so there is no lock. A client holds no Raft state:
/// after an error openraft repeats the call, and the peer treats a repetition like the first call. The contract is
/// openraft's `RaftNetworkV2`, split into `NetStreamAppend`, `NetVote`, `NetSnapshot`, `NetTransferLeader` and
/// `NetBackoff`.
pub struct PeerNetwork {
    identity: PeerIdentity,
    target: NodeId,
    dialer: Dialer,
    profile: Profile,
    addresses: AddressBook,
    /// The address in use, and the channel to it.
    dialled: Option<(String, Channel)>,
    blocking: Blocking,
    transfers: Transfers,
    clocks: Clocks,
    disks: DiskChecks,
}

impl PeerNetwork {
    fn client(&mut self) -> Result<RaftServiceClient<Channel>, RpcError> {
        let channel = self.channel()?;
        Ok(RaftServiceClient::new(channel)
            .max_decoding_message_size(limits::PEER_RPC_BYTES)
            .max_encoding_message_size(limits::PEER_RPC_BYTES))
    }

    /// The channel to the current address of the peer.
    fn channel(&mut self) -> Result<Channel, RpcError> {
        let address = self.addresses.of(self.target).unwrap_or_default();
        if let Some((dialled, channel)) = &self.dialled
            && *dialled == address
        {
            return Ok(channel.clone());
        }
        let parsed = address.parse::<Address>().map_err(|error| {
            tracing::error!(peer = self.target, %error, "a peer's address in the membership is unusable");
            unreachable_peer("its address is unusable")
        })?;
        if let Some((before, _)) = &self.dialled {
            tracing::info!(peer = self.target, %before, %address, "a peer has moved to another address");
        }
        let channel = self.dialer.channel(&parsed, self.profile);
        self.dialled = Some((address, channel.clone()));
        Ok(channel)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.identity.stamp(&mut request, self.target);
        self.disks.stamp(request.metadata_mut(), self.target);
        request
    }

    /// Hears what the answer to a call says of the peer's disk. The answer of a peer that has forgotten does not count.
    fn heard<T>(&self, answer: Result<Response<T>, Status>) -> Result<Response<T>, RpcError> {
        match answer {
            Ok(response) => {
                self.disks.hear_answer(self.target, response.metadata()).map_err(|evidence| forgetful(&evidence))?;
                Ok(response)
            }
            Err(status) => {
                let _ = self.disks.hear_answer(self.target, status.metadata());
                note_failure(&self.disks, self.target, &status);
                Err(rpc_error(status))
            }
        }
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> RpcError {
        Timeout { action, id: self.identity.node_id, target: self.target, timeout }.into()
    }

    /// Asks for a vote, or for the promise of one (pre-vote).
    async fn send_vote(&mut self, rpc: VoteRequest, pre: bool, option: RPCOption) -> Result<VoteResponse, RpcError> {
        self.disks.own.may_vote().map_err(|fault| unreachable_peer(fault.message))?;
        let timeout = option.soft_ttl();
        let request = self.request(convert::vote_request(&rpc, pre));
        let mut client = self.client()?;
        let answer = tokio::time::timeout(timeout, client.vote(request)).await;
        let response = self.heard(answer.map_err(|_| self.timeout(RPCTypes::Vote, timeout))?)?.into_inner();
        let time_ms = response.time_ms;
        let response = convert::read_vote_response(response).map_err(|error| NetworkError::new(&error))?;
        let checked = claims::check_vote_answer(&response, self.clocks.own_ms(), rpc.vote.leader_id().term);
        checked.map_err(|error| implausible(self.target, &error))?;
        self.clocks.record_peer(self.target, time_ms);
        if !pre {
            self.disks.peers.note_term(self.target, response.vote.leader_id().term);
        }
        Ok(response)
    }
}

/// The last entry that a stream of appends has sent. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
struct LastSent(Arc<Mutex<Option<LogId>>>);

impl LastSent {
    fn note(&self, request: &AppendEntriesRequest) {
        let last = request.entries.last().map(|entry| entry.log_id).max(request.prev_log_id);
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *sent = last.max(*sent);
    }

    fn get(&self) -> Option<LogId> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error of a call whose answer cannot be true: openraft must not see it, and must not ask again at once.
fn implausible(peer: NodeId, error: &claims::Implausible) -> Unreachable<TypeConfig> {
    tracing::warn!(peer, %error, "refused the answer of a peer");
    Unreachable::from_string(error)
}

fn unreachable_peer(why: impl ToString) -> RpcError {
    Unreachable::from_string(why).into()
}

fn forgetful(evidence: &Evidence) -> RpcError {
    unreachable_peer(format!("the disk of the peer went back in time: {}", evidence.why))
}

/// Remembers why a call to a peer failed.
fn note_failure(disks: &DiskChecks, peer: NodeId, status: &Status) {
    let fault = Fault::from_status(status);
    match fault.reason {
        Reason::Verifying => disks.peers.note_refusal(peer, &fault.message),
        _ => disks.peers.note_error(peer, &fault.message),
    }
}

/// Notes what an answer of `peer` to the leader of `term` tells of its log.
fn note_answer(
    disks: &DiskChecks,
    peer: NodeId,
    term: u64,
    result: StreamAppendResult,
) -> Result<StreamAppendResult, RpcError> {
    match &result {
        Ok(Some(matched)) => disks.peers.note_acked(peer, term, *matched),
        Err(StreamAppendError::Conflict(conflict))
            if disks.peers.judge_conflict(peer, term, *conflict) == Conflict::Withheld =>
        {
            return Err(unreachable_peer("its log ends before what it acknowledged"));
        }
        _ => {}
    }
    Ok(result)
}

/// Whether a request leaves no gap in the log of `peer`.
fn is_contiguous(request: &AppendEntriesRequest, peer: NodeId) -> bool {
    let gap = convert::gap(request);
    if let Some(index) = gap {
        tracing::warn!(peer, index, "entries before this one are purged: the peer needs a snapshot");
    }
    gap.is_none()
}

/// Maps a failed call to what openraft does next: it backs off from a peer that is unreachable or refuses it, and
/// retries other errors at once.
fn rpc_error(status: Status) -> RpcError {
    match status.code() {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::PermissionDenied
        | Code::InvalidArgument => Unreachable::new(&status).into(),
        _ => NetworkError::new(&status).into(),
    }
}

impl NetStreamAppend<TypeConfig> for PeerNetwork {
    /// Pipelines requests on one bidirectional stream: the next one is sent while earlier ones wait for their fsync.
    ///
    /// It takes the first request before it dials. openraft waits out its backoff inside the stream of requests, so a
    /// client that dialled first would dial a peer that refuses connections without any pause.
    ///
    /// The stream ends before a request that would leave a gap in the peer's log. openraft 0.10.0-alpha.37 makes such
    /// requests: after a stream that carried nothing but a commit index, its replication task repeats a payload that has
    /// failed before, from an index that has been purged meanwhile (`replication/mod.rs`, `select_next_payload`; openraft
    /// #1795 had another cause). openraft then opens the stream again after a backoff, until the snapshot that the peer
    /// needs has arrived.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> openraft::base::BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest> + OptionalSend + Unpin + 'static,
    {
        let timeout = option.soft_ttl().max(MIN_APPEND_TIMEOUT);
        async move {
            let peer = self.target;
            let mut contiguous = input.take_while(move |request| std::future::ready(is_contiguous(request, peer)));
            let Some(first) = contiguous.next().await else { return Ok(stream::empty().boxed()) };
            let (term, sent, clocks) = (first.vote.leader_id().term, LastSent::default(), self.clocks.clone());
            let (noted, memory) = (sent.clone(), self.disks.peers.clone());
            let requests = stream::iter([first]).chain(contiguous).map(move |request| {
                noted.note(&request);
                memory.note_committed(request.leader_commit);
                let time_ms = clocks.cluster_ms().unwrap_or(0);
                pb::AppendRequest { time_ms, ..convert::append_request(&request) }
            });
            let request = self.request(requests);
            let mut client = self.client()?;
            let opening = tokio::time::timeout(timeout, client.append(request)).await;
            let answers = self.heard(opening.map_err(|_| self.timeout(RPCTypes::AppendEntries, timeout))?)?;
            let (disks, clocks) = (self.disks.clone(), self.clocks.clone());
            let results = answers.into_inner().map(move |answer| {
                let response = answer.map_err(|status| {
                    note_failure(&disks, peer, &status);
                    rpc_error(status)
                })?;
                let time_ms = response.time_ms;
                let answer = convert::read_append_response(response);
                claims::check_append_answer(&answer, sent.get().as_ref(), clocks.own_ms(), term)
                    .map_err(|error| implausible(peer, &error))?;
                clocks.record_peer(peer, time_ms);
                note_answer(&disks, peer, term, answer)
            });
            Ok(results.boxed())
        }
        .boxed()
    }
}

impl NetVote<TypeConfig> for PeerNetwork {
    async fn vote(&mut self, rpc: VoteRequest, option: RPCOption) -> Result<VoteResponse, RpcError> {
        self.send_vote(rpc, false, option).await
    }

    async fn pre_vote(&mut self, rpc: VoteRequest, option: RPCOption) -> Result<VoteResponse, RpcError> {
        self.send_vote(rpc, true, option).await
    }
}

impl NetSnapshot<TypeConfig> for PeerNetwork {
    type SnapshotData = SnapshotData;

    /// Sends a snapshot: the header, then the archive frame by frame, while it is read from one view of the state.
    ///
    /// It ends when the peer has installed it, when the call fails, or when openraft cancels it because this node no longer
    /// leads. There is no resumption: openraft starts again with a newer snapshot.
    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse, StreamingError> {
        let SnapshotData::View(view) = snapshot.snapshot else {
            return Err(NetworkError::from_string("a received snapshot cannot be forwarded").into());
        };
        let meta = snapshot.meta.clone();
        let header = pb::SnapshotHeader {
            cluster_id: self.identity.cluster_id.clone(),
            epoch: self.identity.epoch,
            ..convert::snapshot_header(&vote, &meta)
        };
        let index = meta.last_log_id.as_ref().map(|id| id.index());
        tracing::info!(peer = self.target, index, "sending a snapshot");
        let (sender, receiver) = mpsc::channel(FRAMES_IN_FLIGHT);
        let first = pb::SnapshotChunk { part: Some(pb::snapshot_chunk::Part::Header(header)) };
        // Cannot fail: the channel is empty and its receiver is alive.
        let _ = sender.try_send(first);
        let size = view.size_bytes();
        let writer = archive::Writer::new(view, Bytes::new()).map_err(|error| NetworkError::new(&error))?;
        let sending = self.transfers.begin(self.target, size);
        let reading = read_frames(writer, sender, self.blocking, sending);
        let request = self.request(tokio_stream::wrappers::ReceiverStream::new(receiver));
        let mut client = self.client()?;
        let transfer = async {
            let (read, answer) = tokio::join!(reading, client.install_snapshot(request));
            read.map(|()| answer)
        };
        let answer = tokio::select! {
            closed = cancel => return Err(closed.into()),
            answer = transfer => answer.map_err(|error| StreamingError::from(NetworkError::new(&error)))?,
        };
        let response = self.heard(answer)?.into_inner();
        tracing::info!(peer = self.target, index, "the snapshot is installed");
        let answer = convert::require_vote(response.vote).map_err(|e| NetworkError::new(&e))?;
        let checked = claims::check_term(&answer, self.clocks.own_ms(), vote.leader_id().term);
        checked.map_err(|error| implausible(self.target, &error))?;
        // A peer that answers with the vote of another leader has installed nothing.
        if let Some(last) = meta.last_log_id.filter(|_| answer == vote) {
            self.disks.peers.note_acked(self.target, vote.leader_id().term, last);
        }
        Ok(SnapshotResponse::new(answer))
    }
}

/// Reads the archive frame by frame, never further ahead of the network than the channel holds.
async fn read_frames(
    writer: archive::Writer,
    sender: mpsc::Sender<pb::SnapshotChunk>,
    blocking: Blocking,
    sending: Sending,
) -> Result<(), crate::storage::StorageError> {
    let mut frames = pin!(frames(writer, blocking));
    while let Some(frame) = frames.next().await {
        let Frame { data, raw_bytes } = frame?;
        let chunk = pb::SnapshotChunk { part: Some(pb::snapshot_chunk::Part::Data(data)) };
        sending.done(raw_bytes);
        let sent = tokio::time::timeout(INSTALL_TIMEOUT, sender.send(chunk));
        if !matches!(sent.await, Ok(Ok(()))) {
            // The call has ended, or the receiver no longer reads. The error of the call says why.
            break;
        }
    }
    Ok(())
}

impl NetTransferLeader<TypeConfig> for PeerNetwork {
    /// Asks the peer to stand for election at once (Ongaro's dissertation, section 3.10). A refusal becomes an
    /// error that carries its reason.
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse, RpcError> {
        let timeout = option.soft_ttl();
        let message = pb::TransferLeaderRequest {
            from: Some(convert::vote(req.from_leader())),
            to_node_id: *req.to_node_id(),
            last_log_id: req.last_log_id().map(convert::log_id),
        };
        let request = self.request(message);
        let mut client = self.client()?;
        let answer = tokio::time::timeout(timeout, client.transfer_leader(request)).await;
        let response = self.heard(answer.map_err(|_| self.timeout(RPCTypes::TransferLeader, timeout))?)?.into_inner();
        match response.accepted {
            true => Ok(Ok(())),
            false => Err(NetworkError::from_string(response.refusal).into()),
        }
    }
}

impl NetBackoff<TypeConfig> for PeerNetwork {
    /// 20 ms, doubling to 200 ms: a peer that is back is found soon, and one that is away costs little.
    fn backoff(&self) -> Option<Backoff> {
        let delays = [20, 40, 80, 160].into_iter().chain(std::iter::repeat(200));
        Some(Backoff::new(delays.map(Duration::from_millis)))
    }
}
