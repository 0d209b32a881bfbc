//! The running parts of a node that belongs to a cluster.

use std::{sync::Arc, time::Duration};

use openraft::{Config, ServerState, SnapshotPolicy, StepDownPolicy, async_runtime::WatchReceiver};

use tokio::sync::Mutex;

use super::{
    hub::Hub,
    leadership::{LeaderContact, Leadership},
    metrics::{self, REACHABLE},
    proposer::Proposer,
    reads::Reader,
    stores::Stores,
};
use crate::{
    config::NodeConfig,
    fault_injection::{self, Bug},
    membership::Layout,
    node::{
        Identity, Settings,
        disk_record::{self, LOG},
    },
    raft::{
        Announcement, ClockView, Clocks, DiskChecks, Incarnation, LogStore, OwnDisk, PeerIdentity, PeerNetworkFactory,
        Raft, Serving, Stage, StateMachine, StateMeta, Transfers, ViewAtIndex, network::AddressBook, types::Metrics,
    },
    storage::{LogFile, StateSlot, StorageError},
    types::{NodeId, limits},
};

/// Why the stores or the consensus of a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// openraft refused its configuration or what the stores hold.
    #[error("consensus could not start: {0}")]
    Consensus(String),
}

/// A running member: one openraft instance, its stores, and everything that reads from or writes to it.
///
/// # Invariants
///
/// - All parts stand on the same `raft`, `log` and `slot`. They start in [`Replica::start`]; tasks end when the last
///   sender of their queue goes, or when the node no longer runs this replica.
/// - The identity is that of the start. `address` and `listen` on disk may be newer: `background` follows the
///   membership.
/// - Only openraft writes to `log` and `slot`, through its adapters. Others read views, and flush.
/// - Nothing here holds a lock across an `await`.
pub struct Replica {
    /// Which member of which cluster this is.
    pub identity: Identity,
    /// The consensus.
    pub raft: Raft,
    /// The state.
    pub slot: StateSlot,
    /// The log.
    pub log: LogFile,
    /// Who leads.
    pub leadership: Leadership,
    /// When a leader was last heard.
    pub leader_contact: LeaderContact,
    /// Writes.
    pub proposer: Proposer,
    /// Reads.
    pub reader: Reader,
    /// Snapshots on their way to peers.
    pub transfers: Transfers,
    /// Where peers are dialled.
    pub addresses: AddressBook,
    /// Views of the state at exact indexes.
    pub views: ViewAtIndex,
    /// This node's clock and what the others' clocks say.
    pub clocks: Clocks,
    /// Trust in the disks of this node and of the others.
    pub disks: DiskChecks,
    /// Held while this leader vouches for a node: one barrier at a time.
    pub vouching: Mutex<()>,
}

/// When a member may stand for election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elections {
    /// At once: it was just created or adopted, so nobody can have removed it.
    AtOnce,
    /// Not before it has asked the others: it was down, and its cluster may have removed it meanwhile.
    WhenAdmitted,
}

impl Replica {
    /// Starts consensus and the tasks around it.
    pub async fn start(
        identity: Identity,
        stores: Stores,
        start: disk_record::Start,
        settings: &Settings,
        hub: &Hub,
        elections: Elections,
    ) -> Result<Arc<Self>, ReplicaError> {
        let Stores { log, slot } = stores;
        check_vote(&log)?;
        let publish = hub.clone();
        let machine = StateMachine::new(slot.clone(), settings.blocking, move |changed| publish.publish(&changed))?;
        let (applied, views) = (machine.watch_applied(), machine.views());
        let peer_identity = PeerIdentity::from(&identity);
        let clocks = Clocks::new(identity.node_id, settings.clock.clone());
        let disks = disk_checks(&identity, &log, &slot, start, settings)?;
        let network = PeerNetworkFactory::new(
            peer_identity.clone(),
            settings.dialer.clone(),
            settings.blocking,
            clocks.clone(),
            disks.clone(),
        );
        let (transfers, addresses) = (network.transfers(), network.addresses());
        let mut config = raft_config(&identity.cluster_id, &settings.config)?;
        config.enable_elect = elections == Elections::AtOnce && disks.own.may_vote().is_ok();
        let raft = Raft::new(identity.node_id, Arc::new(config), network, LogStore::new(log.clone()), machine)
            .await
            .map_err(|error| ReplicaError::Consensus(error.to_string()))?;
        let metrics = raft.metrics();
        clocks.follow(move || clock_view(&metrics.borrow_watched()));
        let contact = LeaderContact::default();
        let timeout = settings.config.election_timeout_max * 2;
        let leadership = Leadership::new(raft.clone(), &identity, contact.clone(), timeout, disks.clone());
        let proposer = Proposer::start(raft.clone(), clocks.clone(), leadership.clone());
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
            leader_contact: contact,
            proposer,
            reader,
            transfers,
            addresses,
            views,
            clocks,
            disks,
            vouching: Mutex::default(),
        }))
    }

    /// The membership as fault-tolerance arithmetic takes it: see [`metrics::layout`]. A node whose disk is not trusted, or
    /// that takes no entries, carries nothing.
    pub fn layout(&self, metrics: &Metrics, recently: impl Fn(NodeId) -> Duration) -> Layout {
        let fit = |id| self.disks.peers.condition(id).is_none();
        metrics::layout(metrics, |id| if fit(id) { Some(recently(id)) } else { None })
    }

    /// Whether this node has its identity and nothing more. An empty log alone does not prove it: a log that was purged
    /// to its end is empty as well.
    pub fn is_pristine(&self) -> bool {
        self.log.bounds().is_none() && self.leadership.metrics().last_applied.is_none()
    }

    /// The parts that the service for peers needs.
    pub fn serving(&self, settings: &Settings) -> Serving {
        let (contact, leadership) = (self.leader_contact.clone(), self.leadership.clone());
        // openraft's own lease. A leader that has lost its quorum is silent for longer (`quorum_loss_probe_interval`).
        let lease = settings.config.election_timeout_max;
        Serving {
            identity: PeerIdentity::from(&self.identity),
            raft: self.raft.clone(),
            slot: self.slot.clone(),
            blocking: settings.blocking,
            disks: self.disks.clone(),
            on_leader_contact: Arc::new(move || contact.record()),
            clocks: self.clocks.clone(),
            leased_leader: Arc::new(move || leadership.leased_leader(lease)),
        }
    }

    /// The reachable voter that is furthest in the log, other than this node.
    pub fn best_successor(&self) -> Option<NodeId> {
        let metrics = self.leadership.metrics();
        metrics.replication.as_ref()?;
        let fit = |id: &NodeId| *id != metrics.id && self.disks.peers.condition(*id).is_none();
        let candidates = metrics.membership_config.voter_ids().filter(fit);
        let reachable = |id: &NodeId| metrics::last_answer(&metrics, *id).is_some_and(|ago| ago <= REACHABLE);
        candidates.filter(reachable).max_by_key(|id| metrics::matched(&metrics, *id).map(|id| id.index()))
    }

    /// Hands leadership over if this node has it, waits at most `timeout` for a successor, then stops consensus and
    /// makes log and state durable.
    pub async fn stop(&self, settings: &Settings, timeout: Duration) {
        if self.leadership.is_leader()
            && let Some(successor) = self.best_successor()
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
                tracing::warn!(successor, "no successor took over in time; stopping anyway");
            }
        }
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "consensus did not stop cleanly");
        }
        LogStore::new(self.log.clone()).save_peer_memory(&self.disks.peers);
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

/// Whose clocks count for a majority, and whether this node may ask them.
fn clock_view(metrics: &Metrics) -> ClockView {
    ClockView {
        leads: metrics.state == ServerState::Leader,
        voters: metrics.membership_config.get_joint_config().clone(),
    }
}

/// Refuses to run with a vote of a term without a next one, which versions that believed any peer could be made to store.
/// This node could neither be elected nor follow anybody.
fn check_vote(log: &LogFile) -> Result<(), ReplicaError> {
    let vote = LogStore::new(log.clone()).vote().map_err(|error| StorageError::io("the vote on disk", error))?;
    match vote.map(|vote| vote.leader_id().term).filter(|term| *term >= limits::TERM) {
        None => Ok(()),
        Some(term) => Err(ReplicaError::Consensus(format!(
            "the vote on disk is of term {term}, which no cluster reaches: a peer has forged it. If no node of the cluster \
             has a better one, `chat-node recover` resets it"
        ))),
    }
}

/// What this node starts with, as its stores have it, and what it remembers of the others.
fn disk_checks(
    identity: &Identity,
    log: &LogFile,
    slot: &StateSlot,
    start: disk_record::Start,
    settings: &Settings,
) -> Result<DiskChecks, ReplicaError> {
    let failed = |error: std::io::Error| StorageError::io(LOG, error);
    let log = LogStore::new(log.clone());
    let applied = StateMeta::read(&slot.current().view()?)?.applied;
    let said = Announcement {
        incarnation: Incarnation { start: start.number, random: u64::from_le_bytes(settings.entropy.bytes()) },
        recovered: start.recovered,
        stage: Stage::Trusted,
        term: log.vote().map_err(failed)?.map_or(0, |vote| vote.leader_id().term),
        last_log_id: log.bounds().map_err(failed)?.last_log_id.max(applied),
    };
    let own = OwnDisk::new(&identity.name, said, start.suspicion, start.trusted_by_operator);
    Ok(DiskChecks { own, peers: log.peer_memory().map_err(failed)? })
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
        // Bounds a message by count. The log reader bounds it by bytes: an entry holds up to 1 MiB.
        max_payload_entries: 256,
        // A node that cannot win must not disturb the others by raising their term (Ongaro's dissertation, section
        // 9.6).
        enable_pre_vote: Some(true),
        // A leader that lost its majority stops sending heartbeats for this long. Voters that still hear it, but that
        // another majority needs, can then elect. Must be at least the lease plus one election timeout.
        quorum_loss_probe_interval: Some(max * 2),
        // `change` transfers leadership before it removes a leader. This covers a removal that was under way when the
        // leader changed.
        removed_leader_step_down: StepDownPolicy::After(ms(config.heartbeat)),
        // A restored leader does not know how far its own term was committed. Until the others have acknowledged its
        // whole log, openraft would confirm reads at the first entry of the term, and those reads could miss acknowledged
        // writes. A newly elected leader appends a blank entry of its own, which comes after all of them.
        enable_leader_restore: Some(fault_injection::enabled(Bug::LeaderRestore)),
        // A follower whose log became shorter has lost data: that is damage, not something to repair silently.
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
