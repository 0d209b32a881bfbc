//! openraft's own storage suite on our log and state machine; how peers are dialled.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use openraft::{
    RaftNetworkFactory,
    network::{NetStreamAppend, RPCOption},
    testing::log::{StoreBuilder, Suite},
};

use super::{
    Identity, LogStore, PeerNetworkFactory, StateMachine,
    types::{AppendEntriesRequest, Member, TypeConfig, Vote},
};
use crate::{
    storage::{Blocking, DataDir, LogFile, Open, StateSlot},
    wire::{BoxedIo, Dialer},
};

struct Builder(Blocking);

/// Keeps the directory until the test is over.
struct Guard(#[allow(dead_code)] tempfile::TempDir);

type StorageError = openraft::StorageError<TypeConfig>;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, StateMachine), StorageError> {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::create_or_open(folder.path().join("data")).unwrap();
        let log = LogFile::open(&dir, "log.redb", Open::Fresh, self.0).unwrap();
        let slot = StateSlot::open(&dir, "state.redb", Open::Fresh).unwrap();
        let machine = StateMachine::new(slot, self.0, |_| ()).unwrap();
        Ok((Guard(folder), LogStore::new(log), machine))
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

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// openraft waits out its backoff inside the stream of requests. A leader that dialled before it drew from that stream
/// would dial a peer that refuses connections without any pause, as fast as the machine can.
#[tokio::test(start_paused = true)]
async fn a_peer_is_dialled_only_once_there_is_something_to_send() {
    let dials = Arc::new(AtomicUsize::new(0));
    let counted = dials.clone();
    let dialer = Dialer::new(move |_| {
        counted.fetch_add(1, Relaxed);
        async { Err::<BoxedIo, _>(io::ErrorKind::ConnectionRefused.into()) }
    });
    let identity = Identity { cluster_id: "c".into(), epoch: 1, node_id: 1 };
    let member = Member { name: "n2".into(), address: "n2:7400".into(), zone: String::new() };
    let mut peer = PeerNetworkFactory::new(identity, dialer, Blocking::Inline).new_client(2, &member).await;
    let option = || RPCOption::new(Duration::from_millis(100));
    let idle = peer.stream_append(stream::pending(), option());
    assert!(tokio::time::timeout(Duration::from_secs(60), idle).await.is_err(), "it waits for a request");
    assert_eq!(dials.load(Relaxed), 0);
    let request =
        AppendEntriesRequest { vote: Vote::new(1, 1), prev_log_id: None, leader_commit: None, entries: Vec::new() };
    assert!(peer.stream_append(stream::iter([request]), option()).await.is_err());
    assert_eq!(dials.load(Relaxed), 1);
    let ended = peer.stream_append(stream::empty(), option()).await;
    assert_eq!(ended.unwrap_or_else(|error| panic!("{error}")).count().await, 0, "no request, no answer");
}
