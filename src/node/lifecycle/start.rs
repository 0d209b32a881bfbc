//! How a node comes up and goes down.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock, PoisonError, RwLock, atomic::Ordering},
    time::Duration,
};

use tokio::sync::{Mutex, watch};

use super::{
    Inner, Node, chores,
    hub::Hub,
    identity::{self, Identity},
    keeper,
    replica::{Elections, Replica, ReplicaError, Stores},
};
use crate::{
    config::NodeConfig,
    raft::{PeerService, types::Member},
    storage::{Blocking, DataDir, StorageError},
    types::{Clock, Entropy},
    wire::Dialer,
};

/// The first node of a cluster. Later ids come from the log.
pub(super) const FIRST: u64 = 1;
/// How long a stopping leader waits for a successor.
const HAND_OVER: Duration = Duration::from_millis(1_500);
/// How long a one-voter cluster may take to elect itself when it is made.
const BOOTSTRAP: Duration = Duration::from_secs(10);

/// What a node is made of: its configuration and the seams through which tests reach it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Checked settings.
    pub config: NodeConfig,
    /// Wall clock.
    pub clock: Clock,
    /// Randomness.
    pub entropy: Entropy,
    /// How connections are made.
    pub dialer: Dialer,
    /// Where blocking work runs.
    pub blocking: Blocking,
}

impl Settings {
    /// The real clock, randomness, network and threads.
    pub fn production(config: NodeConfig) -> Self {
        Self {
            config,
            clock: Clock::system(),
            entropy: Entropy::system(),
            dialer: Dialer::tcp(),
            blocking: Blocking::Pool,
        }
    }
}

/// Why a node stopped by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It was removed from its cluster.
    Removed,
    /// Its disk or state is broken: it answers no more, rather than wrongly.
    Quarantined(String),
    /// Its disk is full. What it has acknowledged is kept.
    DiskFull(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed => f.write_str("this node was removed from its cluster"),
            Self::Quarantined(why) => write!(f, "this node's disk or state is broken: {why}"),
            Self::DiskFull(why) => write!(f, "this node's disk is full: {why}"),
        }
    }
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Consensus.
    #[error("{0}")]
    Consensus(String),
    /// `init` wants an empty directory.
    #[error("the data directory is not empty")]
    NotEmpty,
    /// There are files, but no identity.
    #[error("the data directory holds files but no identity: it is not a node's, or its set-up was broken off")]
    NoIdentity,
    /// The cluster has removed this node.
    #[error("node {name} (id {node_id}) was removed from cluster {cluster_id}")]
    Removed {
        /// Its name.
        name: String,
        /// Its id.
        node_id: u64,
        /// The cluster.
        cluster_id: String,
    },
    /// A backup that cannot be used.
    #[error("the backup {0}")]
    Backup(String),
    /// A recovery that would tear a working cluster apart.
    #[error("cluster {cluster_id} has a quorum: {leader} leads it, says the node at {address}")]
    Lives {
        /// The cluster.
        cluster_id: String,
        /// Who leads it.
        leader: String,
        /// Who says so.
        address: String,
    },
    /// A data directory that a recovery cannot use.
    #[error("{0}")]
    Unusable(String),
    /// Flags that contradict the identity.
    #[error("this node is known as {known}, but was started with {given}")]
    Contradiction {
        /// From its identity.
        known: String,
        /// From its settings.
        given: String,
    },
    /// A setting without which it cannot start.
    #[error("{0} is not given")]
    Missing(&'static str),
}

impl From<ReplicaError> for StartError {
    fn from(error: ReplicaError) -> Self {
        match error {
            ReplicaError::Storage(error) => Self::Storage(error),
            ReplicaError::Consensus(error) => Self::Consensus(error),
        }
    }
}

impl Node {
    /// Makes a one-voter cluster in the empty data directory of `settings`, and stops again.
    pub async fn init(settings: Settings) -> Result<Identity, StartError> {
        let dir = DataDir::create_or_open(&settings.config.data_dir)?;
        Self::init_on(settings, dir).await
    }

    /// The same on a directory of the caller's own.
    pub async fn init_on(settings: Settings, dir: DataDir) -> Result<Identity, StartError> {
        if !dir.is_empty()? {
            return Err(StartError::NotEmpty);
        }
        let identity = first_identity(&settings)?;
        let stores = Stores::open(&dir, &settings, true)?;
        let node = Self::assemble(settings, dir.clone());
        let replica =
            Replica::start(identity.clone(), stores, node.settings(), &node.inner.hub, Elections::AtOnce).await?;
        let members = BTreeMap::from([(FIRST, member(&identity))]);
        let failed = |error: &dyn fmt::Display| StartError::Consensus(format!("the cluster was not made: {error}"));
        replica.raft.initialize(members).await.map_err(|error| failed(&error))?;
        let led = replica.raft.wait(Some(BOOTSTRAP)).applied_index_at_least(Some(1), "the first node leads").await;
        led.map_err(|error| failed(&error))?;
        replica.stop(node.settings(), Duration::ZERO).await;
        // Last, for an identity promises that the rest is there: a broken-off init is told apart by its absence.
        identity::write(&dir, &identity)?;
        Ok(identity)
    }

    /// The identity in the data directory of `config`, if it has one.
    pub async fn identity_of(config: &NodeConfig) -> Result<Option<Identity>, StartError> {
        let dir = DataDir::create_or_open(&config.data_dir)?;
        Ok(identity::read(&dir)?)
    }

    /// Starts a node on the data directory of `settings`: a member goes on, an empty one waits to be adopted.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let dir = DataDir::create_or_open(&settings.config.data_dir)?;
        Self::start_on(settings, dir).await
    }

    /// The same on a directory of the caller's own.
    pub async fn start_on(settings: Settings, dir: DataDir) -> Result<Self, StartError> {
        let node = Self::assemble(settings, dir.clone());
        let Some(identity) = identity::read(&dir)? else {
            node.refuse_leftovers()?;
            return Ok(node);
        };
        if identity.removed {
            let Identity { name, node_id, cluster_id, .. } = identity;
            return Err(StartError::Removed { name, node_id, cluster_id });
        }
        contradictions(&identity, &node.settings().config)?;
        node.note_move(&identity);
        let stores = Stores::open(&dir, node.settings(), false)?;
        node.begin(identity, stores, Elections::WhenAdmitted).await?;
        Ok(node)
    }

    /// A member may be started on another address than its cluster knows: it can reach the others, and the operator
    /// completes the move.
    fn note_move(&self, identity: &Identity) {
        if let Some(listen) = identity::listens_elsewhere(identity, &self.settings().config) {
            tracing::warn!(
                known = identity.address,
                listen = %listen,
                "the cluster dials another port than this node listens on: unless something forwards the one to the \
                 other, start it with --listen HOST:PORT, where it is dialled"
            );
        }
        let advertise = self.settings().config.advertise.clone();
        let Some(advertise) = advertise.filter(|advertise| advertise.as_str() != identity.address) else { return };
        tracing::warn!(
            known = identity.address,
            started_at = %advertise,
            "the cluster dials another address: complete the move with `chat-admin -e {advertise} set-address {} \
             {advertise}`",
            identity.name
        );
        let _ = self.inner.moved_to.set(advertise);
    }

    fn assemble(settings: Settings, dir: DataDir) -> Self {
        let inner = Inner {
            settings,
            dir,
            hub: Hub::default(),
            peers: PeerService::default(),
            replica: RwLock::new(None),
            identity_file: Mutex::new(()),
            adopting: Default::default(),
            stopping: Default::default(),
            moved_to: OnceLock::new(),
            busy: Default::default(),
            ready_learners: Default::default(),
            exit: watch::Sender::new(None),
            changes: watch::Sender::new(0),
            ready: watch::Sender::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// An adoption that was broken off leaves stores without an identity: nobody counts on them. Anything else in the
    /// directory is not ours to touch.
    fn refuse_leftovers(&self) -> Result<(), StartError> {
        let ours = |name: &String| name.starts_with("log.redb") || name.starts_with("state.redb");
        match self.inner.dir.disks().list()?.iter().all(ours) {
            true => Ok(()),
            false => Err(StartError::NoIdentity),
        }
    }

    /// Starts consensus and the background duties under this identity.
    pub(super) async fn begin(
        &self,
        identity: Identity,
        stores: Stores,
        elections: Elections,
    ) -> Result<(), ReplicaError> {
        let replica = Replica::start(identity, stores, self.settings(), &self.inner.hub, elections).await?;
        self.inner.peers.serve(replica.serving(self.settings()));
        *self.inner.replica.write().unwrap_or_else(PoisonError::into_inner) = Some(replica.clone());
        keeper::start(self.clone(), replica.clone());
        chores::start(self.clone(), replica);
        self.inner.changes.send_modify(|version| *version += 1);
        Ok(())
    }

    /// Waits until the node stops by itself, and says why.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.inner.exit.subscribe();
        // The sender lives in `self`, so the wait ends with a value.
        let left = exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
        match left {
            Some(exit) => exit,
            None => std::future::pending().await,
        }
    }

    /// Ends this member's part: it answers no peer and no client any more.
    pub(super) fn give_up(&self, why: Exit) {
        self.inner.peers.stop();
        *self.inner.replica.write().unwrap_or_else(PoisonError::into_inner) = None;
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

    /// Ends all subscriptions and takes no new ones: the first step of stopping.
    pub fn close_subscriptions(&self) {
        self.inner.hub.close();
        self.inner.ready.send_replace(false);
    }

    /// Stops: hands leadership over, stops consensus, makes everything durable. Bounded by a few seconds.
    pub async fn stop(&self) {
        self.close_subscriptions();
        self.inner.stopping.store(true, Ordering::SeqCst);
        // An adoption that is under way ends first, so that what it starts is stopped with the rest.
        drop(self.inner.identity_file.lock().await);
        let replica = self.inner.replica.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(replica) = replica {
            // A move that was completed a moment ago may not be written down yet.
            if let Err(error) = keeper::follow_address(self, &replica.leadership.metrics()).await {
                tracing::warn!(%error, "this node's address could not be written down; it is tried at the next start");
            }
            replica.stop(self.settings(), HAND_OVER).await;
            self.inner.peers.stop();
            *self.inner.replica.write().unwrap_or_else(PoisonError::into_inner) = None;
            tracing::info!(node = replica.identity.node_id, "stopped");
        }
    }
}

pub(super) fn first_identity(settings: &Settings) -> Result<Identity, StartError> {
    let config = &settings.config;
    let listen = config.listen.as_ref().ok_or(StartError::Missing("--listen HOST:PORT"))?;
    let advertise = config.advertise.as_ref().unwrap_or(listen);
    let name = config.name.as_ref().ok_or(StartError::Missing("--name NAME"))?;
    let id = uuid::Builder::from_random_bytes(settings.entropy.bytes()).into_uuid();
    Ok(Identity {
        cluster_id: id.to_string(),
        epoch: 1,
        node_id: FIRST,
        name: name.to_string(),
        address: advertise.to_string(),
        zone: config.zone.as_ref().map(ToString::to_string).unwrap_or_default(),
        removed: false,
        create_time_ms: settings.clock.now_ms(),
        listen: listen.to_string(),
    })
}

/// The node as the membership carries it.
pub(super) fn member(identity: &Identity) -> Member {
    Member { name: identity.name.clone(), address: identity.address.clone(), zone: identity.zone.clone() }
}

/// Name and zone of a member are the cluster's to change, not a flag's. So is its address, but a node that has moved
/// must run before the cluster can be told: see [`Node::note_move`].
fn contradictions(identity: &Identity, config: &NodeConfig) -> Result<(), StartError> {
    let given = [
        ("name", &identity.name, config.name.as_ref().map(ToString::to_string)),
        ("zone", &identity.zone, config.zone.as_ref().map(ToString::to_string)),
    ];
    for (what, known, given) in given {
        if let Some(given) = given.filter(|given| given != known) {
            let (known, given) = (format!("{what} {known}"), format!("--{what} {given}"));
            return Err(StartError::Contradiction { known, given });
        }
    }
    Ok(())
}
