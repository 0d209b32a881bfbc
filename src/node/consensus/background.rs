//! The background tasks of a member.
//!
//! - `flush` makes the state durable every second, so that a restart replays little.
//! - `watch_metrics` follows consensus: it logs and announces changes of leader and membership, and takes the node out of
//!   service when its disk fails.
//! - `watch_readiness` says whether this node can serve clients.
//! - `finish_joint_change` completes a joint membership that an earlier leader left behind.
//! - `disk_watch` brings a node whose disk is not trusted back, and watches the peers' disks.
//! - `watch_membership` asks whether this node is still a member, before it stands for election after a start and
//!   whenever it hears no leader.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use openraft::{ServerState, async_runtime::WatchReceiver};
use tokio::time::Instant;

use super::{
    disk_watch,
    membership_check::{MembershipCheck, check_membership},
    metrics::index_of,
    replica::Replica,
};
use crate::{
    node::{Exit, Node, identity},
    raft::types::{ChangeMembers, LogId, Metrics, Precondition},
    storage,
    types::NodeId,
};

/// How often the state is made durable.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Poll interval of readiness and of joint memberships.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Poll interval of membership checks. One check may take twice as long.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A ready node is at most this many entries behind what it knows to be committed.
const READY_LAG: u64 = 1_000;

/// Starts all tasks. Each ends when the node no longer runs `replica`.
pub fn start(node: Node, replica: Arc<Replica>) {
    tokio::spawn(flush(node.clone(), replica.clone()));
    tokio::spawn(watch_metrics(node.clone(), replica.clone()));
    tokio::spawn(watch_readiness(node.clone(), replica.clone()));
    tokio::spawn(finish_joint_change(node.clone(), replica.clone()));
    tokio::spawn(disk_watch::watch_own_disk(node.clone(), replica.clone()));
    tokio::spawn(disk_watch::watch_peer_disks(node.clone(), replica.clone()));
    tokio::spawn(watch_membership(node, replica));
}

/// Makes the state durable, if anything was applied since the last time. A disk that fails here ends the node.
async fn flush(node: Node, replica: Arc<Replica>) {
    let mut flushed = 0;
    loop {
        tokio::time::sleep(FLUSH_INTERVAL).await;
        if !node.runs(&replica) {
            return;
        }
        let applied = index_of(replica.leadership.metrics().last_applied.as_ref());
        if applied == flushed {
            continue;
        }
        let slot = replica.slot.clone();
        match node.settings().blocking.run(move || slot.current().flush()).await {
            Ok(()) => flushed = applied,
            Err(error) => return node.give_up(Exit::from(&error)),
        }
    }
}

/// Follows openraft's metrics and announces each change once.
async fn watch_metrics(node: Node, replica: Arc<Replica>) {
    let mut metrics = replica.raft.metrics();
    let mut before: Option<Metrics> = None;
    loop {
        let now = metrics.borrow_watched().clone();
        if let Err(fatal) = &now.running_state {
            if let Some(exit) = Exit::from_fatal(fatal) {
                node.give_up(exit);
            }
            return;
        }
        if before.as_ref().is_none_or(|before| differs(before, &now)) {
            log_changes(before.as_ref(), &now);
            node.inner.changes.send_modify(|version| *version += 1);
            replica.addresses.note(now.membership_config.nodes().map(|(id, member)| (*id, member)));
            if let Err(error) = record_address(&node, &now).await {
                tracing::warn!(%error, "this node's new address could not be written down; the next change tries again");
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

/// Writes each change of role, leader and membership to the log.
fn log_changes(before: Option<&Metrics>, now: &Metrics) {
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

/// Writes the address that the membership lists for this node into its identity on disk.
///
/// `chat-node run` compares the two to learn whether it was started elsewhere. A completed move also updates the address
/// to listen on at the next start.
pub async fn record_address(node: &Node, metrics: &Metrics) -> storage::Result<()> {
    let Some(member) = metrics.membership_config.get_node(&metrics.id) else { return Ok(()) };
    let (dir, address, config) = (node.inner.dir.clone(), member.address.clone(), node.settings().config.clone());
    let _file = node.inner.identity_file.lock().await;
    let record = move || {
        let Some(known) = identity::read(&dir)? else { return Ok(()) };
        let updated = identity::with_address(known.clone(), &address, &config);
        if updated == known { Ok(()) } else { identity::write(&dir, &updated) }
    };
    node.settings().blocking.run(record).await
}

/// Keeps readiness up to date: this node hears a leader with a quorum and has applied nearly all that it knows to be
/// committed. Also announces a quorum that was lost or found again.
async fn watch_readiness(node: Node, replica: Arc<Replica>) {
    let mut had_quorum = false;
    while node.runs(&replica) {
        let has_quorum = replica.leadership.has_quorum();
        let metrics = replica.leadership.metrics();
        let lag = index_of(metrics.local_committed.as_ref()).saturating_sub(index_of(metrics.last_applied.as_ref()));
        let ready = has_quorum && lag <= READY_LAG;
        node.inner.ready.send_if_modified(|was| std::mem::replace(was, ready) != ready);
        if has_quorum != had_quorum {
            had_quorum = has_quorum;
            node.inner.changes.send_modify(|version| *version += 1);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// A joint membership that this leader sees: its term, where the membership stands in the log, and the newer voter set.
type JointChange = (u64, Option<LogId>, BTreeSet<NodeId>);

fn joint_change(metrics: &Metrics) -> Option<JointChange> {
    match metrics.membership_config.get_joint_config().as_slice() {
        [_, target] if metrics.state == ServerState::Leader => {
            Some((metrics.current_term, *metrics.membership_config.log_id(), target.clone()))
        }
        _ => None,
    }
}

/// Completes a membership change whose leader died between its two steps, by moving on to the newer voter set.
///
/// Nodes that leave the voter set stay as learners; the command that removed them, given again, removes them as well. A
/// change of this leader's own is joint for a moment, too. So this task acts only on a joint membership that has stood
/// for an election timeout, and then repeats until the membership is uniform or another node leads.
async fn finish_joint_change(node: Node, replica: Arc<Replica>) {
    let timeout = node.settings().config.election_timeout_max;
    let mut seen = None;
    let mut since = Instant::now();
    while node.runs(&replica) {
        tokio::time::sleep(POLL_INTERVAL).await;
        let now = joint_change(&replica.leadership.metrics());
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        let Some((term, based_on, target)) = seen.clone().filter(|_| since.elapsed() >= timeout) else { continue };
        tracing::warn!(term, voters = ?target, "finishing a membership change that an earlier leader left half done");
        let guard = [Precondition::LastMembershipLogId { last_membership_log_id: based_on }];
        let change = ChangeMembers::ReplaceAllVoters(target);
        let finishing = replica.raft.change_membership_if(change, true, guard);
        match tokio::time::timeout(timeout * 2, finishing).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the membership change is not finished yet; trying again"),
            Err(_) => tracing::warn!("the membership change is not finished yet: too few voters answer"),
        }
        since = Instant::now();
    }
}

/// Allows this node to stand for election once no leader says that it was removed, then asks again whenever it hears no
/// leader. A node that was removed stops.
async fn watch_membership(node: Node, replica: Arc<Replica>) {
    if check_after_start(&node, &replica).await == MembershipCheck::Removed {
        return stop_as_removed(&node, &replica).await;
    }
    // A node whose disk is not trusted stands only after `disk_watch` has seen it caught up.
    if replica.disks.own.may_vote().is_ok() {
        replica.raft.runtime_config().elect(true);
    }
    while node.runs(&replica) {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let metrics = replica.leadership.metrics();
        let listed = metrics.membership_config.get_node(&metrics.id).is_some();
        let hears_leader = replica.leadership.leader().is_some();
        // A new node hears its leader before it has received any membership.
        let knows_members = metrics.membership_config.nodes().next().is_some();
        if !knows_members || (hears_leader && (listed || metrics.state == ServerState::Leader)) {
            continue;
        }
        let check = check_membership(&node, &replica, &metrics, CHECK_INTERVAL * 2).await;
        if check == MembershipCheck::Removed {
            return stop_as_removed(&node, &replica).await;
        }
    }
}

/// Asks what a leader says of this node at its start.
///
/// The time is bounded: when all nodes start at once there is no leader to ask, and the check ends as `Unknown`, so that
/// an election can make one.
async fn check_after_start(node: &Node, replica: &Replica) -> MembershipCheck {
    let timeout = node.settings().config.election_timeout_max;
    let mut metrics = replica.raft.metrics();
    // The consensus task publishes its first metrics a moment after it has started.
    let known = async {
        loop {
            let now = metrics.borrow_watched().clone();
            if now.membership_config.nodes().next().is_some() || metrics.changed().await.is_err() {
                return now;
            }
        }
    };
    match tokio::time::timeout(timeout, known).await {
        Ok(metrics) => check_membership(node, replica, &metrics, timeout).await,
        Err(_) => MembershipCheck::Unknown,
    }
}

/// Records the removal, so that this data never starts a member again, and ends the node.
async fn stop_as_removed(node: &Node, replica: &Replica) {
    let dir = node.inner.dir.clone();
    let file = node.inner.identity_file.lock().await;
    let marked = node.settings().blocking.run(move || identity::mark_removed(&dir)).await;
    drop(file);
    if let Err(error) = marked {
        tracing::error!(%error, "the removal could not be written down; the next start will ask again");
    }
    let _ = replica.raft.shutdown().await;
    node.give_up(Exit::Removed);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        config::NodeConfig,
        node::{Settings, consensus::Stores, identity::as_member},
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
            let stores = Stores::open(&dir, &settings, &identity).unwrap();
            let applied = StateMeta::read(&stores.slot.current().view().unwrap()).unwrap().applied;
            let members = BTreeMap::from([(1, as_member(&identity)), (2, as_member(&identity))]);
            let joint = Membership::new(vec![[1].into(), [1].into()], members).unwrap();
            let log = LogStore::new(stores.log.clone());
            let at = log.next_id(applied, 1).unwrap();
            log.append_membership(1, joint, applied, at).unwrap();
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
