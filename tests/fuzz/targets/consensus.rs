//! What consensus reads: log entries, the named values of the log, messages of peers.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use prost::Message;
use quorate::{
    raft::{
        LogStore,
        claims::Standpoint,
        convert,
        types::{
            AppendEntriesRequest, CommittedLeaderId, Entry, EntryPayload, LogId, Member, Membership, Proposal, Vote,
        },
    },
    storage::{Blocking, DataDir, Disks, LogFile, Open, StorageError, testing::SimDisks},
    wire::raft as pb,
};

use super::state;

/// A record of the log. It decodes to an entry that encodes to the same record, or it is refused.
pub fn log_entry(data: &[u8]) -> bool {
    let Ok(entry) = convert::decode_entry(Bytes::copy_from_slice(data)) else { return false };
    assert_eq!(convert::decode_entry(convert::encode_entry(&entry)).as_ref(), Ok(&entry));
    if let EntryPayload::Normal(proposal) = &entry.payload {
        // Small batches only; the target `commands` has the large ones.
        if proposal.0.len() < 1024 {
            state::commands(&proposal.0);
        }
    }
    true
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

fn member(name: &str) -> Member {
    Member { name: name.into(), address: "127.0.0.1:7401".into(), zone: "a".into() }
}

fn joint() -> Membership {
    let members = BTreeMap::from([(1, member("n1")), (2, member("n2"))]);
    Membership::new(vec![[1].into(), [1, 2].into()], members).expect("voters are members")
}

fn all() -> Vec<Entry> {
    let proposals = state::batches().into_iter().map(|batch| EntryPayload::Normal(Proposal(batch.into())));
    let others = [EntryPayload::Blank, EntryPayload::Membership(joint())];
    (1..).zip(proposals.chain(others)).map(|(index, payload)| Entry { log_id: id(2, index), payload }).collect()
}

pub fn entries() -> Vec<Vec<u8>> {
    all().iter().map(|entry| convert::encode_entry(entry).to_vec()).collect()
}

/// The bytes as the contents of the log's file: the vote, the named values, the last record.
pub fn log_file(data: &[u8]) -> bool {
    thread_local! {
        static LOG: RefCell<Option<LogFile>> = const { RefCell::new(None) };
    }
    LOG.with_borrow_mut(|log| {
        let file = log.get_or_insert_with(|| {
            let dir = DataDir::on(Arc::new(SimDisks::new(1)));
            LogFile::open(&dir, "log.redb", Open::Fresh, Blocking::Inline).expect("a new log")
        });
        let value = || Bytes::copy_from_slice(data);
        for name in ["vote", "committed", "purged"] {
            file.set(name, value(), Box::new(|done| done.expect("memory")));
        }
        file.append(vec![(7, value())], Box::new(|done| done.expect("memory")));
        let store = LogStore::new(file.clone());
        let marks = (store.vote().is_ok(), store.committed().is_ok(), store.bounds().is_ok());
        for applied in [None, store.committed().ok().flatten()] {
            let _ = store.each_after(applied, |_| Ok(()));
        }
        let is_entry = store.each_after(Some(id(1, 6)), |_| Ok(())).is_ok();
        file.truncate_from(0, Box::new(|done| done.expect("memory")));
        is_entry || (marks.0 && marks.1)
    })
}

/// Entries, a vote, and ids of entries.
pub fn values() -> Vec<Vec<u8>> {
    let vote = convert::vote(&Vote::new_committed(3, 1)).encode_to_vec();
    let marks = [id(2, 7), id(3, 1 << 40), id(u64::MAX, u64::MAX)].map(|id| convert::log_id(&id).encode_to_vec());
    [entries(), vec![vote], marks.to_vec()].concat()
}

/// The number of transactions in the log that a witness is compared with.
const COMMITS: u64 = 2;

/// A log of two entries, and its witness.
fn witnessed() -> (Vec<u8>, Vec<u8>) {
    let disks = SimDisks::new(1);
    let log = LogFile::open(&DataDir::on(Arc::new(disks.clone())), "log.redb", Open::Fresh, Blocking::Inline);
    let log = log.expect("a new log");
    for index in 1..=COMMITS {
        log.append(vec![(index, entries()[0].clone().into())], Box::new(|done| done.expect("memory")));
    }
    log.close().expect("memory");
    let contents = |name| disks.contents(name).expect("it was made");
    (contents("log.redb"), contents("log.redb.witness"))
}

/// The witness of a log. If the first byte is even, the rest is the file. If it is odd, the rest is its number, with a
/// right checksum. The log opens only if it has every commit that its witness knows of, and then works on.
pub fn witness(data: &[u8]) -> bool {
    thread_local! {
        static LOG: Vec<u8> = witnessed().0;
    }
    let Some((how, rest)) = data.split_first() else { return false };
    let bytes = match how % 2 {
        0 => rest.to_vec(),
        _ => note(rest.first_chunk().copied().unwrap_or_default()),
    };
    let number = bytes.get(8..16).and_then(|number| number.first_chunk().copied()).unwrap_or_default();
    let knows_no_more = bytes.starts_with(&note(number)) && u64::from_le_bytes(number) <= COMMITS;
    let disks = SimDisks::new(1);
    LOG.with(|log| disks.write_small("log.redb", log)).expect("memory");
    disks.write_small("log.redb.witness", &bytes).expect("memory");
    let dir = DataDir::on(Arc::new(disks));
    let open = || LogFile::open(&dir, "log.redb", Open::Existing, Blocking::Inline);
    let log = match open() {
        Ok(log) => log,
        Err(error) => {
            assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
            assert!(!knows_no_more, "the witness only lags behind, which is allowed: {error}");
            return false;
        }
    };
    assert!(knows_no_more, "a broken witness, or one that knows of more commits, was accepted");
    assert_eq!(log.bounds(), Some((1, COMMITS)));
    log.append(vec![(COMMITS + 1, Bytes::from_static(b"more"))], Box::new(|done| done.expect("memory")));
    log.close().expect("memory");
    assert_eq!(open().expect("its own witness").bounds(), Some((1, COMMITS + 1)));
    true
}

fn note(number: [u8; 8]) -> Vec<u8> {
    let body = [&b"QRTWITNS"[..], &number].concat();
    [&body[..], &crc32fast::hash(&body).to_le_bytes()].concat()
}

pub fn witnesses() -> Vec<Vec<u8>> {
    let whole = [vec![0], witnessed().1].concat();
    let lags = |number: u64| [vec![1], number.to_le_bytes().to_vec()].concat();
    vec![whole, lags(COMMITS), lags(COMMITS - 1), lags(0)]
}

/// A message of a peer: one byte for its type, then the body.
pub fn peer_rpc(data: &[u8]) -> bool {
    let Some((which, body)) = data.split_first() else { return false };
    match which % 16 {
        0 => read(body, claimed_append, convert::append_request),
        1 => read(body, |response| Ok(convert::read_append_response(response)), convert::append_response),
        2 => read(body, convert::read_vote_request, |request| convert::vote_request(request, false)),
        3 => read(body, convert::read_vote_response, convert::vote_response),
        4 => read(body, convert::read_snapshot_header, |(vote, meta)| convert::snapshot_header(vote, meta)),
        5 => read(body, read_transfer, |(from, to, last)| pb::TransferLeaderRequest {
            from: Some(convert::vote(from)),
            to_node_id: *to,
            last_log_id: last.as_ref().map(convert::log_id),
        }),
        6 => is::<pb::SnapshotChunk>(body),
        7 => is::<pb::InspectRequest>(body),
        8 => is::<pb::AdoptRequest>(body),
        9 => is::<pb::InspectResponse>(body),
        10 => read(
            body,
            |response: pb::SnapshotResponse| convert::require_vote(response.vote),
            |vote| pb::SnapshotResponse { vote: Some(convert::vote(vote)) },
        ),
        11 => is::<pb::TransferLeaderResponse>(body),
        12 => is::<pb::ReadIndexRequest>(body),
        13 => is::<pb::ReadIndexResponse>(body),
        14 => is::<pb::CheckMemberRequest>(body),
        _ => is::<pb::CheckMemberResponse>(body),
    }
}

/// An append that is held against what a node knows, as the service for peers does.
fn claimed_append(request: pb::AppendRequest) -> Result<AppendEntriesRequest, convert::Malformed> {
    let request = convert::read_append_request(request)?;
    for (now_ms, term) in [(0, 0), (1 << 41, 3), (u64::MAX, u64::MAX)] {
        let _ = Standpoint { now_ms, term, committed: Some(id(2, 5)) }.append(&request);
    }
    Ok(request)
}

fn read_transfer(request: pb::TransferLeaderRequest) -> Result<(Vote, u64, Option<LogId>), convert::Malformed> {
    let from = convert::require_vote(request.from)?;
    Ok((from, request.to_node_id, request.last_log_id.map(convert::read_log_id)))
}

/// A message that is used as decoded, without further conversion.
fn is<Q: Message + Default>(body: &[u8]) -> bool {
    Q::decode(body).is_ok()
}

/// A message that is converted. Written and read again, it must mean the same.
fn read<Q: Message + Default + Clone + PartialEq, T>(
    body: &[u8],
    read: impl Fn(Q) -> Result<T, convert::Malformed>,
    write: impl Fn(&T) -> Q,
) -> bool {
    let Ok(message) = Q::decode(body) else { return false };
    let Ok(meant) = read(message) else { return false };
    let written = write(&meant);
    let again = read(written.clone()).expect("what we wrote ourselves");
    assert!(write(&again) == written, "it means something else the second time");
    true
}

pub fn rpcs() -> Vec<Vec<u8>> {
    let vote = Vote::new_committed(3, 1);
    let (pb_vote, pb_id) = (Some(convert::vote(&vote)), Some(convert::log_id(&id(2, 5))));
    let membership = convert::membership(&joint());
    let append = pb::AppendRequest {
        vote: pb_vote,
        prev_log_id: Some(convert::log_id(&id(1, 0))),
        entries: all().iter().map(convert::entry).collect(),
        leader_commit: pb_id,
        time_ms: 1,
    };
    let heartbeat = pb::AppendRequest { entries: Vec::new(), ..append.clone() };
    let stored = pb::StoredMembership { log_id: pb_id, membership: Some(membership) };
    let header =
        pb::SnapshotHeader { vote: pb_vote, last_log_id: pb_id, last_membership: Some(stored), ..Default::default() };
    let chunk = |part| pb::SnapshotChunk { part: Some(part) };
    let member = pb::CheckMemberResponse {
        member: true,
        membership_index: 5,
        leader_address: "h:1".into(),
        ..Default::default()
    };
    let with = |which: u8, body: Vec<u8>| [vec![which], body].concat();
    vec![
        with(0, append.encode_to_vec()),
        with(0, heartbeat.encode_to_vec()),
        with(1, convert::append_response(&Ok(Some(id(2, 5)))).encode_to_vec()),
        with(2, pb::VoteRequest { vote: pb_vote, last_log_id: pb_id, pre_vote: true }.encode_to_vec()),
        with(3, pb::VoteResponse { vote: pb_vote, last_log_id: pb_id, granted: true, time_ms: 1 }.encode_to_vec()),
        with(4, header.encode_to_vec()),
        with(5, pb::TransferLeaderRequest { from: pb_vote, to_node_id: 2, last_log_id: pb_id }.encode_to_vec()),
        with(6, chunk(pb::snapshot_chunk::Part::Header(header)).encode_to_vec()),
        with(6, chunk(pb::snapshot_chunk::Part::Data(Bytes::from_static(b"QRTARCHV"))).encode_to_vec()),
        with(7, pb::InspectRequest { dial: vec!["127.0.0.1:7401".into(); 3] }.encode_to_vec()),
        with(8, pb::AdoptRequest { cluster_id: "c".into(), name: "n2".into(), ..Default::default() }.encode_to_vec()),
        with(9, pb::InspectResponse { version: "1".into(), protocol: 1, ..Default::default() }.encode_to_vec()),
        with(10, pb::SnapshotResponse { vote: pb_vote }.encode_to_vec()),
        with(11, pb::TransferLeaderResponse { accepted: false, refusal: "not now".into() }.encode_to_vec()),
        with(12, pb::ReadIndexRequest {}.encode_to_vec()),
        with(13, pb::ReadIndexResponse { read_log_id: pb_id }.encode_to_vec()),
        with(
            14,
            pb::CheckMemberRequest { cluster_id: "c".into(), epoch: 1, node_id: 2, ..Default::default() }
                .encode_to_vec(),
        ),
        with(15, member.encode_to_vec()),
    ]
}
