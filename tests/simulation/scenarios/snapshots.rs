//! Snapshots that are broken off, do not fit, or know another membership than the log.

use std::time::Duration;

use quorate::wire::{admin::change_progress::Phase, cluster::Role};

use crate::{
    cluster::{Cluster, Plan},
    errands::Errand,
    runner::scenario,
};

/// Entries between two snapshots: the leader takes them, and purges its log, all the time.
const OFTEN: u64 = 20;
/// Moments in one transfer at which something happens, by the steps of the receiver's disk.
const MOMENTS: u64 = 8;

/// A newcomer joins by snapshot `MOMENTS` times; `harm` is done when the receiver's disk has come to one step after
/// another of its joining. The same command given again must finish it.
fn joined_by_snapshot(cluster: &mut Cluster, harm: impl Fn(&mut Cluster)) {
    let join = Errand::Add("n4".into());
    let leave = |cluster: &mut Cluster| {
        cluster.insist(Errand::Remove("n4".into()));
        cluster.recycle("n4");
        cluster.goes_on(OFTEN as usize);
    };
    cluster.goes_on(3 * OFTEN as usize);
    let ticket = cluster.ask(join.clone());
    let before = cluster.world.machine("n4").disks().counts().steps;
    cluster.until_phase(ticket, Phase::Joint);
    let steps = cluster.world.machine("n4").disks().counts().steps - before;
    let _ = cluster.end_of(ticket);
    cluster.insist(join.clone());
    leave(cluster);
    let stride = steps.div_ceil(MOMENTS).max(1);
    let mut harmed = 0;
    for step in (1 + cluster.world.seed % stride..=steps).step_by(stride as usize) {
        if cluster.is_broken() {
            return;
        }
        tracing::info!(target: "simulation", step, steps, "harm at a step of the receiver");
        let ticket = cluster.ask(join.clone());
        if cluster.until_step("n4", step, ticket) {
            harm(cluster);
            harmed += 1;
        }
        let _ = cluster.end_of(ticket);
        cluster.settled();
        cluster.insist(join.clone());
        cluster.expect_voters(&["n1", "n2", "n3", "n4"]);
        leave(cluster);
    }
    if harmed * 2 < MOMENTS.min(steps) {
        cluster.world.violation(format!("harm was done at {harmed} moments only of {steps} steps"));
    }
}

/// Scenario 9.
#[test]
fn a_newcomer_joins_by_snapshot_though_the_sender_dies_at_any_moment() {
    scenario(Plan::of(3, 1).snapshots(OFTEN), |cluster| {
        joined_by_snapshot(cluster, |cluster| {
            let Some(leader) = cluster.leader() else { return };
            cluster.crash(&leader, true);
            cluster.run_for(Duration::from_millis(500));
            cluster.restart(&leader);
        });
    });
}

/// Scenario 9: before and after the rename, and at the steps around it.
#[test]
fn a_newcomer_joins_by_snapshot_though_it_dies_at_any_moment() {
    scenario(Plan::of(3, 1).snapshots(OFTEN), |cluster| {
        joined_by_snapshot(cluster, |cluster| cluster.bounce("n4", true))
    });
}

/// Scenario 9: it is refused or stops for want of room, and goes on once there is some.
#[test]
fn a_newcomer_joins_by_snapshot_though_its_disk_fills_up_at_any_moment() {
    scenario(Plan::of(3, 1).snapshots(OFTEN), |cluster| {
        joined_by_snapshot(cluster, |cluster| {
            cluster.world.machine("n4").fill_disks(1_000);
            cluster.run_for(Duration::from_secs(2));
            if cluster.world.machine("n4").is_running() {
                cluster.world.machine("n4").heal_disks();
            } else {
                cluster.restart("n4");
            }
        });
    });
}

/// Scenario 9: it takes one snapshot after another, and by the time it has one the log behind it is gone.
#[test]
fn a_slow_newcomer_catches_up_with_a_leader_that_snapshots_and_purges_all_the_time() {
    scenario(Plan::of(3, 1).snapshots(8), |cluster| {
        let slowest = Duration::from_millis(400);
        ["n1", "n2", "n3"].iter().for_each(|other| cluster.slow_down("n4", other, slowest));
        cluster.insist(Errand::Add("n4".into()));
        cluster.mend_links();
        cluster.expect_voters(&["n1", "n2", "n3", "n4"]);
    });
}

/// Whether `name` itself knows `member` as a voter.
fn knows_voter(cluster: &Cluster, name: &str, member: &str) -> bool {
    let nodes = cluster.said(name).map(|said| said.nodes).unwrap_or_default();
    nodes.iter().any(|node| node.name == member && node.role() == Role::Voter)
}

/// The power of `name` goes; back without the others, it must still know `member` to vote.
fn remembers(cluster: &mut Cluster, name: &str, member: &str) {
    cluster.crash(name, true);
    cluster.isolate(name);
    cluster.restart(name);
    let told = format!("{name} remembers that {member} votes");
    cluster.expect(&told, Duration::from_secs(10), |cluster| knows_voter(cluster, name, member));
    cluster.mend_links();
    cluster.settled();
}

/// Scenario 13: the state is as of the last snapshot, the change stands in the log alone.
#[test]
fn a_membership_newer_in_the_log_than_in_the_snapshot_is_remembered() {
    scenario(Plan::of(3, 1), |cluster| {
        let (_, followers) = cluster.roles();
        cluster.insist(Errand::AddLearner("n4".into()));
        for name in &followers {
            cluster.insist(Errand::SnapshotOn(name.clone()));
        }
        cluster.insist(Errand::Promote("n4".into()));
        let follower = followers[0].clone();
        let knows = |cluster: &mut Cluster| knows_voter(cluster, &follower, "n4");
        cluster.expect("the follower has heard of it", Duration::from_secs(10), knows);
        remembers(cluster, &followers[0], "n4");
        cluster.goes_on(5);
    });
}

/// Scenario 13, the other way round: the change comes with a snapshot, while the log ends before it.
#[test]
fn a_membership_newer_in_the_snapshot_than_in_the_log_is_remembered() {
    scenario(Plan::of(3, 1).snapshots(OFTEN), |cluster| {
        let (_, followers) = cluster.roles();
        let late = followers[0].clone();
        cluster.isolate(&late);
        // The other follower carries the change alone; the late one is a voter all the while.
        cluster.insist(Errand::AddLearner("n4".into()));
        cluster.insist(Errand::Promote("n4".into()));
        cluster.goes_on(3 * OFTEN as usize);
        cluster.mend_links();
        let knows = |cluster: &mut Cluster| knows_voter(cluster, &late, "n4");
        cluster.expect("it has heard of it", Duration::from_secs(20), knows);
        remembers(cluster, &late, "n4");
        cluster.goes_on(5);
    });
}

/// Scenario 14: a node that joined by snapshot has no log entry that names its members.
#[test]
fn a_membership_in_the_snapshot_alone_is_remembered() {
    scenario(Plan::of(3, 1).snapshots(OFTEN), |cluster| {
        cluster.goes_on(3 * OFTEN as usize);
        let ticket = cluster.ask(Errand::AddLearner("n4".into()));
        let ended = cluster.end_of(ticket);
        if let Err(fault) = ended {
            cluster.world.violation(format!("n4 was not added: {fault:?}"));
        }
        let knows = |cluster: &mut Cluster| ["n1", "n2", "n3"].iter().all(|name| knows_voter(cluster, "n4", name));
        cluster.expect("the learner knows the voters", Duration::from_secs(20), knows);
        for member in ["n1", "n2", "n3"] {
            remembers(cluster, "n4", member);
        }
        cluster.insist(Errand::Promote("n4".into()));
        cluster.expect_voters(&["n1", "n2", "n3", "n4"]);
        cluster.goes_on(5);
    });
}
