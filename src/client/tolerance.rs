//! Converts fault tolerance to its wire form. Nodes answer with it, and the command line computes it offline.

use crate::{membership::Tolerance, wire::cluster::FaultTolerance};

/// The wire form of a tolerance. During a change of membership, `voters` and `quorum` describe the new set of voters.
pub fn fault_tolerance(tolerance: &Tolerance) -> FaultTolerance {
    // A cluster has at most `limits::NODES` members, so no count is truncated.
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let settled = tolerance.settled();
    FaultTolerance {
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
