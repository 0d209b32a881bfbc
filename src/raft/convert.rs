//! Conversions between openraft's types and our protobuf, for disk and wire alike.
//!
//! A function named after a type writes it; `read_` reads it back. Everything read here was written by another process,
//! perhaps long ago, so a message that does not decode or is incomplete is an error that names the missing part, never a
//! default. What the values mean is not checked here, except that entries follow each other without a gap.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;

use super::types::{
    AppendEntriesRequest, CommittedLeaderId, Entry, EntryPayload, LogId, Member, Membership, Proposal, SnapshotMeta,
    StoredMembership, StreamAppendError, StreamAppendResult, Vote, VoteRequest, VoteResponse,
};
use crate::wire::raft as pb;

/// A protobuf message of consensus that does not decode or is incomplete.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not decode.
    #[error("undecodable: {0}")]
    Undecodable(String),
    /// A required part is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Its parts contradict one another.
    #[error("inconsistent membership: {0}")]
    Membership(String),
    /// The entries do not follow each other, or not the entry before them.
    #[error("a gap before entry {0}")]
    Gap(u64),
}

impl From<prost::DecodeError> for Malformed {
    fn from(error: prost::DecodeError) -> Self {
        Self::Undecodable(error.to_string())
    }
}

type Result<T> = std::result::Result<T, Malformed>;

/// To protobuf.
pub fn log_id(id: &LogId) -> pb::LogId {
    pb::LogId { term: id.committed_leader_id().term, index: id.index() }
}

/// From protobuf.
pub fn read_log_id(id: pb::LogId) -> LogId {
    LogId::new(CommittedLeaderId::new(id.term), id.index)
}

/// To protobuf.
pub fn vote(vote: &Vote) -> pb::Vote {
    pb::Vote { term: vote.leader_id().term, node_id: vote.leader_id().voted_for, committed: vote.is_committed() }
}

/// From protobuf.
pub fn read_vote(vote: pb::Vote) -> Vote {
    match vote.committed {
        true => Vote::new_committed(vote.term, vote.node_id),
        false => Vote::new(vote.term, vote.node_id),
    }
}

/// From a protobuf field that must be set.
pub fn require_vote(vote: Option<pb::Vote>) -> Result<Vote> {
    vote.map(read_vote).ok_or(Malformed::Missing("vote"))
}

/// To protobuf; sorted, so that equal memberships are equal bytes.
pub fn membership(membership: &Membership) -> pb::Membership {
    let configs = membership.get_joint_config().iter();
    pb::Membership {
        configs: configs.map(|ids| pb::VoterSet { node_ids: ids.iter().copied().collect() }).collect(),
        members: membership
            .nodes()
            .map(|(id, member)| pb::Member {
                node_id: *id,
                name: member.name.clone(),
                address: member.address.clone(),
                zone: member.zone.clone(),
            })
            .collect(),
    }
}

/// From protobuf. Every voter must be a member.
pub fn read_membership(membership: pb::Membership) -> Result<Membership> {
    let configs: Vec<BTreeSet<u64>> =
        membership.configs.into_iter().map(|set| set.node_ids.into_iter().collect()).collect();
    let members: BTreeMap<u64, Member> = membership
        .members
        .into_iter()
        .map(|m| (m.node_id, Member { name: m.name, address: m.address, zone: m.zone }))
        .collect();
    Membership::new(configs, members).map_err(|error| Malformed::Membership(error.to_string()))
}

/// To protobuf.
pub fn stored_membership(stored: &StoredMembership) -> pb::StoredMembership {
    pb::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id),
        membership: Some(membership(stored.membership())),
    }
}

/// From protobuf. The membership of an empty log is the empty one.
pub fn read_stored_membership(stored: pb::StoredMembership) -> Result<StoredMembership> {
    let Some(inner) = stored.membership.filter(|membership| !membership.configs.is_empty()) else {
        return Ok(StoredMembership::default());
    };
    Ok(StoredMembership::new(stored.log_id.map(read_log_id), read_membership(inner)?))
}

/// To protobuf. The proposal's bytes are shared, not copied.
pub fn entry(entry: &Entry) -> pb::Entry {
    let payload = match &entry.payload {
        EntryPayload::Blank => pb::entry::Payload::Blank(pb::Blank {}),
        EntryPayload::Normal(proposal) => pb::entry::Payload::Batch(proposal.0.clone()),
        EntryPayload::Membership(inner) => pb::entry::Payload::Membership(membership(inner)),
    };
    pb::Entry { log_id: Some(log_id(&entry.log_id)), payload: Some(payload) }
}

/// From protobuf.
pub fn read_entry(entry: pb::Entry) -> Result<Entry> {
    let log_id = entry.log_id.map(read_log_id).ok_or(Malformed::Missing("an entry's log id"))?;
    let payload = match entry.payload.ok_or(Malformed::Missing("an entry's payload"))? {
        pb::entry::Payload::Blank(_) => EntryPayload::Blank,
        pb::entry::Payload::Batch(bytes) => EntryPayload::Normal(Proposal(bytes)),
        pb::entry::Payload::Membership(inner) => EntryPayload::Membership(read_membership(inner)?),
    };
    Ok(Entry { log_id, payload })
}

/// An entry as a record of the log file.
pub fn encode_entry(from: &Entry) -> Bytes {
    entry(from).encode_to_vec().into()
}

/// A record of the log file as an entry; the proposal shares the record's bytes.
pub fn decode_entry(record: Bytes) -> Result<Entry> {
    read_entry(pb::Entry::decode(record)?)
}

/// To protobuf. The caller adds the time.
pub fn append_request(request: &AppendEntriesRequest) -> pb::AppendRequest {
    pb::AppendRequest {
        vote: Some(vote(&request.vote)),
        prev_log_id: request.prev_log_id.as_ref().map(log_id),
        entries: request.entries.iter().map(entry).collect(),
        leader_commit: request.leader_commit.as_ref().map(log_id),
        time_ms: 0,
    }
}

/// From protobuf.
pub fn read_append_request(request: pb::AppendRequest) -> Result<AppendEntriesRequest> {
    let request = AppendEntriesRequest {
        vote: require_vote(request.vote)?,
        prev_log_id: request.prev_log_id.map(read_log_id),
        entries: request.entries.into_iter().map(read_entry).collect::<Result<_>>()?,
        leader_commit: request.leader_commit.map(read_log_id),
    };
    match gap(&request) {
        None => Ok(request),
        Some(index) => Err(Malformed::Gap(index)),
    }
}

/// The index of the first entry of an append that does not directly follow the entry before it. Appending it would leave
/// a gap in the log.
pub fn gap(request: &AppendEntriesRequest) -> Option<u64> {
    // The indexes are a peer's word: one more than the greatest is none.
    let mut next = request.prev_log_id.as_ref().map_or(Some(0), |id| id.index().checked_add(1));
    request.entries.iter().map(|entry| entry.log_id.index()).find(|index| {
        let follows = next == Some(*index);
        next = index.checked_add(1);
        !follows
    })
}

/// To protobuf. The caller adds the time.
pub fn append_response(result: &StreamAppendResult) -> pb::AppendResponse {
    match result {
        Ok(matched) => pb::AppendResponse { matched: matched.as_ref().map(log_id), ..Default::default() },
        Err(error) => {
            let refusal = match error {
                StreamAppendError::Conflict(at) => pb::append_response::Refusal::Conflict(log_id(at)),
                StreamAppendError::HigherVote(higher) => pb::append_response::Refusal::HigherVote(vote(higher)),
            };
            pb::AppendResponse { refusal: Some(refusal), ..Default::default() }
        }
    }
}

/// From protobuf.
pub fn read_append_response(response: pb::AppendResponse) -> StreamAppendResult {
    match response.refusal {
        None => Ok(response.matched.map(read_log_id)),
        Some(pb::append_response::Refusal::Conflict(at)) => Err(StreamAppendError::Conflict(read_log_id(at))),
        Some(pb::append_response::Refusal::HigherVote(higher)) => Err(StreamAppendError::HigherVote(read_vote(higher))),
    }
}

/// To protobuf.
pub fn vote_request(request: &VoteRequest, pre_vote: bool) -> pb::VoteRequest {
    pb::VoteRequest { vote: Some(vote(&request.vote)), last_log_id: request.last_log_id.as_ref().map(log_id), pre_vote }
}

/// From protobuf.
pub fn read_vote_request(request: pb::VoteRequest) -> Result<VoteRequest> {
    Ok(VoteRequest::new(require_vote(request.vote)?, request.last_log_id.map(read_log_id)))
}

/// To protobuf. The caller adds the time.
pub fn vote_response(response: &VoteResponse) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(vote(&response.vote)),
        last_log_id: response.last_log_id.as_ref().map(log_id),
        granted: response.vote_granted,
        time_ms: 0,
    }
}

/// From protobuf.
pub fn read_vote_response(response: pb::VoteResponse) -> Result<VoteResponse> {
    let vote = require_vote(response.vote)?;
    Ok(VoteResponse::new(vote, response.last_log_id.map(read_log_id), response.granted))
}

/// To protobuf: the header that precedes the archive when a snapshot is sent.
pub fn snapshot_header(sender: &Vote, meta: &SnapshotMeta) -> pb::SnapshotHeader {
    pb::SnapshotHeader {
        vote: Some(vote(sender)),
        last_log_id: meta.last_log_id.as_ref().map(log_id),
        last_membership: Some(stored_membership(&meta.last_membership)),
        ..Default::default()
    }
}

/// From protobuf.
pub fn read_snapshot_header(header: pb::SnapshotHeader) -> Result<(Vote, SnapshotMeta)> {
    let stored = header.last_membership.ok_or(Malformed::Missing("a snapshot's membership"))?;
    let meta = SnapshotMeta {
        last_log_id: header.last_log_id.map(read_log_id),
        last_membership: read_stored_membership(stored)?,
    };
    Ok((require_vote(header.vote)?, meta))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(term), index)
    }

    #[test]
    fn entries_of_every_kind_survive_the_disk() {
        let member = |name: &str| Member { name: name.into(), address: "h:1".into(), zone: "z".into() };
        let members: BTreeMap<u64, Member> = [(1, member("n1")), (2, member("n2"))].into();
        let joint = Membership::new(vec![[1].into(), [1, 2].into()], members).expect("voters are members");
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Proposal(Bytes::from_static(b"batch"))),
            EntryPayload::Membership(joint),
        ] {
            let before = Entry { log_id: id(3, 9), payload };
            assert_eq!(decode_entry(encode_entry(&before)), Ok(before));
        }
    }

    #[test]
    fn an_incomplete_message_names_the_missing_part() {
        assert_eq!(decode_entry(Bytes::new()), Err(Malformed::Missing("an entry's log id")));
        assert!(matches!(decode_entry(Bytes::from_static(&[0xff])), Err(Malformed::Undecodable(_))));
        let stranger = pb::Membership { configs: vec![pb::VoterSet { node_ids: vec![7] }], members: vec![] };
        assert!(matches!(read_membership(stranger), Err(Malformed::Membership(_))));
        assert_eq!(read_vote_request(pb::VoteRequest::default()), Err(Malformed::Missing("vote")));
    }

    #[test]
    fn an_append_that_would_leave_a_gap_in_the_log_is_malformed() {
        let append = |prev: Option<u64>, entries: &[u64]| {
            let entry = |index: &u64| pb::Entry {
                log_id: Some(pb::LogId { term: 3, index: *index }),
                payload: Some(pb::entry::Payload::Blank(pb::Blank {})),
            };
            let request = pb::AppendRequest {
                vote: Some(pb::Vote { term: 3, node_id: 1, committed: true }),
                prev_log_id: prev.map(|index| pb::LogId { term: 3, index }),
                entries: entries.iter().map(entry).collect(),
                leader_commit: None,
                time_ms: 0,
            };
            read_append_request(request).map(|read| read.entries.len())
        };
        assert_eq!(append(Some(866), &[867, 868]), Ok(2));
        assert_eq!(append(Some(866), &[]), Ok(0));
        assert_eq!(append(None, &[0, 1]), Ok(2));
        assert_eq!(append(Some(866), &[892, 893]), Err(Malformed::Gap(892)));
        assert_eq!(append(Some(866), &[867, 869]), Err(Malformed::Gap(869)));
        assert_eq!(append(None, &[1]), Err(Malformed::Gap(1)));
    }

    #[test]
    fn answers_to_an_append_survive_the_wire() {
        let answers: [StreamAppendResult; 4] = [
            Ok(None),
            Ok(Some(id(1, 2))),
            Err(StreamAppendError::Conflict(id(1, 2))),
            Err(StreamAppendError::HigherVote(Vote::new_committed(4, 2))),
        ];
        for answer in answers {
            assert_eq!(read_append_response(append_response(&answer)), answer);
        }
    }
}
