//! openraft's generic types with our parameters, each spelled once.
#![allow(missing_docs, reason = "an alias says nothing that openraft's own page does not")]

use std::fmt;

use bytes::Bytes;

use crate::machine;

openraft::declare_raft_types!(
    /// The types that this crate gives to openraft. A term has one leader, as in the Raft paper.
    pub TypeConfig:
        D = Proposal,
        R = Decisions,
        NodeId = crate::types::NodeId,
        Node = Member,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, crate::types::NodeId>,
);

/// An encoded `chat.store.v1.CommandBatch`. Log, network and followers pass on the same bytes; only apply decodes them.
#[derive(Clone, PartialEq, Eq)]
pub struct Proposal(pub Bytes);

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The outcome of each command of a proposal, in order. Empty for blank and membership entries.
#[derive(Debug)]
pub struct Decisions(pub Vec<machine::Decided>);

/// A node as the membership lists it. The address is part of the membership, so dialling a peer never depends on
/// applied state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// `host:port` that peers and clients dial.
    pub address: String,
    /// Its failure domain.
    pub zone: String,
}

pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub type CommittedLeaderId = openraft::alias::CommittedLeaderIdOf<TypeConfig>;
pub type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
pub type EntryPayload = openraft::alias::PayloadOf<TypeConfig>;
pub type Membership = openraft::Membership<crate::types::NodeId, Member>;
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub type Snapshot = openraft::alias::SnapshotOf<TypeConfig, super::SnapshotData>;
pub type Metrics = openraft::RaftMetrics<TypeConfig>;
pub type ClientWriteResult = openraft::raft::ClientWriteResult<TypeConfig>;
pub type ClientWriteError = openraft::errors::ClientWriteError<TypeConfig>;
pub type Fatal = openraft::errors::Fatal<TypeConfig>;
pub type RaftError<E = openraft::errors::Infallible> = openraft::errors::RaftError<TypeConfig, E>;
pub type RpcError = openraft::errors::RPCError<TypeConfig>;
pub type StreamingError = openraft::errors::StreamingError<TypeConfig>;
pub type AppendEntriesRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
pub type AppendEntriesResponse = openraft::raft::AppendEntriesResponse<TypeConfig>;
pub type StreamAppendResult = openraft::raft::StreamAppendResult<TypeConfig>;
pub type StreamAppendError = openraft::raft::StreamAppendError<TypeConfig>;
pub type VoteRequest = openraft::raft::VoteRequest<TypeConfig>;
pub type VoteResponse = openraft::raft::VoteResponse<TypeConfig>;
pub type SnapshotResponse = openraft::raft::SnapshotResponse<TypeConfig>;
pub type TransferLeaderRequest = openraft::raft::TransferLeaderRequest<TypeConfig>;
pub type TransferLeaderResponse = openraft::raft::TransferLeaderResponse<TypeConfig>;
pub type ChangeMembers = openraft::ChangeMembers<crate::types::NodeId, Member>;
pub type Precondition = openraft::raft::Precondition<TypeConfig>;
