//! Leaders that are handed over, cut off, frozen, or heard by some only.

use std::time::Duration;

use quorate::wire::{Reason, admin::change_progress::Phase};

use crate::{
    cluster::{Cluster, Plan},
    errands::Errand,
    runner::scenario,
};

/// Waits for a leader other than `old`.
fn another_leader(cluster: &mut Cluster, old: &str) {
    let other = |cluster: &mut Cluster| cluster.leader().is_some_and(|name| name != old);
    cluster.expect("another leader is elected", Duration::from_secs(20), other);
}

/// Scenario 12.
#[test]
fn leadership_goes_to_a_node_that_has_just_come_back_and_never_to_a_dead_one() {
    scenario(Plan::of(3, 0), |cluster| {
        let (_, followers) = cluster.roles();
        let (dead, other) = (followers[0].clone(), followers[1].clone());
        cluster.crash(&dead, true);
        cluster.goes_on(20);
        // Dead, though perhaps not missed yet.
        if cluster.errand(Errand::Transfer(dead.clone())).is_ok() {
            cluster.world.violation("leadership was handed to a dead node".into());
        }
        cluster.settled();
        cluster.goes_on(5);
        cluster.restart(&dead);
        // It lags, and takes over as soon as it has what it needs.
        cluster.insist(Errand::Transfer(dead));
        cluster.goes_on(5);
        cluster.insist(Errand::Transfer(other));
        cluster.goes_on(5);
    });
}

/// Scenario 12: in the middle of an addition, of its joint membership if the seed so wills.
#[test]
fn leadership_handed_over_during_a_change_leaves_it_to_be_finished() {
    scenario(Plan::of(3, 1), |cluster| {
        for phase in [Phase::LearnerAdded, Phase::Log, Phase::Joint] {
            let (_, followers) = cluster.roles();
            let ticket = cluster.ask(Errand::Add("n4".into()));
            cluster.until_phase(ticket, phase);
            let _ = cluster.errand(Errand::Transfer(followers[0].clone()));
            let _ = cluster.end_of(ticket);
            cluster.settled();
            cluster.insist(Errand::Add("n4".into()));
            cluster.insist(Errand::Remove("n4".into()));
            cluster.recycle("n4");
        }
    });
}

/// Scenario 12: two operators, two wishes.
#[test]
fn leadership_asked_for_by_two_at_once_goes_to_one() {
    scenario(Plan::of(3, 0), |cluster| {
        for _ in 0..3 {
            let (_, followers) = cluster.roles();
            let tickets = [&followers[0], &followers[1]].map(|to| cluster.ask(Errand::Transfer(to.clone())));
            for ticket in tickets {
                let _ = cluster.end_of(ticket);
            }
            cluster.settled();
            cluster.goes_on(5);
        }
    });
}

/// Scenario 15: some users are shut in with the old leader.
#[test]
fn a_minority_with_the_old_leader_acknowledges_nothing_and_loses_nothing() {
    scenario(Plan::of(5, 0), |cluster| {
        let (leader, followers) = cluster.roles();
        let inside = [leader.clone(), followers[0].clone(), "alice".to_owned()];
        let outside = cluster.hosts().into_iter().filter(|name| !inside.contains(name)).collect::<Vec<_>>();
        for a in &inside {
            outside.iter().for_each(|b| cluster.cut_both(a, b));
        }
        another_leader(cluster, &leader);
        let of_alice = |cluster: &Cluster| cluster.notes.acknowledged_to("alice");
        let before = of_alice(cluster);
        cluster.goes_on(30);
        cluster.run_for(Duration::from_secs(3));
        if of_alice(cluster) != before {
            cluster.world.violation("a minority acknowledged a message".into());
        }
        cluster.mend_links();
        let again = move |cluster: &mut Cluster| of_alice(cluster) > before;
        cluster.expect("whoever was shut in writes again", Duration::from_secs(30), again);
    });
}

/// Scenario 3 and 18: its power goes at one step of its disk after another, and it is back before anybody stands for
/// election. What it had not synced, others may have; so it leads again only if they elect it.
#[test]
fn a_leader_that_is_back_before_it_is_missed_leads_by_an_election_or_not_at_all() {
    scenario(Plan::of(3, 0), |cluster| {
        for step in 1..=12 {
            let (leader, _) = cluster.roles();
            let term = cluster.said(&leader).map_or(0, |said| said.term);
            let disks = cluster.world.machine(&leader).disks();
            disks.power_off_after(step);
            cluster.expect("the power goes", Duration::from_secs(20), |_| !disks.is_powered());
            cluster.bounce(&leader, true);
            cluster.goes_on(5);
            let (leader, _) = cluster.roles();
            if cluster.is_broken() {
                return;
            }
            if cluster.said(&leader).is_some_and(|said| said.term <= term) {
                cluster.world.violation(format!("{leader} leads in term {term} after its leader lost its power"));
            }
        }
    });
}

/// Scenario 16: everything that it had sent, and all that was sent to it, arrives ten seconds late. (A process that gets
/// no time at all is stopped with SIGSTOP in `tests/processes`.)
#[test]
fn a_leader_whose_messages_all_come_ten_seconds_late_misleads_nobody() {
    scenario(Plan::of(5, 0), |cluster| {
        for skew in [0, -10_000] {
            let (leader, _) = cluster.roles();
            cluster.freeze(&leader);
            cluster.world.machine(&leader).set_skew_ms(skew);
            another_leader(cluster, &leader);
            cluster.goes_on(20);
            cluster.run_for(Duration::from_secs(6));
            cluster.mend_links();
            cluster.goes_on(20);
            cluster.world.machine(&leader).set_skew_ms(0);
        }
    });
}

/// Scenario 19: in turn a leader that only sends, one that only hears, and one that a single node still hears.
#[test]
fn links_that_carry_one_way_stop_no_majority() {
    scenario(Plan::of(5, 0), |cluster| {
        for case in 0..3 {
            let (leader, followers) = cluster.roles();
            for follower in &followers {
                match case {
                    0 => cluster.cut(follower, &leader),
                    1 => cluster.cut(&leader, follower),
                    _ if *follower == followers[0] => {}
                    _ => cluster.cut_both(&leader, follower),
                }
            }
            another_leader(cluster, &leader);
            cluster.goes_on(15);
            cluster.mend_links();
            cluster.goes_on(5);
        }
    });
}

/// Scenario 19: one follower hears nobody, another is heard by nobody: neither disturbs the rest.
#[test]
fn followers_that_hear_or_are_heard_one_way_do_not_disturb() {
    scenario(Plan::of(5, 0), |cluster| {
        let (_, followers) = cluster.roles();
        for other in cluster.world.names() {
            if other != followers[0] {
                cluster.cut(&other, &followers[0]);
            }
            if other != followers[1] {
                cluster.cut(&followers[1], &other);
            }
        }
        for _ in 0..5 {
            cluster.goes_on(15);
            cluster.run_for(Duration::from_secs(1));
        }
    });
}

/// Scenario 15: a change is not begun where there is no majority.
#[test]
fn a_leader_without_a_majority_begins_no_change() {
    scenario(Plan::of(3, 1), |cluster| {
        let (leader, followers) = cluster.roles();
        followers.iter().for_each(|follower| cluster.crash(follower, false));
        cluster.run_for(Duration::from_secs(3));
        match cluster.errand(Errand::Add("n4".into())) {
            Err(fault) if fault.reason.is_transient() || fault.reason == Reason::Unsafe => {}
            ended => cluster.world.violation(format!("the command ended with {ended:?}")),
        }
        if cluster.said(&leader).is_some_and(|said| said.joint || said.nodes.len() != 3) {
            cluster.world.violation("a leader without a majority changed the membership".into());
        }
        followers.iter().for_each(|follower| cluster.restart(follower));
        cluster.goes_on(5);
    });
}
