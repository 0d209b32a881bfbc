//! Snapshot transfers that are broken off, snapshots that do not fit on the disk, and memberships that only the
//! snapshot or only the log knows.

use std::time::Duration;

use quorate::wire::{admin::change_progress::Phase, cluster::Role};

use crate::{
    cluster::{Cluster, Plan},
    harness::scenario,
    operator_tasks::Task,
};

/// Entries between two snapshots: so few that the leader takes snapshots and purges its log all the time.
const OFTEN: u64 = 20;
/// Moments in one transfer at which the fault happens, spread evenly over the steps of the receiver's disk.
const MOMENTS: u64 = 8;

/// Adds a node by snapshot `MOMENTS` times. `harm` injects a fault when the receiver's disk reaches a step of the
/// transfer, each time a later one. The same command given again must complete the addition.
fn add_by_snapshot(cluster: &mut Cluster, harm: impl Fn(&mut Cluster)) {
    let join = Task::Add("n4".into());
    let leave = |cluster: &mut Cluster| {
        cluster.remove_and_reuse("n4");
        cluster.expect_writes(OFTEN as usize);
    };
    cluster.expect_writes(3 * OFTEN as usize);
    let task = cluster.submit(join.clone());
    let before = cluster.world.machine("n4").disks().counts().steps;
    cluster.wait_for_phase(task, Phase::Joint);
    let steps = cluster.world.machine("n4").disks().counts().steps - before;
    let _ = cluster.wait_for_result(task);
    cluster.run_until_done(join.clone());
    leave(cluster);
    let stride = steps.div_ceil(MOMENTS).max(1);
    let mut harmed = 0;
    for step in (1 + cluster.world.seed % stride..=steps).step_by(stride as usize) {
        if cluster.is_broken() {
            return;
        }
        tracing::info!(target: "simulation", step, steps, "fault at a step of the receiver");
        let task = cluster.submit(join.clone());
        if cluster.wait_for_disk_steps("n4", step, task) {
            harm(cluster);
            harmed += 1;
        }
        let _ = cluster.wait_for_result(task);
        cluster.wait_until_settled();
        cluster.run_until_done(join.clone());
        cluster.expect_voters(&["n1", "n2", "n3", "n4"]);
        leave(cluster);
    }
    if harmed * 2 < MOMENTS.min(steps) {
        cluster.world.violation(format!("the fault happened only {harmed} times, over {steps} steps"));
    }
}

/// Scenario 9: the sender loses its power.
#[test]
fn a_newcomer_joins_by_snapshot_though_the_sender_dies_at_any_moment() {
    scenario(Plan::of(3, 1).snapshots(OFTEN), |cluster| {
        add_by_snapshot(cluster, |cluster| {
            let Some(leader) = cluster.leader() else { return };
            cluster.crash(&leader, true);
            cluster.run_for(Duration::from_millis(500));
            cluster.restart(&leader);
        });
    });
}

/// Scenario 9: the receiver loses its power, also just before and just after it renames the snapshot file.
#[test]
fn a_newcomer_joins_by_snapshot_though_it_dies_at_any_moment() {
    scenario(Plan::of(3, 1).snapshots(OFTEN), |cluster| {
        add_by_snapshot(cluster, |cluster| cluster.crash_and_restart("n4", true))
    });
}

/// Scenario 9: the receiver's disk is full. The transfer fails or the process ends, and it succeeds once there is room.
#[test]
fn a_newcomer_joins_by_snapshot_though_its_disk_fills_up_at_any_moment() {
    scenario(Plan::of(3, 1).snapshots(OFTEN), |cluster| {
        add_by_snapshot(cluster, |cluster| {
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

/// Scenario 9: whenever the newcomer has installed a snapshot, the leader has purged the log behind it.
#[test]
fn a_slow_newcomer_catches_up_with_a_leader_that_snapshots_and_purges_all_the_time() {
    scenario(Plan::of(3, 1).snapshots(8), |cluster| {
        let slowest = Duration::from_millis(400);
        ["n1", "n2", "n3"].iter().for_each(|other| cluster.slow_down("n4", other, slowest));
        cluster.run_until_done(Task::Add("n4".into()));
        cluster.repair_links();
        cluster.expect_voters(&["n1", "n2", "n3", "n4"]);
    });
}

/// Whether the node `name` itself reports `member` as a voter.
fn knows_voter(cluster: &Cluster, name: &str, member: &str) -> bool {
    let nodes = cluster.report_of(name).map(|report| report.nodes).unwrap_or_default();
    nodes.iter().any(|node| node.name == member && node.role() == Role::Voter)
}

/// Cuts the power of `name`, and starts it again without a link to the others: it must still know that `member` votes.
fn expect_remembered(cluster: &mut Cluster, name: &str, member: &str) {
    cluster.crash(name, true);
    cluster.isolate(name);
    cluster.restart(name);
    let what = format!("{name} remembers that {member} votes");
    cluster.expect(&what, Duration::from_secs(10), |cluster| knows_voter(cluster, name, member));
    cluster.repair_links();
    cluster.wait_until_settled();
}

/// Scenario 13: the snapshot is older than the change, which is in the log only.
#[test]
fn a_membership_newer_in_the_log_than_in_the_snapshot_is_remembered() {
    scenario(Plan::of(3, 1), |cluster| {
        let (_, followers) = cluster.leader_and_followers();
        cluster.run_until_done(Task::AddLearner("n4".into()));
        for name in &followers {
            cluster.run_until_done(Task::SnapshotOn(name.clone()));
        }
        cluster.run_until_done(Task::Promote("n4".into()));
        let follower = followers[0].clone();
        let knows = |cluster: &mut Cluster| knows_voter(cluster, &follower, "n4");
        cluster.expect("the follower knows the new voter", Duration::from_secs(10), knows);
        expect_remembered(cluster, &followers[0], "n4");
        cluster.expect_writes(5);
    });
}

/// Scenario 13, the other way round: the change arrives in a snapshot, while the log ends before it.
#[test]
fn a_membership_newer_in_the_snapshot_than_in_the_log_is_remembered() {
    scenario(Plan::of(3, 1).snapshots(OFTEN), |cluster| {
        let (_, followers) = cluster.leader_and_followers();
        let late = followers[0].clone();
        cluster.isolate(&late);
        // The late follower stays a voter meanwhile, so the change needs the other follower.
        cluster.run_until_done(Task::AddLearner("n4".into()));
        cluster.run_until_done(Task::Promote("n4".into()));
        cluster.expect_writes(3 * OFTEN as usize);
        cluster.repair_links();
        let knows = |cluster: &mut Cluster| knows_voter(cluster, &late, "n4");
        cluster.expect("the late follower knows the new voter", Duration::from_secs(20), knows);
        expect_remembered(cluster, &late, "n4");
        cluster.expect_writes(5);
    });
}

/// Scenario 14: a node that joined by snapshot has no log entry that names the members.
#[test]
fn a_membership_in_the_snapshot_alone_is_remembered() {
    scenario(Plan::of(3, 1).snapshots(OFTEN), |cluster| {
        cluster.expect_writes(3 * OFTEN as usize);
        let task = cluster.submit(Task::AddLearner("n4".into()));
        let ended = cluster.wait_for_result(task);
        if let Err(fault) = ended {
            cluster.world.violation(format!("n4 could not be added: {fault:?}"));
        }
        let knows = |cluster: &mut Cluster| ["n1", "n2", "n3"].iter().all(|name| knows_voter(cluster, "n4", name));
        cluster.expect("the learner knows the voters", Duration::from_secs(20), knows);
        for member in ["n1", "n2", "n3"] {
            expect_remembered(cluster, "n4", member);
        }
        cluster.run_until_done(Task::Promote("n4".into()));
        cluster.expect_voters(&["n1", "n2", "n3", "n4"]);
        cluster.expect_writes(5);
    });
}
