//! openraft's own storage suite on our log and state machine; and tests of the network: when peers are dialled, and which
//! requests they get.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use openraft::{
    RaftLogReader, RaftNetworkFactory,
    network::{NetStreamAppend, NetVote, RPCOption},
    storage::{RaftLogStorage, RaftLogStorageExt},
    testing::log::{StoreBuilder, Suite},
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::{
    Announcement, Clocks, DiskChecks, LogStore, OwnDisk, PeerIdentity, PeerMemory, PeerNetworkFactory, StateMachine,
    network::PeerNetwork,
    types::{
        AppendEntriesRequest, CommittedLeaderId, Entry, EntryPayload, LogId, Member, RpcError, StreamAppendResult,
        TypeConfig, Vote, VoteRequest,
    },
};
use crate::{
    storage::{Blocking, DataDir, LogFile, Open, StateSlot, testing::SimDisks},
    types::Clock,
    wire::{
        BoxedIo, Dialer,
        raft::{
            self as pb,
            append_response::Refusal,
            raft_service_server::{RaftService, RaftServiceServer},
        },
    },
};

struct Builder(Blocking);

/// The same on simulated disks: simulations and fault tests rely on them, so they must pass the same suite.
struct SimulatedBuilder;

/// Keeps the directory until the test is over.
struct Guard(#[allow(dead_code)] tempfile::TempDir);

fn stores(dir: &DataDir, blocking: Blocking) -> (LogStore, StateMachine) {
    let log = LogFile::open(dir, "log.redb", Open::Fresh, blocking).unwrap();
    let slot = StateSlot::open(dir, "state.redb", Open::Fresh).unwrap();
    (LogStore::new(log), StateMachine::new(slot, blocking, |_| ()).unwrap())
}

type StorageError = openraft::StorageError<TypeConfig>;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, StateMachine), StorageError> {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::create_or_open(folder.path().join("data")).unwrap();
        let (log, machine) = stores(&dir, self.0);
        Ok((Guard(folder), log, machine))
    }
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, SimDisks> for SimulatedBuilder {
    async fn build(&self) -> Result<(SimDisks, LogStore, StateMachine), StorageError> {
        let disks = SimDisks::new(1);
        let (log, machine) = stores(&DataDir::on(Arc::new(disks.clone())), Blocking::Inline);
        Ok((disks, log, machine))
    }
}

#[test]
fn openrafts_storage_suite_passes_with_the_writer_thread() {
    runtime().block_on(Suite::test_all(Builder(Blocking::Pool))).unwrap();
}

#[test]
fn openrafts_storage_suite_passes_inline() {
    runtime().block_on(Suite::test_all(Builder(Blocking::Inline))).unwrap();
}

#[test]
fn openrafts_storage_suite_passes_on_simulated_disks() {
    runtime().block_on(Suite::test_all(SimulatedBuilder)).unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn peer_by(dialer: Dialer) -> PeerNetwork {
    let identity = PeerIdentity { cluster_id: "c".into(), epoch: 1, node_id: 1 };
    let member = Member { name: "n2".into(), address: "n2:7400".into(), zone: String::new() };
    let own = OwnDisk::new("n1", Announcement::default(), None, false);
    let disks = DiskChecks { own, peers: PeerMemory::default() };
    let clocks = Clocks::new(1, Clock::system());
    PeerNetworkFactory::new(identity, dialer, Blocking::Inline, clocks, disks).new_client(2, &member).await
}

fn option() -> RPCOption {
    RPCOption::new(Duration::from_millis(100))
}

/// An append of blank entries at these indexes, after the entry `before`.
fn append(before: Option<u64>, places: &[u64]) -> AppendEntriesRequest {
    let id = |index| LogId::new(CommittedLeaderId::new(1), index);
    let entry = |place: &u64| Entry { log_id: id(*place), payload: EntryPayload::Blank };
    AppendEntriesRequest {
        vote: Vote::new_committed(1, 1),
        prev_log_id: before.map(id),
        leader_commit: None,
        entries: places.iter().map(entry).collect(),
    }
}

/// openraft waits out its backoff inside the stream of requests. A leader that dialled before it took a request would dial
/// a peer that refuses connections without any pause.
#[tokio::test(start_paused = true)]
async fn a_peer_is_dialled_only_once_there_is_something_to_send() {
    let dials = Arc::new(AtomicUsize::new(0));
    let counted = dials.clone();
    let dialer = Dialer::new(move |_| {
        counted.fetch_add(1, Relaxed);
        async { Err::<BoxedIo, _>(io::ErrorKind::ConnectionRefused.into()) }
    });
    let mut peer = peer_by(dialer).await;
    let idle = peer.stream_append(stream::pending(), option());
    assert!(tokio::time::timeout(Duration::from_secs(60), idle).await.is_err(), "it waits for a request");
    assert_eq!(dials.load(Relaxed), 0);
    assert!(peer.stream_append(stream::iter([append(None, &[])]), option()).await.is_err());
    assert_eq!(dials.load(Relaxed), 1);
    let ended = peer.stream_append(stream::empty(), option()).await;
    assert_eq!(ended.unwrap_or_else(|error| panic!("{error}")).count().await, 0, "no request, no answer");
}

/// A peer that reports what arrives, and gives the same answers to everybody.
struct Answering {
    arrived: mpsc::UnboundedSender<Vec<u64>>,
    append: pb::AppendResponse,
    vote: pb::VoteResponse,
}

#[tonic::async_trait]
impl RaftService for Answering {
    type AppendStream = stream::BoxStream<'static, Result<pb::AppendResponse, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let (arrived, answer) = (self.arrived.clone(), self.append);
        let answers = request.into_inner().map(move |request| {
            let places = request?.entries.iter().filter_map(|entry| Some(entry.log_id?.index)).collect();
            let _ = arrived.send(places);
            Ok(answer)
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn vote(&self, _: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        Ok(Response::new(self.vote))
    }

    async fn install_snapshot(
        &self,
        _: Request<Streaming<pb::SnapshotChunk>>,
    ) -> Result<Response<pb::SnapshotResponse>, Status> {
        Err(Status::unimplemented("it only follows"))
    }

    async fn transfer_leader(
        &self,
        _: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        Err(Status::unimplemented("it only follows"))
    }

    async fn read_index(&self, _: Request<pb::ReadIndexRequest>) -> Result<Response<pb::ReadIndexResponse>, Status> {
        Err(Status::unimplemented("it only follows"))
    }
}

/// A peer behind a connection in this process, and the indexes of the entries that arrived there.
async fn agreeing_peer() -> (PeerNetwork, mpsc::UnboundedReceiver<Vec<u64>>) {
    answering_peer(pb::AppendResponse::default(), pb::VoteResponse::default()).await
}

async fn answering_peer(
    append: pb::AppendResponse,
    vote: pb::VoteResponse,
) -> (PeerNetwork, mpsc::UnboundedReceiver<Vec<u64>>) {
    let (arrived, arrivals) = mpsc::unbounded_channel();
    let dialer = Dialer::new(move |_| {
        let (near, far) = tokio::io::duplex(1 << 16);
        let service = RaftServiceServer::new(Answering { arrived: arrived.clone(), append, vote });
        let incoming = stream::iter([Ok::<_, io::Error>(far)]).chain(stream::pending());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        async { Ok(Box::new(near) as BoxedIo) }
    });
    (peer_by(dialer).await, arrivals)
}

/// The answers to an endless stream of requests, up to the end of the answers.
async fn answers_to(
    peer: &mut PeerNetwork,
    requests: impl Stream<Item = AppendEntriesRequest> + Send + Unpin + 'static,
) -> Vec<StreamAppendResult> {
    let answers = async {
        let answers = peer.stream_append(requests, option()).await.unwrap_or_else(|error| panic!("{error}"));
        answers.map(|answer| answer.unwrap_or_else(|error| panic!("{error}"))).collect().await
    };
    tokio::time::timeout(Duration::from_secs(20), answers).await.expect("the stream ends by itself")
}

/// A request made of that entry has a gap, which the sender notices. It would not notice an empty request.
#[tokio::test]
async fn when_the_whole_range_is_purged_the_first_entry_of_the_log_is_returned() {
    let dir = DataDir::on(Arc::new(SimDisks::new(1)));
    let (mut log, _) = stores(&dir, Blocking::Inline);
    let places: Vec<u64> = (0..10).collect();
    let AppendEntriesRequest { entries, .. } = append(None, &places);
    let last_purged = entries[6].log_id;
    log.blocking_append(entries).await.unwrap();
    log.purge(last_purged).await.unwrap();
    let mut places = async |start: u64, end: u64| {
        let entries = log.limited_get_log_entries(start, end).await.unwrap();
        entries.iter().map(|entry| entry.log_id.index()).collect::<Vec<u64>>()
    };
    assert_eq!(places(2, 5).await, [7]);
    assert_eq!(places(2, 7).await, [7]);
    assert_eq!(places(2, 9).await, [7, 8]);
    assert_eq!(places(7, 9).await, [7, 8]);
    assert!(places(5, 5).await.is_empty());
    assert!(places(10, 12).await.is_empty());
}

/// openraft repeats a payload from before a purge: entries 4 to 8 are gone, and 9 would leave a gap.
#[tokio::test]
async fn a_stream_ends_before_a_request_that_would_leave_a_gap_in_the_peers_log() {
    let (mut peer, mut arrivals) = agreeing_peer().await;
    let requests =
        [append(None, &[0, 1]), append(Some(1), &[2, 3]), append(Some(3), &[9, 10]), append(Some(10), &[11])];
    let answers = answers_to(&mut peer, stream::iter(requests).chain(stream::pending())).await;
    assert_eq!(answers, [Ok(None), Ok(None)]);
    let with_gap = stream::iter([append(Some(3), &[4, 9])]).chain(stream::pending());
    assert_eq!(answers_to(&mut peer, with_gap).await, []);
    drop(peer);
    arrivals.close();
    let mut arrived = Vec::new();
    while let Some(places) = arrivals.recv().await {
        arrived.push(places);
    }
    assert_eq!(arrived, [[0, 1], [2, 3]], "no part of a request with a gap");
}

/// openraft adopts the vote in an answer as it adopts that in a request.
#[tokio::test]
async fn an_answer_that_cannot_be_true_is_an_error_of_the_network() {
    let forged = Some(pb::Vote { term: u64::MAX, node_id: 2, committed: false });
    let far = pb::LogId { term: 1, index: u64::MAX };
    let refusals = [
        pb::AppendResponse { refusal: forged.map(Refusal::HigherVote), ..Default::default() },
        pb::AppendResponse { refusal: Some(Refusal::Conflict(far)), ..Default::default() },
        pb::AppendResponse { matched: Some(far), ..Default::default() },
        pb::AppendResponse { matched: Some(pb::LogId { term: 1, index: 2 }), ..Default::default() },
    ];
    for answer in refusals {
        let (mut peer, _arrivals) = answering_peer(answer, pb::VoteResponse::default()).await;
        let requests = stream::iter([append(None, &[0, 1])]).chain(stream::pending());
        let mut answers = peer.stream_append(requests, option()).await.unwrap_or_else(|error| panic!("{error}"));
        let first = tokio::time::timeout(Duration::from_secs(20), answers.next()).await.expect("an answer");
        assert!(matches!(first, Some(Err(RpcError::Unreachable(_)))), "{answer:?}: {first:?}");
    }
    let last_log_id = Some(pb::LogId { term: 9, index: 3 });
    for answer in [
        pb::VoteResponse { vote: forged, ..Default::default() },
        pb::VoteResponse {
            vote: Some(pb::Vote { term: 8, node_id: 2, committed: false }),
            last_log_id,
            ..Default::default()
        },
    ] {
        let (mut peer, _arrivals) = answering_peer(pb::AppendResponse::default(), answer).await;
        let asked = peer.vote(VoteRequest::new(Vote::new(7, 1), None), RPCOption::new(Duration::from_secs(20))).await;
        assert!(matches!(asked, Err(RpcError::Unreachable(_))), "{answer:?}: {asked:?}");
    }
}
