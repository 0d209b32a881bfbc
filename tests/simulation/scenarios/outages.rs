//! Many nodes at once, and clocks.

use std::time::Duration;

use crate::{cluster::Plan, errands::Errand, rng::Rng, runner::scenario};

const HOUR_MS: i64 = 3_600_000;

/// Scenario 17: back and forth, of the leader and of a follower; whoever is signed in goes on writing.
#[test]
fn a_clock_that_jumps_an_hour_changes_neither_order_nor_sessions() {
    scenario(Plan::of(3, 0), |cluster| {
        for jump in [HOUR_MS, -HOUR_MS, 0, -2 * HOUR_MS, 0] {
            let (leader, followers) = cluster.roles();
            cluster.world.machine(&leader).set_skew_ms(jump);
            cluster.goes_on(10);
            cluster.world.machine(&followers[0]).set_skew_ms(-jump);
            cluster.goes_on(10);
            cluster.bounce(&leader, false);
            cluster.goes_on(10);
        }
    });
}

/// Scenario 18.
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
                cluster.goes_on(5);
            }
        }
    });
}

/// Scenario 18: the power goes everywhere while a change is under way.
#[test]
fn a_change_survives_that_all_lose_their_power_at_once() {
    scenario(Plan::of(3, 1), |cluster| {
        let mut rng = Rng::of(cluster.world.seed, "outages");
        for _ in 0..6 {
            let ticket = cluster.ask(Errand::Add("n4".into()));
            cluster.run_for(Duration::from_millis(rng.within(50..1_200)));
            for name in cluster.world.names() {
                cluster.bounce(&name, true);
            }
            let _ = cluster.end_of(ticket);
            cluster.settled();
            cluster.insist(Errand::Add("n4".into()));
            cluster.insist(Errand::Remove("n4".into()));
            cluster.recycle("n4");
        }
    });
}

/// Scenario 20: two of five may go, the third stops the writes, its return brings them back.
#[test]
fn writes_stop_with_the_majority_and_go_on_when_one_returns() {
    scenario(Plan::of(5, 0), |cluster| {
        let (leader, followers) = cluster.roles();
        cluster.crash(&leader, true);
        cluster.crash(&followers[0], true);
        cluster.goes_on(10);
        let (third, _) = cluster.roles();
        cluster.crash(&third, true);
        cluster.stands_still(Duration::from_secs(4));
        match cluster.errand(Errand::Transfer(followers[1].clone())) {
            Err(fault) if fault.reason.is_transient() => {}
            ended => cluster.world.violation(format!("without a majority an errand ended with {ended:?}")),
        }
        cluster.restart(&followers[0]);
        cluster.goes_on(10);
    });
}
