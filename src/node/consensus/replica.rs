//! The running parts of a node that belongs to a cluster.

use std::{sync::Arc, time::Duration};

use openraft::{Config, ServerState, SnapshotPolicy, StepDownPolicy, async_runtime::WatchReceiver};

use super::{
    Settings,
    hub::Hub,
    identity::{self, Identity},
    leadership::{Heard, Leadership},
    proposer::Proposer,
    reads::Reader,
    status,
};
use crate::{
    config::NodeConfig,
    fault_injection::{self, Bug},
    raft::{
        Cuts, LogStore, PeerNetworkFactory, Raft, Serving, StateMachine, StateMeta,
        network::{AddressBook, Transfers},
    },
    storage::{DataDir, LogFile, StateSlot, StorageError},
    types::NodeId,
};

pub(super) const LOG: &str = "log.redb";
const STATE: &str = "state.redb";

/// Why the stores or the consensus of a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// openraft refused what it found or was given.
    #[error("consensus could not start: {0}")]
    Consensus(String),
}

/// A member at work.
pub struct Replica {
    /// Who it is.
    pub identity: Identity,
    /// Its consensus.
    pub raft: Raft,
    /// Its state.
    pub slot: StateSlot,
    /// Its log.
    pub log: LogFile,
    /// Who leads.
    pub leadership: Leadership,
    /// When a leader was last heard.
    pub heard: Heard,
    /// Writes.
    pub proposer: Proposer,
    /// Reads.
    pub reader: Reader,
    /// Snapshots on their way to peers.
    pub transfers: Transfers,
    /// Where peers are dialled.
    pub addresses: AddressBook,
    /// Views of the state at exact indexes.
    pub cuts: Cuts,
}

/// Whether a member may stand for election from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elections {
    /// It has just been made or adopted: nobody can have removed it.
    AtOnce,
    /// It was down: it must first look for a leader who knows it to be removed.
    WhenAdmitted,
}

/// The stores of one directory, open.
pub struct Stores {
    /// The log.
    pub log: LogFile,
    /// The state.
    pub slot: StateSlot,
}

impl Stores {
    /// Opens both; with `fresh` they begin empty, else they must be there.
    pub fn open(dir: &DataDir, settings: &Settings, fresh: bool) -> Result<Self, StorageError> {
        let how = if fresh { crate::storage::Open::Fresh } else { crate::storage::Open::Existing };
        let log = LogFile::open(dir, LOG, how, settings.blocking)?;
        let slot = StateSlot::open(dir, STATE, how)?;
        let stores = Self { log, slot };
        if !fresh {
            stores.check_joint(dir)?;
        }
        Ok(stores)
    }

    /// The log is purged only as far as the state is durable. A state that ends before the log begins has lost what it
    /// had made durable, and nothing can make up for that here.
    fn check_joint(&self, dir: &DataDir) -> Result<(), StorageError> {
        let bounds = LogStore::new(self.log.clone()).bounds().map_err(|error| StorageError::io(LOG, error))?;
        let purged = bounds.last_purged_log_id.map_or(0, |id| id.index());
        let applied = StateMeta::read(&self.slot.current().view()?)?.applied.map_or(0, |id| id.index());
        if purged <= applied {
            return Ok(());
        }
        let detail = format!("it ends at log entry {applied}, but the log begins after entry {purged}");
        Err(StorageError::damaged(dir.path(STATE).display().to_string(), detail))
    }
}

impl Replica {
    /// Starts consensus and the tasks around it.
    pub async fn start(
        identity: Identity,
        stores: Stores,
        settings: &Settings,
        hub: &Hub,
        elections: Elections,
    ) -> Result<Arc<Self>, ReplicaError> {
        let Stores { log, slot } = stores;
        let publish = hub.clone();
        let machine = StateMachine::new(slot.clone(), settings.blocking, move |changed| publish.publish(&changed))?;
        let (applied, cuts) = (machine.watch_applied(), machine.cuts());
        let peer_identity = identity::for_peers(&identity);
        let network = PeerNetworkFactory::new(peer_identity.clone(), settings.dialer.clone(), settings.blocking);
        let (transfers, addresses) = (network.transfers(), network.addresses());
        let mut config = raft_config(&identity.cluster_id, &settings.config)?;
        config.enable_elect = elections == Elections::AtOnce;
        let raft = Raft::new(identity.node_id, Arc::new(config), network, LogStore::new(log.clone()), machine)
            .await
            .map_err(|error| ReplicaError::Consensus(error.to_string()))?;
        let heard = Heard::default();
        let timeout = settings.config.election_timeout_max * 2;
        let leadership = Leadership::new(raft.clone(), &identity.cluster_id, &identity.name, heard.clone(), timeout);
        let proposer = Proposer::start(raft.clone(), settings.clock.clone(), leadership.clone());
        let reader = Reader::start(
            raft.clone(),
            peer_identity,
            settings.dialer.clone(),
            leadership.clone(),
            applied,
            slot.clone(),
            settings.blocking,
        );
        Ok(Arc::new(Self {
            identity,
            raft,
            slot,
            log,
            leadership,
            heard,
            proposer,
            reader,
            transfers,
            addresses,
            cuts,
        }))
    }

    /// Whether this node has its identity and nothing more. An empty log alone does not say so: one that is compacted
    /// away as a whole is empty as well.
    pub fn is_pristine(&self) -> bool {
        self.log.bounds().is_none() && self.leadership.metrics().last_applied.is_none()
    }

    /// What the service for peers needs.
    pub fn serving(&self, settings: &Settings) -> Serving {
        let heard = self.heard.clone();
        Serving {
            identity: identity::for_peers(&self.identity),
            raft: self.raft.clone(),
            slot: self.slot.clone(),
            blocking: settings.blocking,
            heard: Arc::new(move || heard.now()),
        }
    }

    /// The voter that is furthest in the log and answers, other than this node and `except`.
    pub fn best_successor(&self, except: &[NodeId]) -> Option<NodeId> {
        let metrics = self.leadership.metrics();
        let replication = metrics.replication.as_ref()?;
        let candidates = metrics.membership_config.voter_ids().filter(|id| *id != metrics.id && !except.contains(id));
        let answers = |id: &NodeId| status::last_answer(&metrics, *id).is_some_and(|ago| ago <= status::REACHABLE);
        let alive = candidates.filter(answers);
        alive.max_by_key(|id| replication.get(id).and_then(|matched| matched.as_ref().map(|id| id.index())))
    }

    /// Hands leadership over if this node has it, waits for a successor at most `timeout`, then stops consensus and
    /// makes everything durable.
    pub async fn stop(&self, settings: &Settings, timeout: Duration) {
        if self.leadership.is_leader()
            && let Some(successor) = self.best_successor(&[])
            && self.raft.trigger().transfer_leader(successor).await.is_ok()
        {
            let mut metrics = self.raft.metrics();
            let handed_over = async {
                while metrics.borrow_watched().state == ServerState::Leader {
                    if metrics.changed().await.is_err() {
                        return;
                    }
                }
            };
            if tokio::time::timeout(timeout, handed_over).await.is_err() {
                tracing::warn!(successor, "no successor took over in time; stopping all the same");
            }
        }
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "consensus did not stop cleanly");
        }
        let (slot, log) = (self.slot.clone(), self.log.clone());
        let closing = settings.blocking.run(move || {
            log.close()?;
            slot.current().flush()
        });
        if let Err(error) = closing.await {
            tracing::error!(%error, "the state was not made durable; the log will replay it");
        }
    }
}

fn raft_config(cluster_id: &str, config: &NodeConfig) -> Result<Config, ReplicaError> {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (min, max) = (ms(config.election_timeout_min), ms(config.election_timeout_max));
    let config = Config {
        cluster_name: cluster_id.to_owned(),
        heartbeat_interval: ms(config.heartbeat),
        election_timeout_min: min,
        election_timeout_max: max,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot.entries),
        max_in_snapshot_log_to_keep: config.snapshot.keep,
        // Entries hold up to 1 MiB each; the reader bounds a message by bytes, this by count.
        max_payload_entries: 256,
        // A node that cannot win must not raise the term of those who do without it (Ongaro, section 9.6).
        enable_pre_vote: Some(true),
        // A leader that lost its majority falls silent for a while, so that voters who hear it but are needed by
        // another majority can elect. At least the lease plus one election timeout.
        quorum_loss_probe_interval: Some(max * 2),
        // The node transfers leadership before it removes a leader; this is for a removal that was under way when
        // the leader changed.
        removed_leader_step_down: StepDownPolicy::After(ms(config.heartbeat)),
        // A leader that is started again as such does not know how far its own term was committed: until the others have
        // answered for its whole log, openraft would confirm reads at the first entry of the term, so that they miss
        // what was acknowledged. A new election begins with an entry of its own, which comes after all of that.
        enable_leader_restore: Some(fault_injection::enabled(Bug::LeaderRestore)),
        // A log that went back is damage, not something to repair silently.
        allow_log_reversion: Some(false),
        ..Config::default()
    };
    config.validate().map_err(|error| ReplicaError::Consensus(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_leader_stands_for_election_before_it_confirms_reads() {
        let config = raft_config("q", &NodeConfig::defaults("d")).expect("sound");
        assert_eq!(config.enable_leader_restore, Some(false));
    }
}
