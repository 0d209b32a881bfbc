//! What consensus reads: log entries, the log's own values, what peers say.

use std::{cell::RefCell, collections::BTreeMap};

use bytes::Bytes;
use prost::Message;
use quorate::{
    raft::{
        LogStore, convert,
        types::{CommittedLeaderId, Entry, EntryPayload, LogId, Member, Membership, Proposal, Vote},
    },
    storage::{Blocking, DataDir, LogFile, Open, testing::SimDisks},
    wire::raft as pb,
};

use super::state;

/// A record of the log: it is the entry that it says, or no entry.
pub fn log_entry(data: &[u8]) {
    let Ok(entry) = convert::decode_entry(Bytes::copy_from_slice(data)) else { return };
    assert_eq!(convert::decode_entry(convert::encode_entry(&entry)).as_ref(), Ok(&entry));
    if let EntryPayload::Normal(proposal) = &entry.payload {
        // Small ones alone: large ones have a target of their own.
        if proposal.0.len() < 1024 {
            state::commands(&proposal.0);
        }
    }
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

/// What lies in the log's file: the vote, the marks, the last record.
pub fn log_file(data: &[u8]) {
    thread_local! {
        static LOG: RefCell<Option<LogFile>> = const { RefCell::new(None) };
    }
    LOG.with_borrow_mut(|log| {
        let file = log.get_or_insert_with(|| {
            let dir = DataDir::on(std::sync::Arc::new(SimDisks::new(1)));
            LogFile::open(&dir, "log.redb", Open::Fresh, Blocking::Inline).expect("a new log")
        });
        let value = || Bytes::copy_from_slice(data);
        for name in ["vote", "committed", "purged"] {
            file.set(name, value(), Box::new(|done| done.expect("memory")));
        }
        file.append(vec![(7, value())], Box::new(|done| done.expect("memory")));
        let store = LogStore::new(file.clone());
        let _ = (store.vote(), store.committed(), store.bounds());
        for applied in [None, Some(id(1, 6)), store.committed().ok().flatten()] {
            let _ = store.each_after(applied, |_| Ok(()));
        }
        file.truncate_from(0, Box::new(|done| done.expect("memory")));
    });
}

/// A message of a peer: one byte for which, then the body.
pub fn peer_rpc(data: &[u8]) {
    let Some((which, body)) = data.split_first() else { return };
    match which % 10 {
        0 => read(body, convert::read_append_request, convert::append_request),
        1 => read(body, |response| Ok(convert::read_append_response(response)), convert::append_response),
        2 => read(body, convert::read_vote_request, |request| convert::vote_request(request, false)),
        3 => read(body, convert::read_vote_response, convert::vote_response),
        4 => read(body, convert::read_snapshot_header, |(vote, meta)| convert::snapshot_header(vote, meta)),
        5 => {
            if let Ok(request) = pb::TransferLeaderRequest::decode(body) {
                let _ = (convert::require_vote(request.from), request.last_log_id.map(convert::read_log_id));
            }
        }
        6 => drop(pb::SnapshotChunk::decode(body)),
        7 => drop(pb::InspectRequest::decode(body)),
        8 => drop(pb::AdoptRequest::decode(body)),
        _ => drop(pb::InspectResponse::decode(body)),
    }
}

/// What is read means the same when it is written and read again.
fn read<Q: Message + Default + Clone + PartialEq, T>(
    body: &[u8],
    read: impl Fn(Q) -> Result<T, convert::Malformed>,
    write: impl Fn(&T) -> Q,
) {
    let Ok(message) = Q::decode(body) else { return };
    let Ok(meant) = read(message) else { return };
    let written = write(&meant);
    let again = read(written.clone()).expect("what we wrote ourselves");
    assert!(write(&again) == written, "it means something else the second time");
}

pub fn rpcs() -> Vec<Vec<u8>> {
    let vote = Vote::new_committed(3, 1);
    let (pb_vote, pb_id) = (Some(convert::vote(&vote)), Some(convert::log_id(&id(2, 5))));
    let membership = convert::membership(&joint());
    let append = pb::AppendRequest {
        vote: pb_vote,
        prev_log_id: pb_id,
        entries: all().iter().map(convert::entry).collect(),
        leader_commit: pb_id,
    };
    let heartbeat = pb::AppendRequest { entries: Vec::new(), ..append.clone() };
    let stored = pb::StoredMembership { log_id: pb_id, membership: Some(membership) };
    let header = pb::SnapshotHeader { vote: pb_vote, last_log_id: pb_id, last_membership: Some(stored) };
    let chunk = |part| pb::SnapshotChunk { part: Some(part) };
    let with = |which: u8, body: Vec<u8>| [vec![which], body].concat();
    vec![
        with(0, append.encode_to_vec()),
        with(0, heartbeat.encode_to_vec()),
        with(1, convert::append_response(&Ok(Some(id(2, 5)))).encode_to_vec()),
        with(2, pb::VoteRequest { vote: pb_vote, last_log_id: pb_id, pre_vote: true }.encode_to_vec()),
        with(3, pb::VoteResponse { vote: pb_vote, last_log_id: pb_id, granted: true }.encode_to_vec()),
        with(4, header.encode_to_vec()),
        with(5, pb::TransferLeaderRequest { from: pb_vote, to_node_id: 2, last_log_id: pb_id }.encode_to_vec()),
        with(6, chunk(pb::snapshot_chunk::Part::Header(header)).encode_to_vec()),
        with(6, chunk(pb::snapshot_chunk::Part::Data(Bytes::from_static(b"QRTARCHV"))).encode_to_vec()),
        with(7, pb::InspectRequest { dial: vec!["127.0.0.1:7401".into(); 3] }.encode_to_vec()),
        with(8, pb::AdoptRequest { cluster_id: "c".into(), name: "n2".into(), ..Default::default() }.encode_to_vec()),
        with(9, pb::InspectResponse { version: "1".into(), protocol: 1, ..Default::default() }.encode_to_vec()),
    ]
}
