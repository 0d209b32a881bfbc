//! Clusters that grow, shrink and are renewed while users write.

use std::time::Duration;

use quorate::wire::{Reason, admin::change_progress::Phase, cluster::Role};

use crate::{
    cluster::{Cluster, Plan},
    errands::Errand,
    runner::scenario,
};

/// Scenario 8.
#[test]
fn a_cluster_grows_from_one_to_five_and_shrinks_to_one_under_load() {
    scenario(Plan::of(1, 4), |cluster| {
        for name in ["n2", "n3", "n4", "n5"] {
            cluster.insist(Errand::Add(name.into()));
            cluster.goes_on(5);
        }
        cluster.expect_voters(&["n1", "n2", "n3", "n4", "n5"]);
        for _ in 0..4 {
            let (leader, followers) = cluster.roles();
            // The leader as well as others.
            let goes = if cluster.world.seed.is_multiple_of(2) { leader } else { followers[0].clone() };
            cluster.insist(Errand::Remove(goes));
            cluster.goes_on(5);
        }
        if cluster.named(Role::Voter).len() != 1 {
            let status = cluster.status();
            cluster.world.violation(format!("more than one voter is left\n{status}"));
        }
    });
}

/// Scenario 8: at the end no machine is left of those that began.
#[test]
fn every_node_is_replaced_one_by_one_under_load() {
    scenario(Plan::of(3, 3).snapshots(30), |cluster| {
        for (old, new) in [("n1", "n4"), ("n2", "n5"), ("n3", "n6")] {
            cluster.insist(Errand::Replace(old.into(), new.into()));
            cluster.goes_on(10);
        }
        cluster.expect_voters(&["n4", "n5", "n6"]);
    });
}

/// Scenario 8, with the power of some node going in each round.
#[test]
fn every_node_is_replaced_while_nodes_lose_their_power() {
    scenario(Plan::of(3, 3).snapshots(30), |cluster| {
        for (old, new) in [("n1", "n4"), ("n2", "n5"), ("n3", "n6")] {
            let ticket = cluster.ask(Errand::Replace(old.into(), new.into()));
            cluster.until_phase(ticket, Phase::LearnerAdded);
            let (leader, followers) = cluster.roles();
            let unlucky = if cluster.world.seed.is_multiple_of(2) { leader } else { followers[0].clone() };
            cluster.bounce(&unlucky, true);
            let _ = cluster.end_of(ticket);
            cluster.insist(Errand::Replace(old.into(), new.into()));
            cluster.goes_on(5);
        }
        cluster.expect_voters(&["n4", "n5", "n6"]);
    });
}

/// Scenario 10: writes never wait for it, it does not vote, and the command says why it ended.
#[test]
fn a_learner_that_cannot_catch_up_is_not_promoted_and_the_command_says_so() {
    scenario(Plan::of(3, 1), |cluster| {
        let ticket = cluster.ask(Errand::Add("n4".into()));
        cluster.until_phase(ticket, Phase::LearnerAdded);
        cluster.isolate("n4");
        cluster.goes_on(150);
        if cluster.named(Role::Learner) != ["n4"] {
            let status = cluster.status();
            cluster.world.violation(format!("a node that is cut off was promoted\n{status}"));
        }
        match cluster.end_of(ticket) {
            Err(fault) if matches!(fault.reason, Reason::Timeout | Reason::Unsafe) => {}
            ended => cluster.world.violation(format!("the command ended with {ended:?}")),
        }
        cluster.mend_links();
        cluster.insist(Errand::Add("n4".into()));
        cluster.expect_voters(&["n1", "n2", "n3", "n4"]);
    });
}

/// Scenario 11.
#[test]
fn with_one_of_three_dead_no_live_one_goes_and_the_dead_one_is_replaced() {
    scenario(Plan::of(3, 1), |cluster| {
        let (leader, followers) = cluster.roles();
        let (dead, alive) = (followers[0].clone(), followers[1].clone());
        cluster.crash(&dead, true);
        let gone = dead.clone();
        let missed = move |cluster: &mut Cluster| {
            let nodes = cluster.world.newest_leader().map(|said| said.nodes).unwrap_or_default();
            nodes.iter().any(|node| node.name == gone && !node.reachable)
        };
        cluster.expect("the leader misses it", Duration::from_secs(10), missed);
        cluster.refused(Errand::Remove(alive), Reason::Unsafe);
        cluster.refused(Errand::Remove(leader.clone()), Reason::Unsafe);
        if cluster.leader() != Some(leader) {
            cluster.world.violation("the leader stepped aside for a change that is refused".into());
        }
        cluster.insist(Errand::Replace(dead.clone(), "n4".into()));
        cluster.restart(&dead);
        cluster.recycle(&dead);
        cluster.goes_on(10);
    });
}
