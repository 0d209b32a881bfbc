//! Floor 4: one running replica.
//!
//! Starts and stops the consensus, the stores and the background duties of a node, and offers what the gRPC services
//! need: propose, query, subscribe, change membership, status, backup. Every operation answers with a
//! [`Fault`](crate::wire::Fault) that says why it could not.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::{
    storage::{self, kv::Read},
    types::{AccountId, Clock, Consistency, ConversationId, Entropy},
    wire::{Fault, admin, cluster, store},
};

/// One replica, running. Cheap to clone.
#[derive(Clone)]
pub struct Node(Arc<()>);

/// A write that was agreed on.
#[derive(Debug, Clone)]
pub struct Proposed {
    /// What came of it; a refusal is an outcome too.
    pub outcome: store::Outcome,
    /// Whether an earlier write with the same request_id had this outcome already.
    pub deduplicated: bool,
    /// The log index at which it was applied.
    pub index: u64,
}

/// Progress of a membership change: messages until it is done, or a fault.
pub type Progress = mpsc::Receiver<Result<admin::ChangeProgress, Fault>>;

#[allow(unused_variables)]
impl Node {
    /// Agrees on `command` and answers with its outcome. Only the leader does; any other node answers NOT_LEADER.
    /// Waits until `patience` has passed, then answers TIMEOUT: the write may still take effect.
    pub async fn propose(&self, command: store::Command, patience: Duration) -> Result<Proposed, Fault> {
        todo!()
    }

    /// Runs `read` on a consistent view at least as fresh as `consistency` asks, off the async runtime. Answers with
    /// the result and the log index that the view reflects.
    pub async fn query<T: Send + 'static>(
        &self,
        consistency: Consistency,
        patience: Duration,
        read: impl FnOnce(&dyn Read) -> storage::Result<T> + Send + 'static,
    ) -> Result<(T, u64), Fault> {
        todo!()
    }

    /// Rings whenever something that `account` may see has changed on this node. Level-triggered: look at the state.
    pub fn doorbell(&self, account: AccountId, conversations: Vec<ConversationId>) -> Result<Doorbell, Fault> {
        todo!()
    }

    /// What this node knows of its cluster. Never waits for a quorum.
    pub fn membership(&self) -> cluster::GetMembershipResponse {
        todo!()
    }

    /// Changes whenever `membership` would say something new about leader, term, nodes or roles.
    pub fn membership_changes(&self) -> watch::Receiver<u64> {
        todo!()
    }

    /// Adds a node: checks, learner, catch-up, voter.
    pub async fn add_node(&self, request: admin::AddNodeRequest) -> Result<Progress, Fault> {
        todo!()
    }

    /// Replaces a node by a fresh one in one joint change.
    pub async fn replace_node(&self, request: admin::ReplaceNodeRequest) -> Result<Progress, Fault> {
        todo!()
    }

    /// Removes a node.
    pub async fn remove_node(&self, request: admin::RemoveNodeRequest) -> Result<Progress, Fault> {
        todo!()
    }

    /// Promotes a learner or demotes a voter.
    pub async fn set_role(&self, request: admin::SetRoleRequest) -> Result<Progress, Fault> {
        todo!()
    }

    /// Hands leadership over.
    pub async fn transfer_leadership(
        &self,
        request: admin::TransferLeadershipRequest,
    ) -> Result<admin::TransferLeadershipResponse, Fault> {
        todo!()
    }

    /// Takes a snapshot now and compacts the log; answers with the index it covers.
    pub async fn trigger_snapshot(&self) -> Result<u64, Fault> {
        todo!()
    }

    /// The digest of the whole state, at an index at least `at_least`.
    pub async fn state_digest(&self, at_least: u64) -> Result<admin::GetStateDigestResponse, Fault> {
        todo!()
    }

    /// The state as a checksummed archive, frame by frame.
    pub async fn backup(&self) -> Result<mpsc::Receiver<Result<Bytes, Fault>>, Fault> {
        todo!()
    }

    /// Whether this node can serve clients: it belongs to a cluster, knows a leader, and has not fallen far behind.
    /// Changes are watched by the health service.
    pub fn readiness(&self) -> watch::Receiver<bool> {
        todo!()
    }

    /// The wall clock this node was given.
    pub fn clock(&self) -> &Clock {
        todo!()
    }

    /// The source of randomness this node was given.
    pub fn entropy(&self) -> &Entropy {
        todo!()
    }
}

/// Says "look" to one subscription.
pub struct Doorbell(());

/// What a ring was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    /// Conversations with something new; `None` when too many to name: look at all.
    pub conversations: Option<Vec<ConversationId>>,
    /// The log index up to which this ring and those before it tell of everything: a view may be newer already, and
    /// what it shows beyond is told of by a later ring.
    pub through: u64,
    /// The account itself changed: it joined or left a conversation, moved a read mark, ended a session, was deleted.
    pub account: bool,
}

#[allow(unused_variables)]
impl Doorbell {
    /// Waits until something has changed since the last call, or the node stops (then `None`).
    pub async fn wait(&mut self) -> Option<Ring> {
        todo!()
    }

    /// Listens to these conversations from now on, beside the account itself.
    pub fn listen_to(&mut self, conversations: &[ConversationId]) {
        todo!()
    }
}
