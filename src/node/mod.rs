//! Floor 4: one running replica.
//!
//! Starts and stops the consensus, the stores and the background duties of a node, and offers what the gRPC services
//! need: propose, query, subscribe, change membership, status, backup. Every operation answers with a [`Fault`] that
//! says why it could not.
//!
//! A node without an identity belongs to no cluster: it listens, says so, and waits to be adopted (`join`). A member
//! holds a [`Replica`], all of whose parts start together and stop together. Whatever makes a member
//! unfit to go on, a broken disk or its removal from the cluster, ends in an [`Exit`], never in a wrong answer.

mod adopt;
mod archive;
mod change;
mod chores;
mod hub;
mod identity;
mod inspect;
mod join;
mod keeper;
mod leadership;
mod proposer;
mod reads;
mod recover;
mod replica;
mod restore;
mod standing;
mod start;
mod status;

use std::{
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex, watch};

use self::{adopt::Adopting, hub::Hub, replica::Replica};
pub(crate) use self::{adopt::checked_adoption, join::checked_inspection};
pub use self::{
    change::{AddNode, Newcomer, Progress, ReplaceNode, SetAddress},
    hub::{Doorbell, Ring},
    identity::Identity,
    inspect::inspect,
    join::PROTOCOL,
    proposer::Proposed,
    recover::{Compared, Recovery, Survivor},
    start::{Exit, Settings, StartError},
    status::VERSION,
};
use crate::{
    raft::PeerService,
    storage::{self, DataDir, kv::Read},
    types::{AccountId, Address, Clock, Consistency, ConversationId, Entropy},
    wire::{Fault, Reason, cluster, store},
};

/// One replica, running. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    dir: DataDir,
    hub: Hub,
    peers: PeerService,
    replica: RwLock<Option<Arc<Replica>>>,
    /// Held by whoever changes the identity on disk.
    identity_file: Mutex<()>,
    adopting: Adopting,
    /// Whether `stop` was called: what is not begun by then does not begin.
    stopping: AtomicBool,
    /// Where this node was started, if its cluster knew it elsewhere.
    moved_to: OnceLock<Address>,
    busy: change::Busy,
    ready_learners: change::Ready,
    exit: watch::Sender<Option<Exit>>,
    changes: watch::Sender<u64>,
    ready: watch::Sender<bool>,
}

impl Node {
    /// Agrees on `command` and answers with its outcome. Only the leader does; any other node answers NOT_LEADER.
    /// Waits until `timeout` has passed, then answers TIMEOUT: the write may still take effect.
    pub async fn propose(&self, command: store::Command, timeout: Duration) -> Result<Proposed, Fault> {
        self.replica()?.proposer.propose(command, timeout).await
    }

    /// Runs `read` on a consistent view at least as fresh as `consistency` asks, off the async runtime. Answers with
    /// the result and the log index that the view reflects.
    pub async fn query<T: Send + 'static>(
        &self,
        consistency: Consistency,
        timeout: Duration,
        read: impl FnOnce(&dyn Read) -> storage::Result<T> + Send + 'static,
    ) -> Result<(T, u64), Fault> {
        self.replica()?.reader.query(consistency, timeout, read).await
    }

    /// Rings whenever something that `account` may see has changed on this node. Level-triggered: look at the state.
    pub fn doorbell(&self, account: AccountId, conversations: Vec<ConversationId>) -> Result<Doorbell, Fault> {
        self.inner.hub.doorbell(account, conversations)
    }

    /// What this node knows of its cluster. Never waits for a quorum.
    pub fn membership(&self) -> cluster::GetMembershipResponse {
        match self.replica() {
            Ok(replica) => {
                let mut membership = status::of_member(&replica);
                // Whoever asks a leader that has moved must not be sent where nobody answers.
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

    /// The wall clock this node was given.
    pub fn clock(&self) -> &Clock {
        &self.inner.settings.clock
    }

    /// The source of randomness this node was given.
    pub fn entropy(&self) -> &Entropy {
        &self.inner.settings.entropy
    }

    /// What this node was started with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// What people call this node; empty while nobody has named it.
    pub fn name(&self) -> String {
        match self.replica() {
            Ok(replica) => replica.identity.name.clone(),
            Err(_) => self.settings().config.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// Refuses a caller that means another cluster: it found this node where one of its own used to be. A node of no
    /// cluster refuses in its own way.
    pub fn belongs_to(&self, cluster_id: &str) -> Result<(), Fault> {
        let Ok(replica) = self.replica() else { return Ok(()) };
        let own = &replica.identity;
        if own.cluster_id == cluster_id {
            return Ok(());
        }
        let message = format!("the node {} belongs to cluster {}, not {cluster_id}", own.name, own.cluster_id);
        Err(Fault::new(Reason::WrongCluster, message).next("check the addresses that were given"))
    }

    fn is_stopping(&self) -> bool {
        self.inner.stopping.load(Ordering::SeqCst)
    }

    fn replica(&self) -> Result<Arc<Replica>, Fault> {
        let replica = self.inner.replica.read().unwrap_or_else(PoisonError::into_inner).clone();
        replica.ok_or_else(|| match &*self.inner.exit.borrow() {
            Some(Exit::Removed) => Fault::new(Reason::Removed, "this node was removed from its cluster"),
            Some(exit) => Fault::new(Reason::Quarantined, exit.to_string()).next("ask another node"),
            None => Fault::new(Reason::NotMember, "this node belongs to no cluster yet")
                .next("add it with `chat-admin add-node NAME ADDRESS`, or ask another node"),
        })
    }
}
