//! Between the wire's picture of a cluster and the arithmetic's.

use crate::{
    membership::{Layout, Node, Tolerance},
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

/// A tolerance as it travels. While a change is under way, voters and quorum are those of the set that will hold.
pub fn fault_tolerance(tolerance: &Tolerance) -> cluster::FaultTolerance {
    // A cluster has at most `limits::NODES` members, so no count is cut.
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let settled = tolerance.settled();
    cluster::FaultTolerance {
        voters: count(settled.voters),
        quorum: count(settled.quorum),
        survives_any_nodes: count(tolerance.survives_any_nodes),
        designed_nodes: count(tolerance.designed_nodes),
        survives_any_zones: count(tolerance.survives_any_zones),
        fatal_zones: tolerance.fatal_zones.clone(),
        fatal_nodes: tolerance.fatal_nodes.clone(),
        advice: tolerance.advice.clone(),
    }
}
