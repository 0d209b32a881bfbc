//! Converts the membership of the wire into the [`Layout`] that computes fault tolerance.

use crate::{
    membership::{Layout, Node},
    types::{NodeId, limits},
    wire::cluster::{self, Role},
};

/// The layout of `membership`. `healthy` tells which nodes answer.
///
/// During a joint change there are two voter sets: the old one is all voters but those `joining`, the new one all but
/// those `leaving`.
pub(super) fn layout(membership: &cluster::GetMembershipResponse, healthy: impl Fn(&cluster::Node) -> bool) -> Layout {
    let nodes = membership.nodes.iter().take(2 * limits::NODES);
    let voters = |except: fn(&cluster::Node) -> bool| -> Vec<NodeId> {
        let votes = |node: &&cluster::Node| node.role() == Role::Voter && !(membership.joint && except(node));
        nodes.clone().filter(votes).map(|node| node.node_id).collect()
    };
    let members = nodes.clone().map(|node| Node {
        id: node.node_id,
        name: node.name.clone(),
        zone: node.zone.clone(),
        healthy: healthy(node),
    });
    Layout::joint(members, voters(|node| node.joining), voters(|node| node.leaving))
}
