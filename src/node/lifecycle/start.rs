//! How a node comes up on its data directory.

use std::{
    sync::{Arc, OnceLock, RwLock},
    time::Duration,
};

use tokio::sync::{Mutex, watch};

use super::{StartError, join::inspect_remote, leftovers::refuse_leftovers};
use crate::{
    config::NodeConfig,
    node::{
        Identity, Inner, Node, Settings,
        consensus::{self, Elections, Hub, Replica, ReplicaError, Stores},
        disk_record, identity,
    },
    raft::PeerService,
    storage::DataDir,
};

/// How long the address that the cluster dials may take to answer whether this node runs there.
const TWIN_TIMEOUT: Duration = Duration::from_secs(1);

impl Node {
    /// The identity in the data directory of `config`, if it has one.
    pub async fn identity_of(config: &NodeConfig) -> Result<Option<Identity>, StartError> {
        let dir = DataDir::create_or_open(&config.data_dir)?;
        Ok(identity::read(&dir)?)
    }

    /// Starts a node on the data directory of `settings`: a member resumes, an empty node waits to be adopted.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let dir = DataDir::create_or_open(&settings.config.data_dir)?;
        Self::start_on(settings, dir).await
    }

    /// Like [`Node::start`], in a directory that the caller opened.
    pub async fn start_on(settings: Settings, dir: DataDir) -> Result<Self, StartError> {
        let node = Self::assemble(settings, dir.clone());
        let Some(identity) = identity::read(&dir)? else {
            refuse_leftovers(&dir, node.settings())?;
            return Ok(node);
        };
        if identity.removed {
            let Identity { name, node_id, cluster_id, .. } = identity;
            return Err(StartError::Removed { name, node_id, cluster_id });
        }
        refuse_contradictions(&identity, &node.settings().config)?;
        node.note_move(&identity);
        node.refuse_twin(&identity).await?;
        let stores = Stores::open(&dir, node.settings(), &identity)?;
        let older = identity.directory_id.is_empty();
        let identity = stores.take_over(&dir, node.settings(), identity)?;
        if older {
            disk_record::create(&dir, &identity)?;
        }
        let start = disk_record::begin(&dir, node.settings(), &identity)?;
        node.begin(identity, stores, start, Elections::WhenAdmitted).await?;
        Ok(node)
    }

    /// Logs a warning, and remembers the new address, if this member runs elsewhere than the membership says.
    ///
    /// Such a node can reach the others though they cannot reach it; the operator completes the move by `set-address`.
    fn note_move(&self, identity: &Identity) {
        if let Some(listen) = identity::unexplained_listen_address(identity, &self.settings().config) {
            tracing::warn!(
                known = identity.address,
                listen = %listen,
                "the cluster dials another port than this node listens on: unless a forwarder connects the two, start \
                 it with --listen HOST:PORT, where it is dialled"
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

    /// Refuses to be the second process of one node: a copy that was started at another address than the cluster dials
    /// asks there whether the node is running.
    async fn refuse_twin(&self, identity: &Identity) -> Result<(), StartError> {
        let (Some(here), Ok(there)) = (self.inner.moved_to.get(), identity.address.parse()) else { return Ok(()) };
        let asked = tokio::time::timeout(TWIN_TIMEOUT, inspect_remote(self, &there, Vec::new())).await;
        match asked {
            Ok(Ok(twin)) if twin.cluster_id == identity.cluster_id && twin.node_id == identity.node_id => {
                Err(StartError::AlreadyRunning { name: identity.name.clone(), there, here: here.clone() })
            }
            _ => Ok(()),
        }
    }

    /// A node of which nothing runs yet.
    pub(super) fn assemble(settings: Settings, dir: DataDir) -> Self {
        let inner = Inner {
            settings,
            dir,
            hub: Hub::default(),
            peers: PeerService::default(),
            replica: RwLock::new(None),
            identity_file: Mutex::new(()),
            pending_adoption: Default::default(),
            stopping: Default::default(),
            moved_to: OnceLock::new(),
            change_lock: Default::default(),
            ready_learners: Default::default(),
            exit: watch::Sender::new(None),
            changes: watch::Sender::new(0),
            ready: watch::Sender::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Starts consensus and the background duties under this identity.
    pub(super) async fn begin(
        &self,
        identity: Identity,
        stores: Stores,
        start: disk_record::Start,
        elections: Elections,
    ) -> Result<(), ReplicaError> {
        let replica = Replica::start(identity, stores, start, self.settings(), &self.inner.hub, elections).await?;
        self.inner.peers.serve(replica.serving(self.settings()));
        self.set_replica(Some(replica.clone()));
        consensus::start_background(self.clone(), replica.clone());
        consensus::start_clock_watch(self.clone(), replica.clone());
        consensus::start_chores(self.clone(), replica);
        self.inner.changes.send_modify(|version| *version += 1);
        Ok(())
    }
}

/// Refuses flags that name another node than the identity does.
///
/// Only the cluster changes the name and the zone of a member. It changes the address as well, but a node that has
/// moved must run before the cluster can be told, so another address is allowed: see [`Node::note_move`].
fn refuse_contradictions(identity: &Identity, config: &NodeConfig) -> Result<(), StartError> {
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
