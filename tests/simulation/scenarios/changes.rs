//! Membership changes at the same time, on a leader that is cut off, and of nodes that are away.

use std::time::Duration;

use quorate::wire::{Reason, admin::change_progress::Phase, cluster::Role};

use crate::{
    cluster::{Cluster, Plan},
    harness::scenario,
    operator_tasks::Task,
};

/// Runs two tasks at the same time. Both must end, and the membership must be uniform then. Returns which succeeded.
fn run_both(cluster: &mut Cluster, first: Task, second: Task) -> [bool; 2] {
    let tasks = [cluster.submit(first), cluster.submit(second)];
    let succeeded = tasks.map(|task| cluster.wait_for_result(task).is_ok());
    cluster.wait_until_settled();
    succeeded
}

/// Scenario 2: one node that two operators add at once becomes one member.
#[test]
fn a_node_added_by_two_operators_at_once_is_one_member() {
    scenario(Plan::of(3, 1), |cluster| {
        run_both(cluster, Task::Add("n4".into()), Task::Add("n4".into()));
        cluster.run_until_done(Task::Add("n4".into()));
        cluster.expect_voters(&["n1", "n2", "n3", "n4"]);
    });
}

/// Scenario 4: neither change is ever half done, and one that was reported done is done.
#[test]
fn of_two_changes_at_once_each_is_done_or_refused() {
    scenario(Plan::of(3, 2), |cluster| {
        let (leader, followers) = cluster.leader_and_followers();
        let leaving = followers[0].clone();
        let [added, removed] = run_both(cluster, Task::Add("n4".into()), Task::Remove(leaving.clone()));
        let voters = cluster.names_with_role(Role::Voter);
        if added && !voters.contains(&"n4".to_owned()) || removed && voters.contains(&leaving) {
            cluster
                .world
                .violation(format!("reported added: {added}, removed: {removed}, but the voters are {voters:?}"));
        }
        cluster.run_until_done(Task::Add("n4".into()));
        cluster.run_until_done(Task::Remove(leaving.clone()));
        cluster.reuse_removed(&leaving);
        // Two nodes are to replace the same one.
        let old = cluster
            .names_with_role(Role::Voter)
            .into_iter()
            .find(|name| *name != leader && name != "n4")
            .unwrap_or(leader);
        let [first, second] =
            run_both(cluster, Task::Replace(old.clone(), "n5".into()), Task::Replace(old.clone(), leaving.clone()));
        let voters = cluster.names_with_role(Role::Voter);
        if first && second || (first || second) && voters.contains(&old) {
            cluster.world.violation(format!(
                "replaced {old} by n5: {first}, by {leaving}: {second}, but the voters are {voters:?}"
            ));
        }
        cluster.expect_writes(10);
    });
}

/// Scenario 4: opposite changes of the same node.
#[test]
fn a_promotion_and_a_removal_of_one_node_at_once_leave_it_in_or_out() {
    scenario(Plan::of(3, 1), |cluster| {
        cluster.run_until_done(Task::AddLearner("n4".into()));
        run_both(cluster, Task::Promote("n4".into()), Task::Remove("n4".into()));
        cluster.expect_writes(5);
        cluster.remove_and_reuse("n4");
        cluster.expect_voters(&["n1", "n2", "n3"]);
    });
}

/// Scenario 5: only the old leader and the learner have the joint entry; the others elect a leader without it.
#[test]
fn a_joint_entry_on_a_minority_leader_is_taken_back() {
    scenario(Plan::of(3, 1), |cluster| {
        cluster.run_until_done(Task::AddLearner("n4".into()));
        let (leader, followers) = cluster.leader_and_followers();
        let task = cluster.submit(Task::Promote("n4".into()));
        cluster.wait_for_phase(task, Phase::Log);
        // The learner still follows, and the leader has not noticed yet that the others are gone, so it starts the
        // change.
        for follower in &followers {
            cluster.cut_both(&leader, follower);
            cluster.cut_both("n4", follower);
        }
        let is_joint = |cluster: &mut Cluster| cluster.report_of(&leader).is_some_and(|report| report.joint);
        cluster.expect("the leader appends the joint membership", Duration::from_secs(5), is_joint);
        let others = followers.clone();
        let elected = move |cluster: &mut Cluster| cluster.leader().is_some_and(|name| others.contains(&name));
        cluster.expect("the others elect a leader", Duration::from_secs(20), elected);
        cluster.expect_writes(5);
        cluster.repair_links();
        cluster.wait_until_settled();
        let is_truncated = |cluster: &mut Cluster| {
            let as_before = |name: &&str| {
                let nodes = cluster
                    .report_of(name)
                    .filter(|report| !report.joint)
                    .map(|report| report.nodes)
                    .unwrap_or_default();
                nodes.iter().filter(|node| node.role() == Role::Voter).count() == 3
            };
            ["n1", "n2", "n3", "n4"].iter().all(as_before)
        };
        cluster.expect("every node has the membership of before", Duration::from_secs(20), is_truncated);
        cluster.run_until_done(Task::Promote("n4".into()));
        cluster.expect_voters(&["n1", "n2", "n3", "n4"]);
    });
}

/// Scenario 6: a leader steps down before it is removed.
#[test]
fn leaders_are_removed_one_after_another() {
    scenario(Plan::of(5, 0), |cluster| {
        for _ in 0..3 {
            let (leader, _) = cluster.leader_and_followers();
            cluster.run_until_done(Task::Remove(leader.clone()));
            cluster.reuse_removed(&leader);
            cluster.expect_writes(5);
        }
    });
}

/// Scenario 6: one node is down, one is cut off. Both learn of their removal when they return, and cause no election.
#[test]
fn nodes_that_are_removed_while_they_are_away_learn_of_it() {
    scenario(Plan::of(5, 0), |cluster| {
        let (_, followers) = cluster.leader_and_followers();
        let (down, isolated) = (followers[0].clone(), followers[1].clone());
        cluster.crash(&down, true);
        cluster.run_until_done(Task::Remove(down.clone()));
        cluster.isolate(&isolated);
        cluster.run_until_done(Task::Remove(isolated.clone()));
        let leader = cluster.wait_until_settled();
        let terms = cluster.world.terms_led();
        cluster.restart(&down);
        // Long enough for either to become a candidate.
        cluster.run_for(Duration::from_secs(4));
        cluster.repair_links();
        cluster.reuse_removed(&down);
        cluster.reuse_removed(&isolated);
        if cluster.world.terms_led() != terms || cluster.leader() != Some(leader) {
            cluster.world.violation("removed nodes caused an election".into());
        }
        cluster.expect_writes(10);
    });
}

/// Scenario 4: a refused change leaves no trace.
#[test]
fn a_learner_is_not_removed_twice_nor_an_unknown_node_at_all() {
    scenario(Plan::of(3, 1), |cluster| {
        cluster.run_until_done(Task::AddLearner("n4".into()));
        let [first, second] = run_both(cluster, Task::Remove("n4".into()), Task::Remove("n4".into()));
        if first && second {
            cluster.world.violation("one node was removed twice".into());
        }
        cluster.run_until_done(Task::Remove("n4".into()));
        cluster.expect_refused(Task::Remove("n9".into()), Reason::NodeNotFound);
        cluster.reuse_removed("n4");
    });
}
