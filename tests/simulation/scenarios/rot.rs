//! Disks whose bits flip while nobody looks (P7).

use std::time::Duration;

use crate::{
    cluster::{Cluster, Plan},
    errands::Errand,
    rng::Rng,
    runner::scenario,
    world::State,
};

/// What rots, and how many of its bits.
const ROT: [(&str, u64); 10] = [
    ("log.redb", 1),
    ("state.redb", 1),
    ("log.redb", 200),
    ("state.redb", 200),
    ("identity", 1),
    ("log.redb.witness", 1),
    ("log.redb", 2_000),
    ("state.redb", 2_000),
    ("log.redb", 20),
    ("state.redb", 20),
];
/// Of these, at least so many must be noticed: a single bit may be one that nobody reads.
const NOTICED: usize = 5;
/// Within this a node that starts has read what it needs.
const START: Duration = Duration::from_secs(4);

/// Says why a node has ended by itself, if it has.
fn failed(cluster: &Cluster, name: &str) -> Option<String> {
    match &*cluster.world.machine(name).state.borrow() {
        State::Failed(why) => Some(why.clone()),
        _ => None,
    }
}

/// The node that the disk belonged to goes, and comes back as another with an empty one.
fn renew(cluster: &mut Cluster, name: &str) {
    cluster.wipe(name);
    cluster.restart_on_its_disk(name);
    cluster.insist(Errand::Remove(name.to_owned()));
    cluster.insist(Errand::Add(name.to_owned()));
    cluster.expect_voters(&["n1", "n2", "n3"]);
}

/// Whoever comes back with a rotten disk either says so and ends, or has lost nothing: that what it goes on to tell is the
/// same as the others' is held by the digests, and by the ledger. The machine gets a new disk either way, so that a bit
/// that was not met yet does not meet the next.
#[test]
fn a_node_whose_disk_has_rotted_names_it_or_has_lost_nothing() {
    scenario(Plan::of(3, 0).snapshots(20), |cluster| {
        let mut rng = Rng::of(cluster.world.seed, "rot");
        let mut noticed = 0;
        for (at, (file, bits)) in ROT.into_iter().enumerate() {
            cluster.goes_on(10);
            let (leader, followers) = cluster.roles();
            if cluster.is_broken() {
                return;
            }
            let name = if at % 2 == 0 { followers[0].clone() } else { leader };
            cluster.crash(&name, false);
            cluster.world.machine(&name).rot(file, bits, &mut rng);
            cluster.restart_on_its_disk(&name);
            cluster.run_until(START, |cluster| failed(cluster, &name).is_some());
            cluster.goes_on(5);
            let told = failed(cluster, &name);
            tracing::info!(target: "simulation", name, file, bits, ?told, "a disk has rotted");
            noticed += usize::from(told.is_some());
            if told.is_none() {
                cluster.crash(&name, true);
            }
            renew(cluster, &name);
        }
        if noticed < NOTICED {
            cluster.world.violation(format!("of {} rotten disks {noticed} were noticed", ROT.len()));
        }
    });
}
