//! Fault tolerance as it travels: nodes answer with it, and whoever works it out alone shows it so.

use crate::{membership::Tolerance, wire::cluster::FaultTolerance};

/// A tolerance in the words of the wire. While a change is under way, voters and quorum are those of the set that will
/// hold.
pub fn fault_tolerance(tolerance: &Tolerance) -> FaultTolerance {
    // A cluster has at most `limits::NODES` members, so no count is cut.
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
