//! How this node speaks to its peers.
//!
//! Each peer gets three connections: one for replication, one for heartbeats and votes, one for snapshots, so that bulk
//! never delays a heartbeat. Every call names the cluster, its epoch, the sender and the node that is meant.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
use tonic::{Code, Request, Status, metadata::MetadataValue, transport::Channel};

use super::{
    SnapshotData, convert,
    types::{
        AppendEntriesRequest, Member, RpcError, Snapshot, SnapshotResponse, StreamAppendResult, StreamingError,
        TransferLeaderRequest, TransferLeaderResponse, TypeConfig, Vote, VoteRequest, VoteResponse,
    },
};
use crate::{
    storage::{Blocking, archive},
    types::{NodeId, limits},
    wire::{
        Address, Dialer, Profile, metadata,
        raft::{self as pb, raft_service_client::RaftServiceClient},
    },
};

/// Shortest timeout of an append: on a link with longer round trips than a heartbeat interval the same batch would
/// otherwise be resent for ever.
const APPEND_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a receiver may take to verify, sync and install a snapshot after its last byte.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);
/// Frames of a snapshot that wait to be sent.
const FRAMES_IN_FLIGHT: usize = 4;

/// Who this node is, as its peers are told with every call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: String,
    /// Raised by an offline recovery, to fence the members left behind.
    pub epoch: u64,
    /// This node.
    pub node_id: NodeId,
}

/// How far a snapshot on its way to a peer is, in raw bytes of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Handed to the network.
    pub done: u64,
    /// The size of the state file: an estimate of all there is to send.
    pub total: u64,
}

/// The snapshots that this node is sending. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Transfers(Arc<Mutex<BTreeMap<NodeId, Transfer>>>);

impl Transfers {
    /// The one to this peer, if there is one.
    pub fn of(&self, peer: NodeId) -> Option<Transfer> {
        self.lock().get(&peer).copied()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Transfer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, peer: NodeId, total: u64) -> Sending {
        self.lock().insert(peer, Transfer { done: 0, total });
        Sending { transfers: self.clone(), peer }
    }
}

/// One transfer; its entry goes when it ends, however it ends.
struct Sending {
    transfers: Transfers,
    peer: NodeId,
}

impl Sending {
    fn done(&self, bytes: u64) {
        if let Some(transfer) = self.transfers.lock().get_mut(&self.peer) {
            transfer.done = bytes;
            transfer.total = transfer.total.max(bytes);
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.transfers.lock().remove(&self.peer);
    }
}

/// Where each peer is dialled, by the newest membership known here. Cheap to clone.
///
/// openraft gives a client its peer's address once, and keeps the client for as long as the peer is a member; when the
/// membership tells another address, the client learns it here.
#[derive(Debug, Clone, Default)]
pub struct AddressBook(Arc<Mutex<BTreeMap<NodeId, String>>>);

impl AddressBook {
    /// Notes where these members are.
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
    identity: Identity,
    dialer: Dialer,
    blocking: Blocking,
    transfers: Transfers,
    addresses: AddressBook,
}

impl PeerNetworkFactory {
    /// Dials with `dialer`, as `identity`.
    pub fn new(identity: Identity, dialer: Dialer, blocking: Blocking) -> Self {
        Self { identity, dialer, blocking, transfers: Transfers::default(), addresses: AddressBook::default() }
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

/// One connection to one peer. It connects when first used.
pub struct PeerNetwork {
    identity: Identity,
    target: NodeId,
    dialer: Dialer,
    profile: Profile,
    addresses: AddressBook,
    /// The address in use, and the channel to it.
    dialled: Option<(String, Channel)>,
    blocking: Blocking,
    transfers: Transfers,
}

impl PeerNetwork {
    fn client(&mut self) -> Result<RaftServiceClient<Channel>, RpcError> {
        let channel = self.channel()?;
        Ok(RaftServiceClient::new(channel)
            .max_decoding_message_size(limits::PEER_RPC_BYTES)
            .max_encoding_message_size(limits::PEER_RPC_BYTES))
    }

    /// The channel to where the peer is now.
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
            tracing::info!(peer = self.target, %before, %address, "a peer has another address now");
        }
        let channel = self.dialer.channel(&parsed, self.profile);
        self.dialled = Some((address, channel.clone()));
        Ok(channel)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        stamp(&mut request, &self.identity, self.target);
        request
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> RpcError {
        Timeout { action, id: self.identity.node_id, target: self.target, timeout }.into()
    }

    async fn send_vote(&mut self, rpc: VoteRequest, pre: bool, option: RPCOption) -> Result<VoteResponse, RpcError> {
        let timeout = option.soft_ttl();
        let request = self.request(convert::vote_request(&rpc, pre));
        let mut client = self.client()?;
        let answer = tokio::time::timeout(timeout, client.vote(request)).await;
        let response = answer.map_err(|_| self.timeout(RPCTypes::Vote, timeout))?.map_err(rpc_error)?;
        convert::read_vote_response(response.into_inner()).map_err(|error| NetworkError::new(&error).into())
    }
}

/// Writes who calls and who is meant into a request between peers.
pub fn stamp<T>(request: &mut Request<T>, identity: &Identity, target: NodeId) {
    let headers = request.metadata_mut();
    if let Ok(cluster) = MetadataValue::try_from(&identity.cluster_id) {
        headers.insert(metadata::CLUSTER, cluster);
    }
    headers.insert(metadata::EPOCH, identity.epoch.into());
    headers.insert(metadata::FROM, identity.node_id.into());
    headers.insert(metadata::TO, target.into());
}

fn unreachable_peer(why: impl ToString) -> RpcError {
    Unreachable::from_string(why).into()
}

/// Whether a request leaves no hole in the log of `peer`.
fn is_whole(request: &AppendEntriesRequest, peer: NodeId) -> bool {
    let gap = convert::gap(request);
    if let Some(index) = gap {
        tracing::warn!(peer, index, "entries before this one are purged: the peer needs a snapshot");
    }
    gap.is_none()
}

/// What openraft should do about a failed call: back off from a peer that is away, retry the rest.
fn rpc_error(status: Status) -> RpcError {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::PermissionDenied => {
            Unreachable::new(&status).into()
        }
        _ => NetworkError::new(&status).into(),
    }
}

impl NetStreamAppend<TypeConfig> for PeerNetwork {
    /// Requests are pipelined on one bidirectional stream: the next is sent while earlier ones await their fsync.
    ///
    /// The first request is drawn before the peer is dialled: openraft waits out its backoff inside the stream of
    /// requests, so that without drawing from it a peer that refuses connections would be dialled without any pause.
    ///
    /// The stream ends before a request that would leave a hole in the peer's log. openraft 0.10.0-alpha.37 makes such
    /// requests: after a stream that carried nothing but a commit index, its replication task takes up a payload again
    /// that has failed before, from a place up to which the log has been purged meanwhile (`replication/mod.rs`,
    /// `select_next_payload`; the cause of openraft #1795 was another). Ended this way, the stream is begun anew after a
    /// backoff, until the snapshot that the peer needs has arrived.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> openraft::base::BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest> + OptionalSend + Unpin + 'static,
    {
        let timeout = option.soft_ttl().max(APPEND_TIMEOUT);
        async move {
            let peer = self.target;
            let mut whole = input.take_while(move |request| std::future::ready(is_whole(request, peer)));
            let Some(first) = whole.next().await else { return Ok(stream::empty().boxed()) };
            let requests = stream::iter([first]).chain(whole).map(|request| convert::append_request(&request));
            let request = self.request(requests);
            let mut client = self.client()?;
            let opening = tokio::time::timeout(timeout, client.append(request)).await;
            let answers = opening.map_err(|_| self.timeout(RPCTypes::AppendEntries, timeout))?.map_err(rpc_error)?;
            let results = answers.into_inner().map(|answer| match answer {
                Ok(response) => Ok(convert::read_append_response(response)),
                Err(status) => Err(rpc_error(status)),
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

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse, StreamingError> {
        let SnapshotData::View(view) = snapshot.snapshot else {
            return Err(NetworkError::from_string("a received snapshot is not sent on").into());
        };
        let header = convert::snapshot_header(&vote, &snapshot.meta);
        let index = snapshot.meta.last_log_id.as_ref().map(|id| id.index());
        tracing::info!(peer = self.target, index, "sending a snapshot");
        let (sender, receiver) = mpsc::channel(FRAMES_IN_FLIGHT);
        let first = pb::SnapshotChunk { part: Some(pb::snapshot_chunk::Part::Header(header)) };
        // The channel is empty and its receiver is held: there is room for the first chunk.
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
        let response = answer.map_err(rpc_error)?.into_inner();
        tracing::info!(peer = self.target, index, "the snapshot is installed");
        Ok(SnapshotResponse::new(convert::require_vote(response.vote).map_err(|e| NetworkError::new(&e))?))
    }
}

/// Reads the archive frame by frame, never more than the channel holds ahead of the network.
async fn read_frames(
    mut writer: archive::Writer,
    sender: mpsc::Sender<pb::SnapshotChunk>,
    blocking: Blocking,
    sending: Sending,
) -> Result<(), crate::storage::StorageError> {
    loop {
        let frame;
        (writer, frame) = blocking
            .run(move || {
                let frame = writer.next_frame();
                (writer, frame)
            })
            .await;
        let Some(data) = frame? else { return Ok(()) };
        let chunk = pb::SnapshotChunk { part: Some(pb::snapshot_chunk::Part::Data(data)) };
        sending.done(writer.raw_bytes());
        let handing = tokio::time::timeout(INSTALL_TIMEOUT, sender.send(chunk));
        if !matches!(handing.await, Ok(Ok(()))) {
            // The call has ended, or the receiver no longer reads: the call's own error says why.
            return Ok(());
        }
    }
}

impl NetTransferLeader<TypeConfig> for PeerNetwork {
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
        let response = answer.map_err(|_| self.timeout(RPCTypes::TransferLeader, timeout))?.map_err(rpc_error)?;
        let response = response.into_inner();
        match response.accepted {
            true => Ok(Ok(())),
            false => Err(NetworkError::from_string(response.refusal).into()),
        }
    }
}

impl NetBackoff<TypeConfig> for PeerNetwork {
    /// 20 ms, doubling to 200 ms: a peer that is back is found soon, one that is away costs little.
    fn backoff(&self) -> Option<Backoff> {
        let delays = [20, 40, 80, 160].into_iter().chain(std::iter::repeat(200));
        Some(Backoff::new(delays.map(Duration::from_millis)))
    }
}
