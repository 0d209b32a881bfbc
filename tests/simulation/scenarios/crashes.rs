//! Scenario 3: a node that takes part in a change loses its power at each step that its disk takes during the change.
//!
//! A step is one write or sync of the disk, so this hits every point at which a crash can leave a different state.

use std::time::Duration;

use crate::{
    cluster::{Cluster, Plan},
    harness::scenario,
    operator_tasks::Task,
};

/// Power cuts in one simulation, spread evenly over the steps of the change. The seed shifts them.
const DEATHS: u64 = 10;

/// Which node loses its power.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Leader,
    Follower,
    Newcomer,
}

fn n(at: usize) -> String {
    format!("n{at}")
}

/// The machine that plays this part now. The newcomer is always `n4`.
fn victim(cluster: &mut Cluster, who: Victim) -> String {
    let (leader, followers) = cluster.leader_and_followers();
    match who {
        Victim::Leader => leader,
        Victim::Follower => followers.into_iter().find(|name| *name != n(4)).unwrap_or(leader),
        Victim::Newcomer => n(4),
    }
}

/// Makes `change` again and again; `undo` undoes it. Each time the victim loses its power at another step. The change
/// must end by itself, completed or without effect, and the same command given again must complete it.
fn sweep(cluster: &mut Cluster, who: Victim, change: &Task, undo: impl Fn(&mut Cluster)) {
    let name = victim(cluster, who);
    let before = cluster.world.machine(&name).disks().counts().steps;
    cluster.run_until_done(change.clone());
    let steps = cluster.world.machine(&name).disks().counts().steps - before;
    undo(cluster);
    let stride = steps.div_ceil(DEATHS).max(1);
    let first = 1 + cluster.world.seed % stride;
    let mut deaths = 0;
    for step in (first..=steps).step_by(stride as usize) {
        if cluster.is_broken() {
            return;
        }
        let name = victim(cluster, who);
        tracing::info!(target: "simulation", name, step, steps, "power cut at a step");
        let task = cluster.submit(change.clone());
        cluster.world.machine(&name).disks().power_off_after(step);
        let (disks, tasks) = (cluster.world.machine(&name).disks(), cluster.tasks.clone());
        let over = |_: &mut Cluster| !disks.is_powered() || tasks.result(task).is_some();
        cluster.expect("the power goes, or the change ends", Duration::from_secs(60), over);
        if disks.is_powered() {
            disks.keep_power();
        } else {
            cluster.crash(&name, true);
            deaths += 1;
        }
        // The membership must not stay joint: while the victim is down, the others complete or revert the change.
        cluster.wait_until_settled();
        cluster.expect_writes(3);
        if !disks.is_powered() {
            cluster.restart(&name);
        }
        cluster.run_until_done(change.clone());
        cluster.wait_until_settled();
        undo(cluster);
    }
    // A later change may take fewer steps than the first, so some cuts may never come. Most must.
    if deaths * 2 < DEATHS.min(steps) {
        cluster.world.violation(format!("the power went only {deaths} times, over {steps} steps"));
    }
}

fn remove_again(cluster: &mut Cluster) {
    cluster.remove_and_reuse(&n(4));
    cluster.expect_voters(&["n1", "n2", "n3"]);
}

fn add_again(cluster: &mut Cluster) {
    cluster.reuse_removed(&n(4));
    cluster.run_until_done(Task::Add(n(4)));
    cluster.expect_voters(&["n1", "n2", "n3", "n4"]);
}

fn four() -> Plan {
    Plan::of(4, 0)
}

#[test]
fn an_addition_survives_the_leaders_death_at_every_step() {
    scenario(Plan::of(3, 1), |cluster| sweep(cluster, Victim::Leader, &Task::Add(n(4)), remove_again));
}

#[test]
fn an_addition_survives_a_followers_death_at_every_step() {
    scenario(Plan::of(3, 1), |cluster| sweep(cluster, Victim::Follower, &Task::Add(n(4)), remove_again));
}

#[test]
fn an_addition_survives_the_newcomers_death_at_every_step() {
    scenario(Plan::of(3, 1), |cluster| sweep(cluster, Victim::Newcomer, &Task::Add(n(4)), remove_again));
}

#[test]
fn a_removal_survives_the_leaders_death_at_every_step() {
    scenario(four(), |cluster| sweep(cluster, Victim::Leader, &Task::Remove(n(4)), add_again));
}

/// A joint change with both an incoming and an outgoing voter.
#[test]
fn a_replacement_survives_the_leaders_death_at_every_step() {
    scenario(Plan::of(3, 1), |cluster| {
        sweep(cluster, Victim::Leader, &Task::Replace(n(3), n(4)), |cluster| {
            cluster.reuse_removed(&n(3));
            cluster.run_until_done(Task::Replace(n(4), n(3)));
            cluster.reuse_removed(&n(4));
            cluster.expect_voters(&["n1", "n2", "n3"]);
        });
    });
}

#[test]
fn a_demotion_survives_the_leaders_death_at_every_step() {
    scenario(four(), |cluster| {
        sweep(cluster, Victim::Leader, &Task::Demote(n(4)), |cluster| cluster.run_until_done(Task::Promote(n(4))));
    });
}
