//! Clusters that grow, shrink and get new nodes while users write.

use std::time::Duration;

use quorate::wire::{Reason, admin::change_progress::Phase, cluster::Role};

use crate::{
    cluster::{Cluster, Plan},
    harness::scenario,
    operator_tasks::Task,
};

/// Scenario 8.
#[test]
fn a_cluster_grows_from_one_to_five_and_shrinks_to_one_under_load() {
    scenario(Plan::of(1, 4), |cluster| {
        for name in ["n2", "n3", "n4", "n5"] {
            cluster.run_until_done(Task::Add(name.into()));
            cluster.expect_writes(5);
        }
        cluster.expect_voters(&["n1", "n2", "n3", "n4", "n5"]);
        for _ in 0..4 {
            let (leader, followers) = cluster.leader_and_followers();
            // The seed decides whether leaders or followers are removed.
            let leaving = if cluster.world.seed.is_multiple_of(2) { leader } else { followers[0].clone() };
            cluster.run_until_done(Task::Remove(leaving));
            cluster.expect_writes(5);
        }
        if cluster.names_with_role(Role::Voter).len() != 1 {
            let status = cluster.status();
            cluster.world.violation(format!("more than one voter is left\n{status}"));
        }
    });
}

/// Scenario 8: at the end none of the first machines is left.
#[test]
fn every_node_is_replaced_one_by_one_under_load() {
    scenario(Plan::of(3, 3).snapshots(30), |cluster| {
        for (old, new) in [("n1", "n4"), ("n2", "n5"), ("n3", "n6")] {
            cluster.run_until_done(Task::Replace(old.into(), new.into()));
            cluster.expect_writes(10);
        }
        cluster.expect_voters(&["n4", "n5", "n6"]);
    });
}

/// Scenario 8: in each round some node loses its power.
#[test]
fn every_node_is_replaced_while_nodes_lose_their_power() {
    scenario(Plan::of(3, 3).snapshots(30), |cluster| {
        for (old, new) in [("n1", "n4"), ("n2", "n5"), ("n3", "n6")] {
            let task = cluster.submit(Task::Replace(old.into(), new.into()));
            cluster.wait_for_phase(task, Phase::LearnerAdded);
            let (leader, followers) = cluster.leader_and_followers();
            let unlucky = if cluster.world.seed.is_multiple_of(2) { leader } else { followers[0].clone() };
            cluster.crash_and_restart(&unlucky, true);
            let _ = cluster.wait_for_result(task);
            cluster.run_until_done(Task::Replace(old.into(), new.into()));
            cluster.expect_writes(5);
        }
        cluster.expect_voters(&["n4", "n5", "n6"]);
    });
}

/// Scenario 10: writes do not wait for the learner, it does not become a voter, and the command ends with the reason.
#[test]
fn a_learner_that_cannot_catch_up_is_not_promoted_and_the_command_says_so() {
    scenario(Plan::of(3, 1), |cluster| {
        let task = cluster.submit(Task::Add("n4".into()));
        cluster.wait_for_phase(task, Phase::LearnerAdded);
        cluster.isolate("n4");
        cluster.expect_writes(150);
        if cluster.names_with_role(Role::Learner) != ["n4"] {
            let status = cluster.status();
            cluster.world.violation(format!("a node that was cut off became a voter\n{status}"));
        }
        match cluster.wait_for_result(task) {
            Err(fault) if matches!(fault.reason, Reason::Timeout | Reason::Unsafe) => {}
            ended => cluster.world.violation(format!("the command ended with {ended:?}")),
        }
        cluster.repair_links();
        cluster.run_until_done(Task::Add("n4".into()));
        cluster.expect_voters(&["n1", "n2", "n3", "n4"]);
    });
}

/// Scenario 11.
#[test]
fn with_one_of_three_dead_no_live_one_goes_and_the_dead_one_is_replaced() {
    scenario(Plan::of(3, 1), |cluster| {
        let (leader, followers) = cluster.leader_and_followers();
        let (dead, alive) = (followers[0].clone(), followers[1].clone());
        cluster.crash(&dead, true);
        let gone = dead.clone();
        let noticed = move |cluster: &mut Cluster| {
            let nodes = cluster.world.newest_leader().map(|report| report.nodes).unwrap_or_default();
            nodes.iter().any(|node| node.name == gone && !node.reachable)
        };
        cluster.expect("the leader notices the dead node", Duration::from_secs(10), noticed);
        cluster.expect_refused(Task::Remove(alive), Reason::Unsafe);
        cluster.expect_refused(Task::Remove(leader.clone()), Reason::Unsafe);
        if cluster.leader() != Some(leader) {
            cluster.world.violation("the leader stepped down for a change that was refused".into());
        }
        cluster.run_until_done(Task::Replace(dead.clone(), "n4".into()));
        cluster.restart(&dead);
        cluster.reuse_removed(&dead);
        cluster.expect_writes(10);
    });
}
