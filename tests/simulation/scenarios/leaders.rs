//! Leadership that is transferred, and leaders that are cut off, frozen, or reachable in one direction only.

use std::time::Duration;

use quorate::wire::{Reason, admin::change_progress::Phase};

use crate::{
    cluster::{Cluster, Plan},
    harness::scenario,
    operator_tasks::Task,
};

/// Waits for a leader other than `old`.
fn expect_other_leader(cluster: &mut Cluster, old: &str) {
    let other = |cluster: &mut Cluster| cluster.leader().is_some_and(|name| name != old);
    cluster.expect("another leader is elected", Duration::from_secs(20), other);
}

/// Scenario 12: the transfer to a dead node fails, the one to a lagging node succeeds once it has caught up.
#[test]
fn leadership_goes_to_a_node_that_has_just_come_back_and_never_to_a_dead_one() {
    scenario(Plan::of(3, 0), |cluster| {
        let (_, followers) = cluster.leader_and_followers();
        let (dead, other) = (followers[0].clone(), followers[1].clone());
        cluster.crash(&dead, true);
        cluster.expect_writes(20);
        // The leader may not have noticed yet that the node is dead.
        if cluster.run_task(Task::Transfer(dead.clone())).is_ok() {
            cluster.world.violation("leadership was transferred to a dead node".into());
        }
        cluster.wait_until_settled();
        cluster.expect_writes(5);
        cluster.restart(&dead);
        // It lags behind, and becomes leader once it has caught up.
        cluster.run_until_done(Task::Transfer(dead));
        cluster.expect_writes(5);
        cluster.run_until_done(Task::Transfer(other));
        cluster.expect_writes(5);
    });
}

/// Scenario 12: leadership is transferred in the middle of an addition, in one round during its joint membership.
#[test]
fn leadership_handed_over_during_a_change_leaves_it_to_be_finished() {
    scenario(Plan::of(3, 1), |cluster| {
        for phase in [Phase::LearnerAdded, Phase::Log, Phase::Joint] {
            let (_, followers) = cluster.leader_and_followers();
            cluster.add_while("n4", |cluster, task| {
                cluster.wait_for_phase(task, phase);
                let _ = cluster.run_task(Task::Transfer(followers[0].clone()));
            });
        }
    });
}

/// Scenario 12: two operators transfer leadership to different nodes at once.
#[test]
fn leadership_asked_for_by_two_at_once_goes_to_one() {
    scenario(Plan::of(3, 0), |cluster| {
        for _ in 0..3 {
            let (_, followers) = cluster.leader_and_followers();
            let tasks = [&followers[0], &followers[1]].map(|to| cluster.submit(Task::Transfer(to.clone())));
            for task in tasks {
                let _ = cluster.wait_for_result(task);
            }
            cluster.wait_until_settled();
            cluster.expect_writes(5);
        }
    });
}

/// Scenario 15: one user can reach only the old leader and its minority.
#[test]
fn a_minority_with_the_old_leader_acknowledges_nothing_and_loses_nothing() {
    scenario(Plan::of(5, 0), |cluster| {
        let (leader, followers) = cluster.leader_and_followers();
        let inside = [leader.clone(), followers[0].clone(), "alice".to_owned()];
        let outside = cluster.hosts().into_iter().filter(|name| !inside.contains(name)).collect::<Vec<_>>();
        for a in &inside {
            outside.iter().for_each(|b| cluster.cut_both(a, b));
        }
        expect_other_leader(cluster, &leader);
        let acknowledged_to_alice = |cluster: &Cluster| cluster.notes.acknowledged_to("alice");
        let before = acknowledged_to_alice(cluster);
        cluster.expect_writes(30);
        cluster.run_for(Duration::from_secs(3));
        if acknowledged_to_alice(cluster) != before {
            cluster.world.violation("a minority acknowledged a message".into());
        }
        cluster.repair_links();
        let again = move |cluster: &mut Cluster| acknowledged_to_alice(cluster) > before;
        cluster.expect("the user who was cut off writes again", Duration::from_secs(30), again);
    });
}

/// Scenarios 3 and 18: the leader loses its power at one disk step after another, and is back before any other node
/// becomes a candidate. It may have lost unsynced entries that others have, so it must not lead on without an election.
#[test]
fn a_leader_that_is_back_before_it_is_missed_leads_by_an_election_or_not_at_all() {
    scenario(Plan::of(3, 0), |cluster| {
        for step in 1..=12 {
            let (leader, _) = cluster.leader_and_followers();
            let term = cluster.report_of(&leader).map_or(0, |report| report.term);
            let disks = cluster.world.machine(&leader).disks();
            disks.power_off_after(step);
            cluster.expect("the power goes", Duration::from_secs(20), |_| !disks.is_powered());
            cluster.crash_and_restart(&leader, true);
            cluster.expect_writes(5);
            let (leader, _) = cluster.leader_and_followers();
            if cluster.is_broken() {
                return;
            }
            if cluster.report_of(&leader).is_some_and(|report| report.term <= term) {
                cluster.world.violation(format!("{leader} leads in term {term}, whose leader lost its power"));
            }
        }
    });
}

/// Scenario 16: every message to and from the leader arrives ten seconds late. (`tests/processes` stops a whole process
/// with SIGSTOP.)
#[test]
fn a_leader_whose_messages_all_come_ten_seconds_late_misleads_nobody() {
    scenario(Plan::of(5, 0), |cluster| {
        for skew in [0, -10_000] {
            let (leader, _) = cluster.leader_and_followers();
            cluster.freeze(&leader);
            cluster.world.machine(&leader).set_skew_ms(skew);
            expect_other_leader(cluster, &leader);
            cluster.expect_writes(20);
            cluster.run_for(Duration::from_secs(6));
            cluster.repair_links();
            cluster.expect_writes(20);
            cluster.world.machine(&leader).set_skew_ms(0);
        }
    });
}

/// Scenario 19: a leader that can only send, then one that can only receive, then one that reaches a single follower.
#[test]
fn links_that_carry_one_way_stop_no_majority() {
    scenario(Plan::of(5, 0), |cluster| {
        for case in 0..3 {
            let (leader, followers) = cluster.leader_and_followers();
            for follower in &followers {
                match case {
                    0 => cluster.cut(follower, &leader),
                    1 => cluster.cut(&leader, follower),
                    _ if *follower == followers[0] => {}
                    _ => cluster.cut_both(&leader, follower),
                }
            }
            expect_other_leader(cluster, &leader);
            cluster.expect_writes(15);
            cluster.repair_links();
            cluster.expect_writes(5);
        }
    });
}

/// Scenario 19: one follower receives nothing, another one reaches nobody. Neither disturbs the rest.
#[test]
fn followers_that_hear_or_are_heard_one_way_do_not_disturb() {
    scenario(Plan::of(5, 0), |cluster| {
        let (_, followers) = cluster.leader_and_followers();
        for other in cluster.world.names() {
            if other != followers[0] {
                cluster.cut(&other, &followers[0]);
            }
            if other != followers[1] {
                cluster.cut(&followers[1], &other);
            }
        }
        for _ in 0..5 {
            cluster.expect_writes(15);
            cluster.run_for(Duration::from_secs(1));
        }
    });
}

/// Scenario 15: no change starts without a majority.
#[test]
fn a_leader_without_a_majority_begins_no_change() {
    scenario(Plan::of(3, 1), |cluster| {
        let (leader, followers) = cluster.leader_and_followers();
        followers.iter().for_each(|follower| cluster.crash(follower, false));
        cluster.run_for(Duration::from_secs(3));
        match cluster.run_task(Task::Add("n4".into())) {
            Err(fault) if fault.reason.is_transient() || fault.reason == Reason::Unsafe => {}
            ended => cluster.world.violation(format!("the command ended with {ended:?}")),
        }
        if cluster.report_of(&leader).is_some_and(|report| report.joint || report.nodes.len() != 3) {
            cluster.world.violation("a leader without a majority changed the membership".into());
        }
        followers.iter().for_each(|follower| cluster.restart(follower));
        cluster.expect_writes(5);
    });
}
