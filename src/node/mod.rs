//! Floor 4: one running replica.
//!
//! [`Node`] starts and stops consensus, the stores and the background duties, and offers what the gRPC services need:
//! propose, query, subscribe, change membership, status, backup. Every operation that cannot be done returns a
//! [`Fault`] that says why.
//!
//! A node without an identity belongs to no cluster: it listens, reports that it is empty, and waits to be adopted. A
//! member holds a [`Replica`], whose parts start together and stop together. A broken disk or the node's removal ends
//! in an [`Exit`], never in a wrong answer.
//!
//! # Folders
//!
//! - [`consensus`]: the replica while it runs: writes, reads, leadership, doorbells, status, background duties.
//! - [`lifecycle`]: how a node is created, started, adopted, backed up, restored, recovered and stopped.
//! - [`change`]: membership changes.
//!
//! `lifecycle` and `change` use `consensus`; `change` uses `lifecycle` to talk to nodes that are no members yet.

mod change;
mod consensus;
mod disk_record;
mod exit;
mod identity;
mod lifecycle;
mod settings;

use std::{
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex, watch};

pub(crate) use self::lifecycle::{checked_adoption, checked_inspection};
pub use self::{
    change::{AddNode, Newcomer, Progress, ReplaceNode, SetAddress},
    consensus::{CorrectedTime, Doorbell, Proposed, Ring, VERSION},
    exit::Exit,
    identity::Identity,
    lifecycle::{Compared, PROTOCOL, Recovery, StartError, Survivor, inspect},
    settings::Settings,
};
use self::{
    consensus::{Hub, Replica, status},
    lifecycle::PendingAdoption,
};
use crate::{
    raft::PeerService,
    storage::{self, DataDir, kv::Read},
    types::{AccountId, Address, Clock, Consistency, ConversationId, Entropy},
    wire::{Fault, Reason, cluster, store},
};

/// One running node. Cheap to clone; all clones are the same node.
///
/// # Invariants
///
/// - At most one [`Replica`] runs at a time. It is set by [`Node::begin`](lifecycle) and cleared by `stop` and
///   `give_up`; after either, none is ever set again.
/// - Once the exit reason is set, no replica is set: every call then fails with the reason.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    dir: DataDir,
    hub: Hub,
    peers: PeerService,
    /// The member that runs; `None` while this node belongs to no cluster, and after it stopped.
    replica: RwLock<Option<Arc<Replica>>>,
    /// Held while the identity on disk is read and rewritten, and during an adoption.
    identity_file: Mutex<()>,
    pending_adoption: PendingAdoption,
    /// Set by `stop`: an adoption that has not begun by then is refused.
    stopping: AtomicBool,
    /// The address at which this node was started, if the membership lists another one.
    moved_to: OnceLock<Address>,
    change_lock: change::ChangeLock,
    ready_learners: change::ReadyLearners,
    /// Set once, by `give_up`.
    exit: watch::Sender<Option<Exit>>,
    /// A counter that grows whenever [`Node::membership`] may say something new.
    changes: watch::Sender<u64>,
    ready: watch::Sender<bool>,
}

impl Node {
    /// Agrees on `command` and returns its outcome. Only the leader can; any other node fails with NOT_LEADER.
    ///
    /// After `timeout` it fails with TIMEOUT; the write may still take effect.
    pub async fn propose(&self, command: store::Command, timeout: Duration) -> Result<Proposed, Fault> {
        self.replica()?.proposer.propose(command, timeout).await
    }

    /// Runs `read` on a consistent view at least as fresh as `consistency` demands, off the async runtime. Returns the
    /// result and the log index that the view reflects.
    pub async fn query<T: Send + 'static>(
        &self,
        consistency: Consistency,
        timeout: Duration,
        read: impl FnOnce(&dyn Read) -> storage::Result<T> + Send + 'static,
    ) -> Result<(T, u64), Fault> {
        self.replica()?.reader.query(consistency, timeout, read).await
    }

    /// Returns a doorbell that rings when something that `account` may see has changed on this node.
    ///
    /// It is level-triggered: a ring carries no data, the listener reads the state.
    pub fn doorbell(&self, account: AccountId, conversations: Vec<ConversationId>) -> Result<Doorbell, Fault> {
        self.inner.hub.doorbell(account, conversations)
    }

    /// What this node knows of its cluster. Never waits for a quorum.
    pub fn membership(&self) -> cluster::GetMembershipResponse {
        match self.replica() {
            Ok(replica) => {
                let mut membership = status::of_member(&replica);
                // The membership lists the old address of a leader that has moved; nobody answers there.
                if let Some(moved_to) = self.inner.moved_to.get()
                    && membership.leader_id == membership.answered_by_id
                {
                    membership.leader_address = moved_to.to_string();
                }
                membership
            }
            Err(_) => status::of_empty_node(&self.name()),
        }
    }

    /// Changes whenever `membership` would say something new about leader, term, nodes or roles.
    pub fn membership_changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Whether this node can serve clients: it belongs to a cluster, hears its leader, and has applied nearly all that
    /// it knows to be committed.
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.inner.ready.subscribe()
    }

    /// The service for peers, to be served beside the others.
    pub fn peer_service(&self) -> PeerService {
        self.inner.peers.clone()
    }

    /// The time to act by, in Unix milliseconds: this node's clock, or the cluster's time if this clock is off.
    pub fn now_ms(&self) -> u64 {
        match self.replica() {
            Ok(replica) => replica.clocks.now_ms(),
            Err(_) => self.clock().now_ms(),
        }
    }

    /// The wall clock of this node's settings, right or wrong.
    pub fn clock(&self) -> &Clock {
        &self.inner.settings.clock
    }

    /// The source of randomness of this node's settings.
    pub fn entropy(&self) -> &Entropy {
        &self.inner.settings.entropy
    }

    /// The settings that this node was started with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The name of this node; empty while it has none.
    pub fn name(&self) -> String {
        match self.replica() {
            Ok(replica) => replica.identity.name.clone(),
            Err(_) => self.settings().config.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// Refuses a caller that means another cluster, which used to have a node at this address.
    ///
    /// An empty node passes here: every operation on it fails with NOT_MEMBER.
    pub fn belongs_to(&self, cluster_id: &str) -> Result<(), Fault> {
        let Ok(replica) = self.replica() else { return Ok(()) };
        let own = &replica.identity;
        if own.cluster_id == cluster_id {
            return Ok(());
        }
        let message = format!("the node {} belongs to cluster {}, not {cluster_id}", own.name, own.cluster_id);
        Err(Fault::new(Reason::WrongCluster, message).next("check the addresses that were given"))
    }

    /// Ends this member for good: it answers no peer and no client any more. The first reason given stands.
    fn give_up(&self, why: Exit) {
        self.inner.peers.stop();
        self.set_replica(None);
        self.inner.hub.close();
        self.inner.ready.send_replace(false);
        self.inner.exit.send_if_modified(|exit| {
            let first = exit.is_none();
            if first {
                tracing::error!(reason = %why, "this node stops");
                *exit = Some(why);
            }
            first
        });
    }

    fn is_stopping(&self) -> bool {
        self.inner.stopping.load(Ordering::SeqCst)
    }

    /// The running member, or the reason why there is none.
    fn replica(&self) -> Result<Arc<Replica>, Fault> {
        let replica = self.inner.replica.read().unwrap_or_else(PoisonError::into_inner).clone();
        replica.ok_or_else(|| match &*self.inner.exit.borrow() {
            Some(Exit::Removed) => Fault::new(Reason::Removed, "this node was removed from its cluster"),
            Some(exit) => Fault::new(Reason::Quarantined, exit.to_string()).next("ask another node"),
            None => Fault::new(Reason::NotMember, "this node belongs to no cluster yet")
                .next("add it with `chat-admin add-node NAME ADDRESS`, or ask another node"),
        })
    }

    fn set_replica(&self, replica: Option<Arc<Replica>>) {
        *self.inner.replica.write().unwrap_or_else(PoisonError::into_inner) = replica;
    }

    /// Whether `replica` is the member that runs. Background duties end when it is not.
    fn runs(&self, replica: &Arc<Replica>) -> bool {
        self.replica().is_ok_and(|current| Arc::ptr_eq(&current, replica))
    }
}
