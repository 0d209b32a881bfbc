//! Nodes that must not join as they are: unreachable, with the disk of a removed node, or with a wiped disk.

use std::time::Duration;

use quorate::wire::Reason;

use crate::{
    cluster::{Cluster, Plan},
    harness::scenario,
    operator_tasks::Task,
    world::State,
};

/// Long enough for a node to contact the others, to become a candidate, or to be accepted.
const A_WHILE: Duration = Duration::from_secs(4);

/// The version of the membership, as the leader reports it. It changes with every change.
fn etag(cluster: &Cluster) -> String {
    cluster.world.newest_leader().map(|report| report.etag).unwrap_or_default()
}

/// Scenario 1: a cluster of one could not write any more after adding a voter that does not answer.
#[test]
fn an_unreachable_node_is_refused_and_a_cluster_of_one_never_stops() {
    scenario(Plan::of(1, 1), |cluster| {
        cluster.wait_until_settled();
        let before = etag(cluster);
        cluster.cut_both("n1", "n2");
        let task = cluster.submit(Task::Add("n2".into()));
        cluster.expect_writes(20);
        match cluster.wait_for_result(task) {
            Err(fault) if fault.reason == Reason::Unsafe => {}
            ended => cluster
                .world
                .violation(format!("adding an unreachable node should be refused as unsafe, but ended with {ended:?}")),
        }
        if before.is_empty() || etag(cluster) != before {
            cluster
                .world
                .violation(format!("the refused change moved the membership from {before} to {}", etag(cluster)));
        }
        cluster.expect_writes(5);
        cluster.repair_links();
        cluster.run_until_done(Task::Add("n2".into()));
        cluster.expect_voters(&["n1", "n2"]);
    });
}

/// Scenario 7: a removed node stays removed, however often its process starts on the old disk.
#[test]
fn a_removed_node_does_not_come_back_with_its_old_disk() {
    scenario(Plan::of(3, 0), |cluster| {
        let (_, followers) = cluster.leader_and_followers();
        let gone = followers[0].clone();
        cluster.crash(&gone, true);
        cluster.run_until_done(Task::Remove(gone.clone()));
        let terms = cluster.world.terms_led();
        for _ in 0..3 {
            cluster.restart_on_its_disk(&gone);
            cluster.run_for(Duration::from_millis(100));
            let what = format!("{gone} knows that it was removed");
            let ended = |cluster: &mut Cluster| *cluster.world.machine(&gone).state.borrow() == State::Removed;
            cluster.expect(&what, Duration::from_secs(30), ended);
            cluster.expect_writes(3);
        }
        if cluster.world.terms_led() != terms {
            cluster.world.violation("a removed node caused an election".into());
        }
        cluster.restart(&gone);
        cluster.run_until_done(Task::Add(gone));
        cluster.expect_voters(&["n1", "n2", "n3"]);
    });
}

/// Scenario 7: a voter that lost its disk has forgotten its vote and its log, so it must not count as the voter it was.
/// (The world checks that it gets a new id: see `World::record_id`.)
#[test]
fn a_wiped_voter_is_nobody_until_it_is_removed_and_added_anew() {
    scenario(Plan::of(3, 0), |cluster| {
        let (_, followers) = cluster.leader_and_followers();
        let wiped = followers[0].clone();
        cluster.crash(&wiped, true);
        cluster.wipe(&wiped);
        cluster.restart_on_its_disk(&wiped);
        cluster.run_for(A_WHILE);
        if let Some(report) = cluster.report_of(&wiped) {
            cluster.world.violation(format!("a wiped node still reports itself as node {}", report.answered_by_id));
        }
        let noticed = |cluster: &mut Cluster| {
            let nodes = cluster.world.newest_leader().map(|report| report.nodes).unwrap_or_default();
            nodes.iter().any(|node| node.name == wiped && !node.reachable)
        };
        cluster.expect("the leader notices that the wiped node is gone", Duration::from_secs(10), noticed);
        cluster.expect_writes(5);
        cluster.run_until_done(Task::Remove(wiped.clone()));
        cluster.run_until_done(Task::Add(wiped));
        cluster.expect_voters(&["n1", "n2", "n3"]);
        cluster.expect_writes(5);
    });
}
