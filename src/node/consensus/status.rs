//! What this node knows of its cluster, in the words of the wire.

use std::time::Duration;

use openraft::{Instant as _, ServerState};

use super::replica::Replica;
use crate::{
    client::fault_tolerance,
    membership::{Layout, Node as LayoutNode},
    raft::types::{LogId, Metrics},
    types::NodeId,
    wire::cluster::{GetMembershipResponse, Node, Role},
};

/// The program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A leader counts a node as reachable when it answered this lately.
pub const REACHABLE: Duration = Duration::from_secs(2);

/// What an empty node answers.
pub fn of_empty_node(name: &str) -> GetMembershipResponse {
    GetMembershipResponse { answered_by: name.to_owned(), version: VERSION.to_owned(), ..Default::default() }
}

/// What a member answers.
pub fn of_member(replica: &Replica) -> GetMembershipResponse {
    let metrics = replica.leadership.metrics();
    let leader = replica.leadership.leader();
    let stored = &metrics.membership_config;
    let member = leader.and_then(|id| stored.get_node(&id));
    let nodes: Vec<Node> = stored.nodes().map(|(id, _)| node(replica, &metrics, leader, *id)).collect();
    GetMembershipResponse {
        cluster_id: replica.identity.cluster_id.clone(),
        answered_by: replica.identity.name.clone(),
        answered_by_id: replica.identity.node_id,
        leader_id: leader.unwrap_or(0),
        leader_address: member.map(|member| member.address.clone()).unwrap_or_default(),
        term: metrics.current_term,
        commit_index: index(metrics.cluster_committed.as_ref().or(metrics.local_committed.as_ref())),
        applied_index: index(metrics.last_applied.as_ref()),
        etag: etag(&metrics),
        joint: stored.get_joint_config().len() > 1,
        // Only a leader knows who answers, and so what the cluster survives from here.
        tolerance: (metrics.state == ServerState::Leader)
            .then(|| fault_tolerance(&layout(&metrics, |_| REACHABLE).tolerance())),
        nodes,
        version: VERSION.to_owned(),
        has_quorum: replica.leadership.has_quorum(),
    }
}

fn index(id: Option<&LogId>) -> u64 {
    id.map_or(0, |id| id.index())
}

fn node(replica: &Replica, metrics: &Metrics, leader: Option<NodeId>, id: NodeId) -> Node {
    let stored = &metrics.membership_config;
    let member = stored.get_node(&id).cloned().unwrap_or_default();
    let itself = id == metrics.id;
    // While a change is under way: the old voters, then the new.
    let sets = stored.get_joint_config();
    let in_set = |which: usize| sets.len() > 1 && sets[which].contains(&id);
    let role = if stored.voter_ids().any(|voter| voter == id) { Role::Voter } else { Role::Learner };
    let matched = match (&metrics.replication, itself) {
        (_, true) => metrics.last_log_index.unwrap_or(0),
        (Some(replication), false) => index(replication.get(&id).and_then(Option::as_ref)),
        (None, false) => 0,
    };
    let last_contact = if itself {
        Some(Duration::ZERO)
    } else if leader == Some(id) {
        replica.heard.elapsed()
    } else {
        last_answer(metrics, id)
    };
    Node {
        node_id: id,
        name: member.name,
        address: member.address,
        zone: member.zone,
        role: role.into(),
        reachable: last_contact.is_some_and(|ago| ago <= REACHABLE),
        matched_index: matched,
        last_contact: last_contact.and_then(|ago| ago.try_into().ok()),
        joining: in_set(1) && !in_set(0),
        leaving: in_set(0) && !in_set(1),
        version: if itself { VERSION.to_owned() } else { String::new() },
    }
}

/// How long ago a node last answered this leader.
pub fn last_answer(metrics: &Metrics, id: NodeId) -> Option<Duration> {
    metrics.heartbeat.as_ref()?.get(&id)?.as_ref().map(|at| at.elapsed())
}

/// Names this version of the membership, to guard a change by.
pub fn etag(metrics: &Metrics) -> String {
    match metrics.membership_config.log_id() {
        Some(id) => format!("{}-{}", id.committed_leader_id().term, id.index()),
        None => String::new(),
    }
}

/// The membership as the arithmetic of fault tolerance takes it; healthy are those that answered this leader as lately
/// as `lately` asks of them.
pub fn layout(metrics: &Metrics, lately: impl Fn(NodeId) -> Duration) -> Layout {
    let stored = &metrics.membership_config;
    let nodes = stored.nodes().map(|(id, member)| LayoutNode {
        id: *id,
        name: member.name.clone(),
        zone: member.zone.clone(),
        healthy: *id == metrics.id || last_answer(metrics, *id).is_some_and(|ago| ago <= lately(*id)),
    });
    match stored.get_joint_config().as_slice() {
        [old, new] => Layout::joint(nodes, old.iter().copied(), new.iter().copied()),
        [voters] => Layout::new(nodes, voters.iter().copied()),
        _ => Layout::new(nodes, []),
    }
}
