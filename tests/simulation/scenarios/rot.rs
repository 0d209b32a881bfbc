//! Bit rot: disks whose bits flip while no process runs (P7).

use std::time::Duration;

use crate::{
    cluster::{Cluster, Plan},
    harness::scenario,
    operator_tasks::Task,
    rng::Rng,
    world::State,
};

/// Files, and how many of their bits flip.
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
/// How many of these cases must be noticed. Not all can be: a flipped bit may be in a page that is never read.
const NOTICED: usize = 5;
/// Time in which a starting node has read what it needs.
const START: Duration = Duration::from_secs(4);

/// Why a node ended by itself, if it did.
fn failure_of(cluster: &Cluster, name: &str) -> Option<String> {
    match &*cluster.world.machine(name).state.borrow() {
        State::Failed(why) => Some(why.clone()),
        _ => None,
    }
}

/// Removes the node, and adds its machine again as a new node with an empty disk.
fn replace_node(cluster: &mut Cluster, name: &str) {
    cluster.wipe(name);
    cluster.restart_on_its_disk(name);
    cluster.run_until_done(Task::Remove(name.to_owned()));
    cluster.run_until_done(Task::Add(name.to_owned()));
    cluster.expect_voters(&["n1", "n2", "n3"]);
}

/// A node that starts on a rotten disk either names the damage and ends, or has lost nothing. (If it goes on, the
/// digests and the ledger prove that.) The machine gets a new disk either way, so that damage which was not noticed
/// does not add to the next case.
#[test]
fn a_node_whose_disk_has_rotted_names_it_or_has_lost_nothing() {
    scenario(Plan::of(3, 0).snapshots(20), |cluster| {
        let mut rng = Rng::of(cluster.world.seed, "rot");
        let mut noticed = 0;
        for (at, (file, bits)) in ROT.into_iter().enumerate() {
            cluster.expect_writes(10);
            let (leader, followers) = cluster.leader_and_followers();
            if cluster.is_broken() {
                return;
            }
            let name = if at % 2 == 0 { followers[0].clone() } else { leader };
            cluster.crash(&name, false);
            cluster.world.machine(&name).flip_bits(file, bits, &mut rng);
            cluster.restart_on_its_disk(&name);
            cluster.run_until(START, |cluster| failure_of(cluster, &name).is_some());
            cluster.expect_writes(5);
            let failure = failure_of(cluster, &name);
            tracing::info!(target: "simulation", name, file, bits, ?failure, "bits flipped");
            noticed += usize::from(failure.is_some());
            if failure.is_none() {
                cluster.crash(&name, true);
            }
            replace_node(cluster, &name);
        }
        if noticed < NOTICED {
            cluster.world.violation(format!("only {noticed} of {} rotten disks were noticed", ROT.len()));
        }
    });
}
