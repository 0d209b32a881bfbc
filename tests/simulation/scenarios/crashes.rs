//! Scenario 3: whoever takes part in a change loses its power at each step that its disk takes during it.

use std::time::Duration;

use crate::{
    cluster::{Cluster, Plan},
    errands::Errand,
    runner::scenario,
};

/// Deaths in one simulation, spread evenly over the steps of the change.
const DEATHS: u64 = 10;

/// Who dies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Leader,
    Follower,
    Newcomer,
}

fn n(at: usize) -> String {
    format!("n{at}")
}

/// Who is to die now; the newcomer is `n4`.
fn victim(cluster: &mut Cluster, who: Victim) -> String {
    let (leader, followers) = cluster.roles();
    match who {
        Victim::Leader => leader,
        Victim::Follower => followers.into_iter().find(|name| *name != n(4)).unwrap_or(leader),
        Victim::Newcomer => n(4),
    }
}

/// Makes `change` again and again. Each time the victim loses its power at another step; the change must end completed
/// or untouched by itself, and the same command given again must finish it. `back` undoes it.
fn sweep(cluster: &mut Cluster, who: Victim, change: &Errand, back: impl Fn(&mut Cluster)) {
    let name = victim(cluster, who);
    let begun = cluster.world.machine(&name).disks().counts().steps;
    cluster.insist(change.clone());
    let steps = cluster.world.machine(&name).disks().counts().steps - begun;
    back(cluster);
    let stride = steps.div_ceil(DEATHS).max(1);
    let first = 1 + cluster.world.seed % stride;
    let mut deaths = 0;
    for step in (first..=steps).step_by(stride as usize) {
        if cluster.is_broken() {
            return;
        }
        let name = victim(cluster, who);
        tracing::info!(target: "simulation", name, step, steps, "to die at a step");
        let ticket = cluster.ask(change.clone());
        cluster.world.machine(&name).disks().power_off_after(step);
        let (disks, errands) = (cluster.world.machine(&name).disks(), cluster.errands.clone());
        let over = |_: &mut Cluster| !disks.is_powered() || errands.ended(ticket).is_some();
        cluster.expect("the power goes, or the change ends", Duration::from_secs(60), over);
        if disks.is_powered() {
            disks.keep_power();
        } else {
            cluster.crash(&name, true);
            deaths += 1;
        }
        // Never joint for ever: while the victim is down, the others settle it.
        cluster.settled();
        cluster.goes_on(3);
        if !disks.is_powered() {
            cluster.restart(&name);
        }
        cluster.insist(change.clone());
        cluster.settled();
        back(cluster);
    }
    // A change may take fewer steps than the first did; most of the steps must have come.
    if deaths * 2 < DEATHS.min(steps) {
        cluster.world.violation(format!("only {deaths} of the deaths at {steps} steps took place"));
    }
}

fn remove_again(cluster: &mut Cluster) {
    cluster.insist(Errand::Remove(n(4)));
    cluster.recycle(&n(4));
    cluster.expect_voters(&["n1", "n2", "n3"]);
}

fn add_again(cluster: &mut Cluster) {
    cluster.recycle(&n(4));
    cluster.insist(Errand::Add(n(4)));
    cluster.expect_voters(&["n1", "n2", "n3", "n4"]);
}

fn four() -> Plan {
    Plan::of(4, 0)
}

#[test]
fn an_addition_survives_the_leaders_death_at_every_step() {
    scenario(Plan::of(3, 1), |cluster| sweep(cluster, Victim::Leader, &Errand::Add(n(4)), remove_again));
}

#[test]
fn an_addition_survives_a_followers_death_at_every_step() {
    scenario(Plan::of(3, 1), |cluster| sweep(cluster, Victim::Follower, &Errand::Add(n(4)), remove_again));
}

#[test]
fn an_addition_survives_the_newcomers_death_at_every_step() {
    scenario(Plan::of(3, 1), |cluster| sweep(cluster, Victim::Newcomer, &Errand::Add(n(4)), remove_again));
}

#[test]
fn a_removal_survives_the_leaders_death_at_every_step() {
    scenario(four(), |cluster| sweep(cluster, Victim::Leader, &Errand::Remove(n(4)), add_again));
}

/// A joint change with both an incoming and an outgoing voter.
#[test]
fn a_replacement_survives_the_leaders_death_at_every_step() {
    scenario(Plan::of(3, 1), |cluster| {
        sweep(cluster, Victim::Leader, &Errand::Replace(n(3), n(4)), |cluster| {
            cluster.recycle(&n(3));
            cluster.insist(Errand::Replace(n(4), n(3)));
            cluster.recycle(&n(4));
            cluster.expect_voters(&["n1", "n2", "n3"]);
        });
    });
}

#[test]
fn a_demotion_survives_the_leaders_death_at_every_step() {
    scenario(four(), |cluster| {
        sweep(cluster, Victim::Leader, &Errand::Demote(n(4)), |cluster| cluster.insist(Errand::Promote(n(4))));
    });
}
