//! The background duties of a member.
//!
//! - Makes the state durable every second, so that a restart has little to replay.
//! - Watches consensus: tells of changes of leader and membership, finishes a joint configuration that a new leader
//!   finds, and takes the node out of service when its disk fails.
//! - Asks whether this node is still a member when it hears no leader: a removed node is never told by replication.

use std::{sync::Arc, time::Duration};

use openraft::{ServerState, async_runtime::WatchReceiver};

use super::{Exit, Node, identity, replica::Replica};
use crate::{
    raft::types::{ChangeMembers, Fatal, Metrics},
    types::NodeId,
    wire::{
        Address, Profile,
        raft::{CheckMemberRequest, join_service_client::JoinServiceClient},
    },
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
            if now.state == ServerState::Leader && now.membership_config.get_joint_config().len() > 1 {
                tokio::spawn(finish_joint(node.clone(), replica.clone()));
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
async fn finish_joint(node: Node, replica: Arc<Replica>) {
    // A change of this leader's own is joint for a moment as well: let it finish by itself.
    tokio::time::sleep(node.settings().config.election_timeout_max).await;
    let metrics = replica.leadership.metrics();
    let joint = metrics.membership_config.get_joint_config();
    let [_, target] = joint.as_slice() else { return };
    if metrics.state != ServerState::Leader {
        return;
    }
    tracing::warn!(voters = ?target, "finishing a membership change that its leader left half way");
    let change = ChangeMembers::ReplaceAllVoters(target.clone());
    if let Err(error) = replica.raft.change_membership(change, true).await {
        tracing::warn!(%error, "the membership change could not be finished; it is tried again when leadership changes");
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

/// Asks the other members whether this node still belongs, for as long as it hears no leader.
async fn ask(node: Node, replica: Arc<Replica>) {
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
        if is_removed(&node, &replica, &metrics).await {
            let dir = node.inner.dir.clone();
            let marked = node.settings().blocking.run(move || identity::mark_removed(&dir)).await;
            if let Err(error) = marked {
                tracing::error!(%error, "the removal could not be written down; it will be learned again");
            }
            let _ = replica.raft.shutdown().await;
            return node.give_up(Exit::Removed);
        }
    }
}

async fn is_removed(node: &Node, replica: &Replica, metrics: &Metrics) -> bool {
    let request = CheckMemberRequest {
        cluster_id: replica.identity.cluster_id.clone(),
        epoch: replica.identity.epoch,
        node_id: replica.identity.node_id,
    };
    let others = metrics.membership_config.nodes().filter(|(id, _)| **id != metrics.id);
    let asked = others.map(|(_, member)| {
        let (request, dialer) = (request.clone(), node.settings().dialer.clone());
        async move {
            let address = member.address.parse::<Address>().ok()?;
            let mut client = JoinServiceClient::new(dialer.channel(&address, Profile::Client));
            let answer = tokio::time::timeout(ASK * 2, client.check_member(request)).await.ok()?.ok()?;
            Some(answer.into_inner())
        }
    });
    let answers = futures::future::join_all(asked).await;
    // Only leaders answer, each after a quorum round, so one "no" is proof.
    answers.into_iter().flatten().any(|answer| !answer.member)
}
