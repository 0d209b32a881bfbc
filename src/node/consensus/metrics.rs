//! Questions about openraft's metrics, which are a snapshot of what the consensus task knows.

use std::time::Duration;

use openraft::Instant as _;

use crate::{
    membership::{Layout, Node},
    raft::types::{LogId, Metrics},
    types::NodeId,
};

/// A leader reports a node as reachable if it answered within this time.
pub const REACHABLE: Duration = Duration::from_secs(2);

/// The index of `id`; 0 for none.
pub fn index_of(id: Option<&LogId>) -> u64 {
    id.map_or(0, |id| id.index())
}

/// How long ago a node last answered this leader; `None` if it never did, or if this node does not lead.
pub fn last_answer(metrics: &Metrics, id: NodeId) -> Option<Duration> {
    metrics.heartbeat.as_ref()?.get(&id)?.as_ref().map(|at| at.elapsed())
}

/// The last log id that a node is known to hold; `None` if this node does not lead.
pub fn matched(metrics: &Metrics, id: NodeId) -> Option<&LogId> {
    metrics.replication.as_ref()?.get(&id)?.as_ref()
}

/// Whether the node `id` votes, in the old or in the new set of a joint membership.
pub fn is_voter(metrics: &Metrics, id: NodeId) -> bool {
    metrics.membership_config.voter_ids().any(|voter| voter == id)
}

/// Whether a membership change is between its two steps: the old and the new voters must both agree then.
pub fn is_joint(metrics: &Metrics) -> bool {
    metrics.membership_config.get_joint_config().len() > 1
}

/// Names this version of the membership. A change can be made conditional on it.
pub fn etag(metrics: &Metrics) -> String {
    match metrics.membership_config.log_id() {
        Some(id) => format!("{}-{}", id.committed_leader_id().term, id.index()),
        None => String::new(),
    }
}

/// The membership as fault-tolerance arithmetic takes it.
///
/// A node counts as healthy if it answered this leader within `recently(id)`; never if that is `None`. The leader itself is
/// always healthy.
pub fn layout(metrics: &Metrics, recently: impl Fn(NodeId) -> Option<Duration>) -> Layout {
    let stored = &metrics.membership_config;
    let nodes = stored.nodes().map(|(id, member)| Node {
        id: *id,
        name: member.name.clone(),
        zone: member.zone.clone(),
        healthy: *id == metrics.id
            || last_answer(metrics, *id).zip(recently(*id)).is_some_and(|(ago, recently)| ago <= recently),
    });
    match stored.get_joint_config().as_slice() {
        [old, new] => Layout::joint(nodes, old.iter().copied(), new.iter().copied()),
        [voters] => Layout::new(nodes, voters.iter().copied()),
        _ => Layout::new(nodes, []),
    }
}
