//! What this node knows of its cluster, as the wire carries it.

use std::time::Duration;

use openraft::ServerState;

use super::{
    metrics::{self, REACHABLE, index_of},
    replica::Replica,
};
use crate::{
    client::fault_tolerance,
    raft::types::Metrics,
    types::NodeId,
    wire::cluster::{GetMembershipResponse, Node, Role},
};

/// The program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The answer of an empty node.
pub fn of_empty_node(name: &str) -> GetMembershipResponse {
    GetMembershipResponse { answered_by: name.to_owned(), version: VERSION.to_owned(), ..Default::default() }
}

/// The answer of a member.
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
        commit_index: index_of(metrics.cluster_committed.as_ref().or(metrics.local_committed.as_ref())),
        applied_index: index_of(metrics.last_applied.as_ref()),
        etag: metrics::etag(&metrics),
        joint: metrics::is_joint(&metrics),
        // Only a leader knows which nodes answer, so only a leader can say what the cluster survives.
        tolerance: (metrics.state == ServerState::Leader)
            .then(|| fault_tolerance(&replica.layout(&metrics, |_| REACHABLE).tolerance())),
        nodes,
        version: VERSION.to_owned(),
        has_quorum: replica.leadership.has_quorum(),
        log_time_ahead_ms: replica.clocks.log_time_ahead_ms().try_into().unwrap_or(i64::MAX),
    }
}

fn node(replica: &Replica, metrics: &Metrics, leader: Option<NodeId>, id: NodeId) -> Node {
    let stored = &metrics.membership_config;
    let member = stored.get_node(&id).cloned().unwrap_or_default();
    let itself = id == metrics.id;
    // In a joint membership: the old voters, then the new ones.
    let sets = stored.get_joint_config();
    let in_set = |which: usize| sets.len() > 1 && sets[which].contains(&id);
    let matched_index = match itself {
        true => metrics.last_log_index.unwrap_or(0),
        // What openraft believes of a node that has forgotten is what it held before.
        false => replica.disks.peers.lowered_match(id).unwrap_or(index_of(metrics::matched(metrics, id))),
    };
    let last_contact = if itself {
        Some(Duration::ZERO)
    } else if leader == Some(id) {
        replica.leader_contact.elapsed()
    } else {
        metrics::last_answer(metrics, id)
    };
    let condition = match itself {
        true => replica.disks.own.refusal_now().map(|fault| ("verifying", fault.message)),
        // A node that hears another leader does not speak with the peers: what it knows of them is old.
        false if leader.is_some_and(|leader| leader != metrics.id) => None,
        false => replica.disks.peers.condition(id).map(|condition| (condition.word, condition.reason)),
    };
    let (condition, condition_reason) = condition.unwrap_or_default();
    Node {
        node_id: id,
        name: member.name,
        address: member.address,
        zone: member.zone,
        role: if metrics::is_voter(metrics, id) { Role::Voter } else { Role::Learner }.into(),
        reachable: last_contact.is_some_and(|ago| ago <= REACHABLE),
        matched_index,
        last_contact: last_contact.and_then(|ago| ago.try_into().ok()),
        joining: in_set(1) && !in_set(0),
        leaving: in_set(0) && !in_set(1),
        condition: condition.to_owned(),
        condition_reason,
        version: if itself { VERSION.to_owned() } else { String::new() },
        clock_offset_ms: replica.clocks.offset_ms(id),
    }
}
