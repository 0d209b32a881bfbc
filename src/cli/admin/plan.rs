//! The command `plan`: which failures a layout would survive. It needs no cluster.

use std::collections::BTreeSet;

use crate::{
    cli::{Exit, Failure, Output, Result},
    client::fault_tolerance,
    membership::Layout,
    types::{Zone, limits},
};

/// Prints the fault tolerance of `zones`.
pub(super) fn run(zones: &[(Zone, usize)], output: &mut Output) -> Result<()> {
    let mut seen = BTreeSet::new();
    if let Some((twice, _)) = zones.iter().find(|(zone, _)| !seen.insert(zone.folded())) {
        let failure = Failure::new(Exit::Usage, format!("zone {twice} is given twice"));
        return Err(failure.next("give each zone once, as in --zones a=3,b=2"));
    }
    let voters: usize = zones.iter().map(|(_, voters)| voters).sum();
    if voters > limits::NODES {
        let failure = Failure::new(Exit::Usage, format!("{voters} voters are more than a cluster can have"));
        return Err(failure.next(format!("plan for at most {}; 3, 5 or 7 are usual", limits::NODES)));
    }
    let tolerance = Layout::of_zones(zones.iter().map(|(zone, voters)| (zone.as_str(), *voters))).tolerance();
    if output.is_json() {
        return output.message(&fault_tolerance(&tolerance));
    }
    tolerance.words().into_iter().try_for_each(|line| output.line(line))
}
