//! One call of a peer: whether what it claims can be true.
//!
//! Every method of the service for peers begins with a [`Call`]. It holds the message against what this node knows (see
//! [`claims`](super::claims)) and refuses it before openraft sees it.

use std::sync::Arc;

use openraft::async_runtime::WatchReceiver;
use tonic::{Status, metadata::MetadataMap};

use super::{
    PeerIdentity, Raft,
    claims::Standpoint,
    types::{AppendEntriesRequest, StoredMembership, VoteRequest},
};
use crate::{
    storage::{Blocking, StateSlot},
    types::Clock,
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
    /// The wall clock.
    pub clock: Clock,
    /// Called whenever a leader of the current term is heard.
    pub on_leader_contact: Arc<dyn Fn() + Send + Sync>,
}

/// A call, with what answers it.
#[derive(Clone)]
pub(super) struct Call {
    pub serving: Serving,
}

impl Call {
    /// Refuses a caller of another cluster or epoch, and one that means another node.
    pub fn accept(serving: Serving, headers: &MetadataMap) -> Result<Self, Fault> {
        serving.identity.check(headers)?;
        Ok(Self { serving })
    }

    /// Checks what a leader wants appended.
    pub fn check_append(&self, request: &AppendEntriesRequest) -> Result<(), Status> {
        self.standpoint().append(request).map_err(invalid)
    }

    /// Checks the request of a candidate. Whether it may have the vote is for openraft to say.
    pub fn check_candidate(&self, request: &VoteRequest) -> Result<(), Status> {
        self.standpoint().vote(request).map_err(invalid)
    }

    /// What this node knows now, to hold a claim against.
    pub fn standpoint(&self) -> Standpoint {
        Standpoint::of(&self.serving.raft.metrics().borrow_watched(), self.serving.clock.now_ms())
    }

    /// The last membership that this node knows to be committed.
    pub fn committed_membership(&self) -> StoredMembership {
        self.serving.raft.metrics().borrow_watched().committed_membership_config.as_ref().clone()
    }
}

/// INVALID_ARGUMENT: the message cannot be true, or is malformed.
pub(super) fn invalid(error: impl std::fmt::Display) -> Status {
    let message = error.to_string();
    tracing::warn!(%message, "refused the message of a peer");
    Fault::new(Reason::InvalidArgument, message).into()
}
