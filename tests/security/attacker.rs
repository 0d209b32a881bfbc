//! A caller who reaches the port of a node.

use bytes::Bytes;
use futures::StreamExt;
use quorate::wire::{
    Fault, Reason, metadata,
    raft::{
        AppendRequest, AppendResponse, LogId, SnapshotChunk, SnapshotHeader, TransferLeaderRequest, Vote, VoteRequest,
        raft_service_client::RaftServiceClient, snapshot_chunk::Part,
    },
};
use tonic::{Request, Status, transport::Channel};

use crate::common::Cluster;

/// An attacker who speaks to one node in the name of another.
pub struct Attacker {
    channel: Channel,
    cluster_id: String,
    from: u64,
    to: u64,
}

impl Attacker {
    /// Speaks to node `to` as node `from`. Both are numbers of the test; the ids are learned from the node itself.
    pub fn new(cluster: &Cluster, from: usize, to: usize) -> Self {
        Self::named(cluster, id_of(cluster, from), to)
    }

    /// The same under any id.
    pub fn named(cluster: &Cluster, from: u64, to: usize) -> Self {
        let known = cluster.membership(to);
        Self { channel: cluster.channel(to), cluster_id: known.cluster_id, from, to: known.answered_by_id }
    }

    fn client(&self) -> RaftServiceClient<Channel> {
        RaftServiceClient::new(self.channel.clone()).max_encoding_message_size(64 * 1024 * 1024)
    }

    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        headers.insert(metadata::CLUSTER, self.cluster_id.parse().expect("ASCII"));
        headers.insert(metadata::EPOCH, 1_u64.into());
        headers.insert(metadata::FROM, self.from.into());
        headers.insert(metadata::TO, self.to.into());
        request
    }

    /// The vote of the name it speaks in.
    pub fn vote(&self, term: u64, committed: bool) -> Option<Vote> {
        Some(Vote { term, node_id: self.from, committed })
    }

    /// Appends once; answers with what the node said to it.
    pub async fn append(&self, append: AppendRequest) -> Result<AppendResponse, Status> {
        let requests = futures::stream::iter([append]);
        let answers = self.client().append(self.request(requests)).await?.into_inner();
        let first = answers.into_future().await.0;
        first.unwrap_or_else(|| Err(Status::cancelled("the stream ended without an answer")))
    }

    /// An append without entries.
    pub async fn heartbeat(&self, vote: Option<Vote>) -> Result<AppendResponse, Status> {
        self.append(AppendRequest { vote, ..Default::default() }).await
    }

    pub async fn stand(&self, vote: Option<Vote>, last_log_id: Option<LogId>, pre_vote: bool) -> Result<(), Status> {
        self.client().vote(self.request(VoteRequest { vote, last_log_id, pre_vote })).await.map(drop)
    }

    pub async fn transfer(&self, from: Option<Vote>, last_log_id: Option<LogId>) -> Result<(), Status> {
        let message = TransferLeaderRequest { from, to_node_id: self.to, last_log_id };
        self.client().transfer_leader(self.request(message)).await.map(drop)
    }

    /// Sends a snapshot: a header, then an archive.
    pub async fn install(&self, header: SnapshotHeader, archive: &[Bytes]) -> Result<(), Status> {
        let data = archive.iter().cloned().map(Part::Data);
        let parts: Vec<_> = std::iter::once(Part::Header(header)).chain(data).collect();
        let chunks = futures::stream::iter(parts.into_iter().map(|part| SnapshotChunk { part: Some(part) }));
        self.client().install_snapshot(self.request(chunks)).await.map(drop)
    }
}

/// The id of a node.
pub fn id_of(cluster: &Cluster, number: usize) -> u64 {
    cluster.membership(number).answered_by_id
}

/// Panics unless the attempt was refused for this reason.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(what: &str, attempt: Result<T, Status>, reason: Reason) {
    let status = attempt.expect_err(what);
    assert_eq!(Fault::from_status(&status).reason, reason, "{what}: {status:?}");
}
