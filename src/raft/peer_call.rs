//! One call of a peer: who says it is calling, and whether what it claims can be true.
//!
//! Every method of the service for peers begins with a [`Call`]. It holds the message against what this node knows (see
//! [`claims`]) and refuses it before openraft sees it. See docs/adr/0041.

use std::sync::Arc;

use openraft::async_runtime::WatchReceiver;
use tonic::{Status, metadata::MetadataMap};

use super::{
    Clocks, DiskChecks, PeerIdentity, Raft,
    claims::{self, Standpoint},
    types::{AppendEntriesRequest, StoredMembership, Vote, VoteRequest},
};
use crate::{
    storage::{Blocking, StateSlot},
    types::NodeId,
    wire::{Fault, Reason},
};

/// The parts of a member that answer its peers.
#[derive(Clone)]
pub struct Serving {
    /// This node.
    pub identity: PeerIdentity,
    /// The consensus.
    pub raft: Raft,
    /// The state, beside which snapshots are received.
    pub slot: StateSlot,
    /// Where blocking work runs.
    pub blocking: Blocking,
    /// This node's clock, and what leaders say of the cluster's time.
    pub clocks: Clocks,
    /// Trust in the disks.
    pub disks: DiskChecks,
    /// Called whenever a leader of the current term is heard.
    pub on_leader_contact: Arc<dyn Fn() + Send + Sync>,
    /// The leader that holds its lease, as far as this node can tell.
    pub leased_leader: Arc<dyn Fn() -> Option<NodeId> + Send + Sync>,
}

/// A call, from `sender` as the caller names itself.
#[derive(Clone)]
pub(super) struct Call {
    pub serving: Serving,
    pub sender: NodeId,
}

impl Call {
    /// Refuses a caller of another cluster or epoch, and one that means another node.
    pub fn accept(serving: Serving, headers: &MetadataMap) -> Result<Self, Fault> {
        let sender = serving.identity.check(headers)?;
        Ok(Self { serving, sender })
    }

    /// Checks what a leader wants appended.
    pub fn check_append(&self, request: &AppendEntriesRequest) -> Result<(), Status> {
        self.check_leader(&request.vote)?;
        self.standpoint().append(request).map_err(invalid)
    }

    /// Checks the request of a candidate. Whether it may have the vote is for openraft to say.
    pub fn check_candidate(&self, request: &VoteRequest) -> Result<(), Status> {
        if !claims::is_candidate(&request.vote, self.sender) {
            return Err(self.not_its_own(&request.vote));
        }
        self.standpoint().vote(request).map_err(invalid)
    }

    /// Refuses a vote that is not the sender's own as an elected leader, and a sender that cannot have been elected.
    ///
    /// A node must follow leaders that it does not know, because its own membership may be old (Ongaro, section 4.1). But
    /// a node that hears a voter lead is not behind, or soon stops hearing it: a newer membership takes the quorum away
    /// from that leader, which then falls silent. Until then only a voter can take its place.
    pub fn check_leader(&self, vote: &Vote) -> Result<(), Status> {
        if !claims::is_leader(vote, self.sender) {
            return Err(self.not_its_own(vote));
        }
        let Some(leader) = (self.serving.leased_leader)().filter(|leader| *leader != self.sender) else {
            return Ok(());
        };
        let metrics = self.serving.raft.metrics();
        let metrics = metrics.borrow_watched();
        let is_voter = |id: NodeId| {
            let known = [&metrics.membership_config, &metrics.committed_membership_config];
            known.iter().any(|membership| membership.voter_ids().any(|voter| voter == id))
        };
        if vote.leader_id().term <= metrics.current_term || is_voter(self.sender) || !is_voter(leader) {
            return Ok(());
        }
        Err(not_allowed(format!("node {} is no voter, and node {leader} leads", self.sender)))
    }

    /// Refuses a sender that is no member. A node without a membership knows no members yet, and refuses nobody.
    pub fn check_member(&self) -> Result<(), Status> {
        let metrics = self.serving.raft.metrics();
        let metrics = metrics.borrow_watched();
        let known = [&metrics.membership_config, &metrics.committed_membership_config];
        let is_empty = known.iter().all(|membership| membership.nodes().next().is_none());
        if is_empty || known.iter().any(|membership| membership.get_node(&self.sender).is_some()) {
            return Ok(());
        }
        let message = format!("node {} is not a member of this cluster", self.sender);
        tracing::warn!(%message, "refused a peer");
        Err(Fault::new(Reason::NotMember, message).into())
    }

    /// What this node knows now, to hold a claim against.
    pub fn standpoint(&self) -> Standpoint {
        Standpoint::of(&self.serving.raft.metrics().borrow_watched(), self.serving.clocks.own_ms())
    }

    /// The last membership that this node knows to be committed.
    pub fn committed_membership(&self) -> StoredMembership {
        self.serving.raft.metrics().borrow_watched().committed_membership_config.as_ref().clone()
    }

    fn not_its_own(&self, vote: &Vote) -> Status {
        not_allowed(format!(
            "node {} sends what only another node, or in another role, may send: vote {vote}",
            self.sender
        ))
    }
}

fn not_allowed(message: String) -> Status {
    tracing::warn!(%message, "refused a peer");
    Fault::new(Reason::NotAllowed, message).into()
}

/// INVALID_ARGUMENT: the message cannot be true, or is malformed.
pub(super) fn invalid(error: impl std::fmt::Display) -> Status {
    let message = error.to_string();
    tracing::warn!(%message, "refused the message of a peer");
    Fault::new(Reason::InvalidArgument, message).into()
}
