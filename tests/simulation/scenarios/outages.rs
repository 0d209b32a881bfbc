//! Crashes of many nodes at once, and clocks that jump.

use std::time::Duration;

use crate::{cluster::Plan, harness::scenario, operator_tasks::Task, rng::Rng};

const HOUR_MS: i64 = 3_600_000;

/// Scenario 17: the clocks of the leader and of a follower jump back and forth. Users who are signed in can still
/// write.
#[test]
fn a_clock_that_jumps_for_hours_or_days_changes_neither_order_nor_sessions() {
    scenario(Plan::of(3, 0), |cluster| {
        for jump in [HOUR_MS, -HOUR_MS, 0, -2 * HOUR_MS, 48 * HOUR_MS, 0, -48 * HOUR_MS, 0] {
            let (leader, followers) = cluster.leader_and_followers();
            cluster.world.machine(&leader).set_skew_ms(jump);
            cluster.expect_writes(10);
            cluster.world.machine(&followers[0]).set_skew_ms(-jump);
            cluster.expect_writes(10);
            cluster.crash_and_restart(&leader, false);
            cluster.expect_writes(10);
        }
    });
}

/// Scenario 18: by SIGKILL or by a power cut, at random moments.
#[test]
fn all_are_killed_at_once_again_and_again() {
    scenario(Plan::of(5, 0), |cluster| {
        let mut rng = Rng::of(cluster.world.seed, "killings");
        for _ in 0..6 {
            cluster.run_for(Duration::from_millis(rng.within(0..3_000)));
            let names = cluster.world.names();
            for name in &names {
                let power = rng.chance(70);
                cluster.crash(name, power);
            }
            cluster.run_for(Duration::from_millis(rng.within(0..1_000)));
            for name in &names {
                cluster.run_for(Duration::from_millis(rng.within(0..200)));
                cluster.restart(name);
            }
            if rng.chance(60) {
                cluster.expect_writes(5);
            }
        }
    });
}

/// Scenario 18: all machines lose their power while a change is under way.
#[test]
fn a_change_survives_that_all_lose_their_power_at_once() {
    scenario(Plan::of(3, 1), |cluster| {
        let mut rng = Rng::of(cluster.world.seed, "outages");
        for _ in 0..6 {
            cluster.add_while("n4", |cluster, _| {
                cluster.run_for(Duration::from_millis(rng.within(50..1_200)));
                for name in cluster.world.names() {
                    cluster.crash_and_restart(&name, true);
                }
            });
        }
    });
}

/// Scenario 20: two of five nodes may be down. With a third down writes stop, and they resume when one returns.
#[test]
fn writes_stop_with_the_majority_and_go_on_when_one_returns() {
    scenario(Plan::of(5, 0), |cluster| {
        let (leader, followers) = cluster.leader_and_followers();
        cluster.crash(&leader, true);
        cluster.crash(&followers[0], true);
        cluster.expect_writes(10);
        let (third, _) = cluster.leader_and_followers();
        cluster.crash(&third, true);
        cluster.expect_no_writes(Duration::from_secs(4));
        match cluster.run_task(Task::Transfer(followers[1].clone())) {
            Err(fault) if fault.reason.is_transient() => {}
            ended => cluster.world.violation(format!("without a majority a task ended with {ended:?}")),
        }
        cluster.restart(&followers[0]);
        cluster.expect_writes(10);
    });
}
