//! Between the wire's picture of a cluster and the arithmetic's.

use crate::{
    membership::{Layout, Node},
    types::{NodeId, limits},
    wire::cluster::{self, Role},
};

/// The layout of `membership`, with `healthy` saying who answers.
///
/// While a change is under way only `joining` and `leaving` tell the two voter sets apart.
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
