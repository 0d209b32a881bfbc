//! The background duties of a member.
//!
//! - Makes the state durable every second, so that a restart has little to replay.
//! - Watches consensus: tells of changes of leader and membership, finishes a joint configuration that a new leader
//!   finds, and takes the node out of service when its disk fails.
//! - Asks whether this node is still a member, before it stands for election after a start and whenever it hears no
//!   leader: a removed node is never told by replication.

use std::{sync::Arc, time::Duration};

use openraft::{ServerState, async_runtime::WatchReceiver};

use tokio::time::Instant;

use super::{
    Exit, Node, identity,
    replica::Replica,
    standing::{Standing, standing},
};
use crate::{
    raft::types::{ChangeMembers, Fatal, Metrics, Precondition},
    types::NodeId,
};

const FLUSH: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(100);
const ASK: Duration = Duration::from_secs(1);
/// Entries that a ready node may be behind what it knows to be committed.
const READY_LAG: u64 = 1_000;

/// Starts them all; each ends when the node stops.
pub fn start(node: Node, replica: Arc<Replica>) {
    tokio::spawn(flush(node.clone(), replica.clone()));
    tokio::spawn(watch(node.clone(), replica.clone()));
    tokio::spawn(look(node.clone(), replica.clone()));
    tokio::spawn(finish_joint(node.clone(), replica.clone()));
    tokio::spawn(ask(node, replica));
}

/// Whether the node still runs this member.
fn serves(node: &Node, replica: &Arc<Replica>) -> bool {
    node.replica().is_ok_and(|current| Arc::ptr_eq(&current, replica))
}

async fn flush(node: Node, replica: Arc<Replica>) {
    let mut flushed = 0;
    loop {
        tokio::time::sleep(FLUSH).await;
        if !serves(&node, &replica) {
            return;
        }
        let applied = replica.leadership.metrics().last_applied.map_or(0, |id| id.index());
        if applied == flushed {
            continue;
        }
        let slot = replica.slot.clone();
        match node.settings().blocking.run(move || slot.current().flush()).await {
            Ok(()) => flushed = applied,
            Err(error) => return node.give_up(exit_of(&error)),
        }
    }
}

fn exit_of(error: &crate::storage::StorageError) -> Exit {
    match error {
        crate::storage::StorageError::DiskFull { .. } => Exit::DiskFull(error.to_string()),
        _ => Exit::Quarantined(error.to_string()),
    }
}

/// Follows openraft's metrics: tells of changes, once each.
async fn watch(node: Node, replica: Arc<Replica>) {
    let mut metrics = replica.raft.metrics();
    let mut before: Option<Metrics> = None;
    loop {
        let now = metrics.borrow_watched().clone();
        if let Err(fatal) = &now.running_state {
            if let Some(exit) = fatal_exit(fatal) {
                node.give_up(exit);
            }
            return;
        }
        if before.as_ref().is_none_or(|before| differs(before, &now)) {
            tell(before.as_ref(), &now);
            node.inner.changes.send_modify(|version| *version += 1);
            replica.addresses.note(now.membership_config.nodes().map(|(id, member)| (*id, member)));
            if let Err(error) = follow_address(&node, &now).await {
                tracing::warn!(%error, "this node's new address could not be written down; it is tried at the next change");
            }
        }
        before = Some(now);
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

fn differs(a: &Metrics, b: &Metrics) -> bool {
    a.state != b.state
        || a.current_leader != b.current_leader
        || a.current_term != b.current_term
        || a.membership_config != b.membership_config
}

fn tell(before: Option<&Metrics>, now: &Metrics) {
    let (node, term, index) = (now.id, now.current_term, now.last_log_index);
    if before.is_none_or(|before| before.state != now.state) {
        tracing::info!(node, term, index, role = ?now.state, "role");
    }
    if before.is_none_or(|before| before.current_leader != now.current_leader) {
        tracing::info!(node, term, index, leader = now.current_leader, "leader");
    }
    if before.is_none_or(|before| before.membership_config != now.membership_config) {
        let voters: Vec<Vec<NodeId>> =
            now.membership_config.get_joint_config().iter().map(|set| set.iter().copied().collect()).collect();
        let learners: Vec<NodeId> = now.membership_config.membership().learner_ids().collect();
        tracing::info!(node, term, index, ?voters, ?learners, "membership");
    }
}

fn fatal_exit(fatal: &Fatal) -> Option<Exit> {
    match fatal {
        Fatal::Stopped => None,
        Fatal::Panicked => Some(Exit::Quarantined("consensus panicked; see the log above".to_owned())),
        Fatal::StorageError(error) => {
            let text = error.to_string();
            let full = text.contains("the disk is full");
            Some(if full { Exit::DiskFull(text) } else { Exit::Quarantined(text) })
        }
    }
}

/// A change whose leader died between its two steps is completed by the next leader: it takes the newer voter set. The
/// nodes that leave it stay as learners; the command that removed them, given again, finishes that too.
///
/// A change of this leader's own is joint for a moment as well, so a joint membership is touched only when it has stood
/// for a while, and then again and again until it is uniform or somebody else leads.
async fn finish_joint(node: Node, replica: Arc<Replica>) {
    let timeout = node.settings().config.election_timeout_max;
    let mut seen = None;
    let mut since = Instant::now();
    while serves(&node, &replica) {
        tokio::time::sleep(LOOK).await;
        let metrics = replica.leadership.metrics();
        let joint = metrics.membership_config.get_joint_config();
        let now = match joint.as_slice() {
            [_, target] if metrics.state == ServerState::Leader => {
                Some((metrics.current_term, *metrics.membership_config.log_id(), target.clone()))
            }
            _ => None,
        };
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        let Some((term, based_on, target)) = seen.clone().filter(|_| since.elapsed() >= timeout) else { continue };
        tracing::warn!(term, voters = ?target, "finishing a membership change that its leader left half way");
        let guard = [Precondition::LastMembershipLogId { last_membership_log_id: based_on }];
        let change = ChangeMembers::ReplaceAllVoters(target);
        let finishing = replica.raft.change_membership_if(change, true, guard);
        match tokio::time::timeout(timeout * 2, finishing).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the membership change is not finished yet; it is tried again"),
            Err(_) => tracing::warn!("the membership change is not finished yet: too few voters answer"),
        }
        since = Instant::now();
    }
}

/// Keeps readiness up to date.
async fn look(node: Node, replica: Arc<Replica>) {
    let mut had_quorum = false;
    while serves(&node, &replica) {
        let has_quorum = replica.leadership.has_quorum();
        let metrics = replica.leadership.metrics();
        let index = |id: &Option<_>| id.as_ref().map_or(0, openraft::LogId::index);
        let lag = index(&metrics.local_committed).saturating_sub(index(&metrics.last_applied));
        let ready = has_quorum && lag <= READY_LAG;
        node.inner.ready.send_if_modified(|was| std::mem::replace(was, ready) != ready);
        if has_quorum != had_quorum {
            had_quorum = has_quorum;
            node.inner.changes.send_modify(|version| *version += 1);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Lets this node stand for election once no leader says that it was removed, then asks again for as long as it hears
/// no leader.
async fn ask(node: Node, replica: Arc<Replica>) {
    if admit(&node, &replica).await == Standing::Removed {
        return removed(&node, &replica).await;
    }
    replica.raft.runtime_config().elect(true);
    while serves(&node, &replica) {
        tokio::time::sleep(ASK).await;
        let metrics = replica.leadership.metrics();
        let listed = metrics.membership_config.get_node(&metrics.id).is_some();
        let hears_leader = replica.leadership.leader().is_some();
        // A fresh node has no membership in its log yet and hears its leader before it does.
        let knows_members = metrics.membership_config.nodes().next().is_some();
        if !knows_members || (hears_leader && (listed || metrics.state == ServerState::Leader)) {
            continue;
        }
        if standing(&node, &replica, &metrics, ASK * 2).await == Standing::Removed {
            return removed(&node, &replica).await;
        }
    }
}

/// What a leader says of this node at its start. Bounded: with nobody to ask, as when all start at once, the node goes
/// on without an answer, and an election finds the leader that there was not.
async fn admit(node: &Node, replica: &Replica) -> Standing {
    let timeout = node.settings().config.election_timeout_max;
    let mut metrics = replica.raft.metrics();
    // The first metrics come from the consensus task, a moment after it has started.
    let known = async {
        loop {
            let now = metrics.borrow_watched().clone();
            if now.membership_config.nodes().next().is_some() || metrics.changed().await.is_err() {
                return now;
            }
        }
    };
    match tokio::time::timeout(timeout, known).await {
        Ok(metrics) => standing(node, replica, &metrics, timeout).await,
        Err(_) => Standing::Unknown,
    }
}

async fn removed(node: &Node, replica: &Replica) {
    let dir = node.inner.dir.clone();
    let changing = node.inner.identity_file.lock().await;
    let marked = node.settings().blocking.run(move || identity::mark_removed(&dir)).await;
    drop(changing);
    if let Err(error) = marked {
        tracing::error!(%error, "the removal could not be written down; it will be learned again");
    }
    let _ = replica.raft.shutdown().await;
    node.give_up(Exit::Removed);
}

/// The identity's address is the membership's: `chat-node run` knows by it whether it was started elsewhere, and by where
/// the node listens what to listen on next time.
pub async fn follow_address(node: &Node, metrics: &Metrics) -> crate::storage::Result<()> {
    let Some(member) = metrics.membership_config.get_node(&metrics.id) else { return Ok(()) };
    let (dir, address, config) = (node.inner.dir.clone(), member.address.clone(), node.settings().config.clone());
    let _changing = node.inner.identity_file.lock().await;
    let follow = move || {
        let Some(known) = identity::read(&dir)? else { return Ok(()) };
        let followed = identity::following(known.clone(), &address, &config);
        if followed == known { Ok(()) } else { identity::write(&dir, &followed) }
    };
    node.settings().blocking.run(follow).await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        config::NodeConfig,
        node::{
            replica::Stores,
            start::{Settings, member},
        },
        raft::{LogStore, StateMeta, types::Membership},
        storage::DataDir,
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_leader_finishes_the_joint_membership_that_it_finds() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = NodeConfig::defaults(folder.path().join("data"));
        config.name = Some(crate::types::NodeName::new("n1").unwrap());
        config.listen = Some("127.0.0.1:1".parse().unwrap());
        let settings = Settings::production(config);
        let identity = Node::init(settings.clone()).await.unwrap();
        {
            let dir = DataDir::open(&settings.config.data_dir).unwrap();
            let stores = Stores::open(&dir, &settings, false).unwrap();
            let applied = StateMeta::read(&stores.slot.current().view().unwrap()).unwrap().applied;
            let members = BTreeMap::from([(1, member(&identity)), (2, member(&identity))]);
            let joint = Membership::new(vec![[1].into(), [1].into()], members).unwrap();
            LogStore::new(stores.log.clone()).append_membership(1, joint, applied, 0).unwrap();
            stores.log.close().unwrap();
        }
        let node = Node::start(settings).await.unwrap();
        let mut metrics = node.replica().unwrap().raft.metrics();
        let uniform = async {
            let mut was_joint = false;
            loop {
                let now = metrics.borrow_watched().clone();
                let sets = now.committed_membership_config.get_joint_config().len();
                was_joint |= now.membership_config.get_joint_config().len() == 2;
                // The initial membership is committed and uniform as well: the effective one must be uniform again.
                if was_joint && sets == 1 && now.membership_config.get_joint_config().len() == 1 {
                    return now;
                }
                metrics.changed().await.expect("it runs");
            }
        };
        let now = tokio::time::timeout(Duration::from_secs(20), uniform).await.expect("finished");
        assert_eq!(now.state, ServerState::Leader);
        node.stop().await;
    }
}
