//! Changes that meet: with each other, with a leader that is cut off, with nodes that are gone.

use std::time::Duration;

use quorate::wire::{Reason, admin::change_progress::Phase, cluster::Role};

use crate::{
    cluster::{Cluster, Plan},
    errands::Errand,
    runner::scenario,
};

/// Both errands at once; each ends, and the membership is uniform afterwards. Says which were done.
fn both(cluster: &mut Cluster, first: Errand, second: Errand) -> [bool; 2] {
    let tickets = [cluster.ask(first), cluster.ask(second)];
    let done = tickets.map(|ticket| cluster.end_of(ticket).is_ok());
    cluster.settled();
    done
}

/// Scenario 2: the same node from two operators at once is one member.
#[test]
fn a_node_added_by_two_operators_at_once_is_one_member() {
    scenario(Plan::of(3, 1), |cluster| {
        both(cluster, Errand::Add("n4".into()), Errand::Add("n4".into()));
        cluster.insist(Errand::Add("n4".into()));
        cluster.expect_voters(&["n1", "n2", "n3", "n4"]);
    });
}

/// Scenario 4: neither is ever half done, and what was reported done is so.
#[test]
fn of_two_changes_at_once_each_is_done_or_refused() {
    scenario(Plan::of(3, 2), |cluster| {
        let (leader, followers) = cluster.roles();
        let went = followers[0].clone();
        let [added, removed] = both(cluster, Errand::Add("n4".into()), Errand::Remove(went.clone()));
        let voters = cluster.named(Role::Voter);
        if added && !voters.contains(&"n4".to_owned()) || removed && voters.contains(&went) {
            cluster.world.violation(format!("done: added {added}, removed {removed}; voters {voters:?}"));
        }
        cluster.insist(Errand::Add("n4".into()));
        cluster.insist(Errand::Remove(went.clone()));
        cluster.recycle(&went);
        // One place, two that want it.
        let old = cluster.named(Role::Voter).into_iter().find(|name| *name != leader && name != "n4").unwrap_or(leader);
        let [first, second] =
            both(cluster, Errand::Replace(old.clone(), "n5".into()), Errand::Replace(old.clone(), went.clone()));
        let voters = cluster.named(Role::Voter);
        if first && second || (first || second) && voters.contains(&old) {
            cluster.world.violation(format!("one place was given twice: {first} {second}, voters {voters:?}"));
        }
        cluster.goes_on(10);
    });
}

/// Scenario 4: opposite changes of one node.
#[test]
fn a_promotion_and_a_removal_of_one_node_at_once_leave_it_in_or_out() {
    scenario(Plan::of(3, 1), |cluster| {
        cluster.insist(Errand::AddLearner("n4".into()));
        both(cluster, Errand::Promote("n4".into()), Errand::Remove("n4".into()));
        cluster.goes_on(5);
        cluster.insist(Errand::Remove("n4".into()));
        cluster.recycle("n4");
        cluster.expect_voters(&["n1", "n2", "n3"]);
    });
}

/// Scenario 5: the joint entry stands on the old leader and the learner alone; the others elect without it.
#[test]
fn a_joint_entry_on_a_minority_leader_is_taken_back() {
    scenario(Plan::of(3, 1), |cluster| {
        cluster.insist(Errand::AddLearner("n4".into()));
        let (leader, followers) = cluster.roles();
        let ticket = cluster.ask(Errand::Promote("n4".into()));
        cluster.until_phase(ticket, Phase::Log);
        // The learner goes on following, and is promoted by a leader that has not missed the others yet.
        for follower in &followers {
            cluster.cut_both(&leader, follower);
            cluster.cut_both("n4", follower);
        }
        let is_joint = |cluster: &mut Cluster| cluster.said(&leader).is_some_and(|said| said.joint);
        cluster.expect("the leader appends the joint membership", Duration::from_secs(5), is_joint);
        let others = followers.clone();
        let elected = move |cluster: &mut Cluster| cluster.leader().is_some_and(|name| others.contains(&name));
        cluster.expect("the others elect", Duration::from_secs(20), elected);
        cluster.goes_on(5);
        cluster.mend_links();
        cluster.settled();
        let taken_back = |cluster: &mut Cluster| {
            let as_before = |name: &&str| {
                let nodes = cluster.said(name).filter(|said| !said.joint).map(|said| said.nodes).unwrap_or_default();
                nodes.iter().filter(|node| node.role() == Role::Voter).count() == 3
            };
            ["n1", "n2", "n3", "n4"].iter().all(as_before)
        };
        cluster.expect("the membership of before holds on every node", Duration::from_secs(20), taken_back);
        cluster.insist(Errand::Promote("n4".into()));
        cluster.expect_voters(&["n1", "n2", "n3", "n4"]);
    });
}

/// Scenario 6: a leader steps aside before it goes.
#[test]
fn leaders_are_removed_one_after_another() {
    scenario(Plan::of(5, 0), |cluster| {
        for _ in 0..3 {
            let (leader, _) = cluster.roles();
            cluster.insist(Errand::Remove(leader.clone()));
            cluster.recycle(&leader);
            cluster.goes_on(5);
        }
    });
}

/// Scenario 6: one is down, one is cut off; both learn of it when they return, and disturb nobody.
#[test]
fn nodes_that_are_removed_while_they_are_away_learn_of_it() {
    scenario(Plan::of(5, 0), |cluster| {
        let (_, followers) = cluster.roles();
        let (down, lost) = (followers[0].clone(), followers[1].clone());
        cluster.crash(&down, true);
        cluster.insist(Errand::Remove(down.clone()));
        cluster.isolate(&lost);
        cluster.insist(Errand::Remove(lost.clone()));
        let leader = cluster.settled();
        let terms = cluster.world.terms_led();
        cluster.restart(&down);
        // Long enough for both to stand for election, if they would.
        cluster.run_for(Duration::from_secs(4));
        cluster.mend_links();
        cluster.recycle(&down);
        cluster.recycle(&lost);
        if cluster.world.terms_led() != terms || cluster.leader() != Some(leader) {
            cluster.world.violation("removed nodes brought about an election".into());
        }
        cluster.goes_on(10);
    });
}

/// Scenario 4: what a safety check refuses leaves nothing behind.
#[test]
fn a_learner_is_not_removed_twice_nor_an_unknown_node_at_all() {
    scenario(Plan::of(3, 1), |cluster| {
        cluster.insist(Errand::AddLearner("n4".into()));
        let [first, second] = both(cluster, Errand::Remove("n4".into()), Errand::Remove("n4".into()));
        if first && second {
            cluster.world.violation("one node was removed twice".into());
        }
        cluster.insist(Errand::Remove("n4".into()));
        cluster.refused(Errand::Remove("n9".into()), Reason::NodeNotFound);
        cluster.recycle("n4");
    });
}
