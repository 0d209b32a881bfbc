//! Files: snapshots and backups, a node's identity, settings, the files of `chat`, and lines piped into it.

use std::{
    cell::RefCell,
    fs,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use prost::Message;
use quorate::{
    cli::chat::testing as cli,
    client::{Outbox, Recipient},
    config::{Layer, NodeConfig},
    node::{Node, Settings},
    raft::{
        LogStore, StateMeta,
        types::{CommittedLeaderId, LogId},
    },
    storage::{
        Blocking, DataDir, Disks, Durable, LogFile, Open, StateFile, StateSlot, archive,
        kv::{MemoryKv, Write},
        testing::SimDisks,
    },
    types::{ConversationId, NodeName},
    wire::store,
};

use super::fixture::{self, run_every_query};

/// A snapshot or a backup. If the first byte is even, the rest is the archive. If it is odd, the rest is its pairs, put
/// into frames with right checksums, so that the code behind the checksums is tested too. No query panics on the loaded
/// state.
pub fn archive(data: &[u8]) -> bool {
    let Some((how, bytes)) = unpacked(data) else { return false };
    let dir = DataDir::on(Arc::new(SimDisks::new(1)));
    let slot = StateSlot::open(&dir, "state.redb", Open::Fresh).expect("a disk in memory");
    let mut loader = slot.loader().expect("a disk in memory");
    for piece in bytes.chunks(1 + usize::from(how) * 16) {
        if loader.feed(piece).is_err() {
            return false;
        }
    }
    let Ok(loaded) = loader.finish() else { return false };
    let digest = loaded.digest;
    slot.install(loaded).expect("a disk in memory");
    let view = slot.current().view().expect("just installed");
    assert_eq!(archive::digest(&view).ok(), Some(digest));
    let _ = StateMeta::read(&view);
    run_every_query(&view, "", 1);
    true
}

fn unpacked(data: &[u8]) -> Option<(u8, Vec<u8>)> {
    let (how, rest) = data.split_first()?;
    Some((*how, if how % 2 == 0 { rest.to_vec() } else { sealed(rest) }))
}

/// A backup from which an operator makes a new cluster. Either it is refused and leaves nothing behind, or the files of
/// the new cluster are whole, agree with each other, and leave room for more entries.
pub fn restore(data: &[u8]) -> bool {
    let Some((_, backup)) = unpacked(data) else { return false };
    let dir = DataDir::on(Arc::new(SimDisks::new(1)));
    let restored = with_file("backup", &backup, |folder| {
        at_once(Node::restore_on(founder(), dir.clone(), &folder.join("backup")))
    });
    let Ok(identity) = restored else {
        assert!(dir.is_empty().expect("memory"), "something is left of it");
        return false;
    };
    let log = LogFile::open(&dir, "log.redb", Open::Existing, Blocking::Inline).expect("it was restored");
    let slot = StateSlot::open(&dir, "state.redb", Open::Existing).expect("it was restored");
    let meta = StateMeta::read(&slot.current().view().expect("a view")).expect("it was written anew");
    let bounds = LogStore::new(log.clone()).bounds().expect("it was written anew");
    assert_eq!((bounds.last_purged_log_id, bounds.last_log_id), (meta.applied, meta.applied));
    let applied = meta.applied.expect("a state");
    assert!(applied.index() < u64::MAX && applied.committed_leader_id().term < u64::MAX, "{applied}: no room for more");
    let members: Vec<u64> = meta.membership.membership().nodes().map(|(id, _)| *id).collect();
    assert_eq!(members, [identity.node_id]);
    log.close().expect("memory");
    true
}

/// The settings of the first node of a restored cluster.
fn founder() -> Settings {
    let mut config = NodeConfig::defaults("data");
    config.name = NodeName::new("n1").ok();
    config.listen = "127.0.0.1:7401".parse().ok();
    Settings { blocking: Blocking::Inline, ..Settings::production(config) }
}

/// The result of a future that never waits.
fn at_once<T>(work: impl Future<Output = T>) -> T {
    match std::pin::pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the future waits for something"),
    }
}

/// An archive of one data frame that holds `pairs`, with right checksums.
fn sealed(pairs: &[u8]) -> Vec<u8> {
    let crc = |mut frame: Vec<u8>| {
        let sum = crc32fast::hash(&frame).to_le_bytes();
        frame.extend_from_slice(&sum);
        frame
    };
    let length = |bytes: &[u8]| (bytes.len() as u32).to_le_bytes();
    let head = [&b"QRTARCHV"[..], &1_u32.to_le_bytes(), &0_u32.to_le_bytes()].concat();
    let stored = zstd::bulk::compress(pairs, 1).expect("memory");
    let frame = [&[1][..], &length(pairs), &length(&stored), &stored].concat();
    let count = count(pairs).to_le_bytes();
    let hash = *blake3::hash(pairs).as_bytes();
    let trailer = [&[2][..], &count, &(pairs.len() as u64).to_le_bytes(), &hash].concat();
    [crc(head), crc(frame), crc(trailer)].concat()
}

/// How many whole pairs there are.
fn count(mut pairs: &[u8]) -> u64 {
    let mut count = 0;
    while let Some((lengths, rest)) = pairs.split_first_chunk::<8>() {
        let length = |at: usize| u32::from_le_bytes([lengths[at], lengths[at + 1], lengths[at + 2], lengths[at + 3]]);
        let Some(after) = rest.get(length(0) as usize + length(4) as usize..) else { break };
        (pairs, count) = (after, count + 1);
    }
    count
}

pub fn archives() -> Vec<Vec<u8>> {
    archives_of(&fixture::populated_state())
}

/// Whole archives: of the fixture, and of a state at the end of all numbers.
pub fn backups() -> Vec<Vec<u8>> {
    let mut at_the_end = fixture::populated_state();
    let last = LogId::new(CommittedLeaderId::new(u64::MAX), u64::MAX);
    StateMeta::write_applied(&mut at_the_end, &last).expect("memory");
    [archives(), archives_of(&at_the_end)].concat()
}

fn archives_of(state: &MemoryKv) -> Vec<Vec<u8>> {
    use quorate::storage::kv::{END, Read};
    let disk = DataDir::on(Arc::new(SimDisks::new(1))).disk("state.redb", Open::Fresh).expect("a disk in memory");
    let file = StateFile::open(disk).expect("a new state");
    let (mut batch, mut pairs) = (file.begin().expect("a batch"), Vec::new());
    let scanned = state.scan(b"", END, &mut |key, value| {
        batch.put(key, value).expect("a pair");
        pairs.extend_from_slice(&(key.len() as u32).to_le_bytes());
        pairs.extend_from_slice(&(value.len() as u32).to_le_bytes());
        pairs.extend_from_slice(key);
        pairs.extend_from_slice(value);
        std::ops::ControlFlow::Continue(())
    });
    scanned.expect("memory");
    batch.commit(Durable::Yes).expect("memory");
    let mut writer =
        archive::Writer::new(file.view().expect("a view"), Bytes::from_static(b"header")).expect("a writer");
    let mut whole = vec![0];
    while let Some(frame) = writer.next_frame().expect("a frame") {
        whole.extend_from_slice(&frame);
    }
    vec![whole, [vec![1], pairs].concat()]
}

/// A node's identity: the bytes as the file, and as the payload of a file with a right checksum.
pub fn identity(data: &[u8]) -> bool {
    let mut framed = [&b"QRTRECRD"[..], &1_u32.to_le_bytes(), &(data.len() as u32).to_le_bytes(), data].concat();
    let sum = crc32fast::hash(&framed).to_le_bytes();
    framed.extend_from_slice(&sum);
    let read = |bytes: &[u8]| {
        let disks = Arc::new(SimDisks::new(1));
        disks.write_small("identity", bytes).expect("memory");
        DataDir::on(disks).read_record::<store::Identity>("identity").is_ok()
    };
    let (as_it_came, sealed) = (read(data), read(&framed));
    as_it_came || sealed
}

pub fn identities() -> Vec<Vec<u8>> {
    let identity = store::Identity {
        cluster_id: "0190163d-8694-739b-aea5-966c26f8ad91".into(),
        epoch: 1,
        node_id: 1,
        name: "n1".into(),
        address: "127.0.0.1:7401".into(),
        ..Default::default()
    };
    let disks = Arc::new(SimDisks::new(1));
    DataDir::on(disks.clone()).write_record("identity", &identity).expect("memory");
    let whole = disks.read_small("identity").expect("memory").unwrap_or_default();
    vec![identity.encode_to_vec(), whole]
}

/// A node's settings, from a file and from each environment variable.
pub fn config(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let mut taken = false;
    let from = |one: &str| Layer::from_environment(|variable| (variable == one).then(|| text.to_string()));
    let names = variables();
    for layer in names.iter().map(|name| from(name)).chain([Layer::from_toml("node.toml", &text)]) {
        let Ok(mut layer) = layer else { continue };
        layer.data_dir = Some("data".into());
        // These two accept any text, so they prove nothing.
        let says_nothing = Layer { data_dir: None, log: None, ..layer.clone() } == Layer::default();
        taken |= NodeConfig::from_layer(layer).is_ok() && !says_nothing;
    }
    taken
}

/// The names of all environment variables that are read.
fn variables() -> Vec<String> {
    let names = RefCell::new(Vec::new());
    let asked = Layer::from_environment(|variable| {
        names.borrow_mut().push(variable.to_owned());
        None
    });
    assert!(asked.is_ok(), "an empty environment is valid");
    names.into_inner()
}

pub fn configs() -> Vec<Vec<u8>> {
    let texts = [
        include_str!("../../../deploy/node.toml"),
        "name = 'n1'\nlisten = '127.0.0.1:7401'\nheartbeat = '100ms'\nsnapshot_entries = 10\nkeep_entries = 5\n",
        "log_format = 'json'\naccount_writes_per_second = 0\naddress_request_burst = 1000000\n",
        "1s",
        "json",
        "18446744073709551615",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// Calls `read` with a directory in which the file `name` holds `data`.
fn with_file<T>(name: &str, data: &[u8], read: impl FnOnce(&std::path::Path) -> T) -> T {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join(name), data).expect("a file");
    read(dir.path())
}

/// The user's file of clusters.
pub fn clusters(data: &[u8]) -> bool {
    with_file("config.toml", data, cli::reads_contexts)
}

pub fn cluster_files() -> Vec<Vec<u8>> {
    let work = "current = \"work\"\n\n[contexts.work]\nservers = [\"10.0.0.1:7400\", \"[::1]:7400\"]\n";
    vec![work.as_bytes().to_vec(), b"[contexts]\n".to_vec()]
}

/// The user's file of sessions.
pub fn sessions(data: &[u8]) -> bool {
    with_file("sessions.json", data, cli::reads_sessions)
}

pub fn session_files() -> Vec<Vec<u8>> {
    let saved = r#"{"sessions":[{"servers":["10.0.0.1:7400"],"account":"alice","token":"abc","cluster":"q"}]}"#;
    vec![saved.as_bytes().to_vec(), br#"{"sessions":[]}"#.to_vec()]
}

/// The user's outbox. An outbox that can be read can be changed and read again.
pub fn outbox(data: &[u8]) -> bool {
    with_file("outbox", data, |dir| {
        let outbox = Outbox::at(dir.join("outbox"));
        let Ok(kept) = outbox.entries() else { return false };
        if let Some(first) = kept.first() {
            outbox.strike(first.id).expect("it is in there");
            let left = outbox.entries().expect("what we wrote ourselves");
            assert_eq!(left, kept[1..]);
        }
        true
    })
}

pub fn outboxes() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().expect("a directory");
    let outbox = Outbox::at(dir.path().join("outbox"));
    let id = fixture::request_id;
    outbox.keep(id(1), &Recipient::Username("bob".into()), "hello").expect("a file");
    outbox.keep(id(2), &Recipient::Conversation(ConversationId(7)), "to all").expect("a file");
    let two = fs::read(dir.path().join("outbox")).expect("a file");
    outbox.renew(id(1), id(3)).expect("a file");
    outbox.strike(id(2)).expect("a file");
    vec![two, fs::read(dir.path().join("outbox")).expect("a file")]
}

/// A line piped into `chat send --json -`.
pub fn order(data: &[u8]) -> bool {
    cli::is_input_message(data)
}

pub fn orders() -> Vec<Vec<u8>> {
    let id = fixture::request_id(1);
    let line = format!(r#"{{"to":"bob","body":"caf\u00e9","requestId":"{id}"}}"#);
    vec![line.into_bytes(), br#"{"to":"c1","body":""}"#.to_vec()]
}
