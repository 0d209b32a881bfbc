//! Nodes that do not belong: out of reach, with an old disk, or with none of what their id stands for.

use std::time::Duration;

use quorate::wire::Reason;

use crate::{
    cluster::{Cluster, Plan},
    errands::Errand,
    runner::scenario,
    world::State,
};

/// Long enough for any node to be heard, to stand for election, or to be let in.
const A_WHILE: Duration = Duration::from_secs(4);

/// The etag of the membership as the leader has it.
fn etag(cluster: &Cluster) -> String {
    cluster.world.newest_leader().map(|said| said.etag).unwrap_or_default()
}

/// Scenario 1: with a second voter that does not answer, a cluster of one could not write any more.
#[test]
fn an_unreachable_node_is_refused_and_a_cluster_of_one_never_stops() {
    scenario(Plan::of(1, 1), |cluster| {
        cluster.settled();
        let before = etag(cluster);
        cluster.cut_both("n1", "n2");
        let ticket = cluster.ask(Errand::Add("n2".into()));
        cluster.goes_on(20);
        match cluster.end_of(ticket) {
            Err(fault) if fault.reason == Reason::Unsafe => {}
            ended => cluster.world.violation(format!("n2 was to be refused: {ended:?}")),
        }
        if before.is_empty() || etag(cluster) != before {
            cluster.world.violation(format!("the membership was {before}, and is {}", etag(cluster)));
        }
        cluster.goes_on(5);
        cluster.mend_links();
        cluster.insist(Errand::Add("n2".into()));
        cluster.expect_voters(&["n1", "n2"]);
    });
}

/// Scenario 7: whoever was removed stays so, however often its old disk is started.
#[test]
fn a_removed_node_does_not_come_back_with_its_old_disk() {
    scenario(Plan::of(3, 0), |cluster| {
        let (_, followers) = cluster.roles();
        let gone = followers[0].clone();
        cluster.crash(&gone, true);
        cluster.insist(Errand::Remove(gone.clone()));
        let terms = cluster.world.terms_led();
        for _ in 0..3 {
            cluster.restart_on_its_disk(&gone);
            cluster.run_for(Duration::from_millis(100));
            let told = format!("{gone} knows that it was removed");
            let ended = |cluster: &mut Cluster| *cluster.world.machine(&gone).state.borrow() == State::Removed;
            cluster.expect(&told, Duration::from_secs(30), ended);
            cluster.goes_on(3);
        }
        if cluster.world.terms_led() != terms {
            cluster.world.violation("a removed node brought about an election".into());
        }
        cluster.restart(&gone);
        cluster.insist(Errand::Add(gone));
        cluster.expect_voters(&["n1", "n2", "n3"]);
    });
}

/// Scenario 7: a voter without its disk knows nothing of its vote or its log; it must not be taken for what it was. (That
/// it gets another id is held by the world, disk by disk.)
#[test]
fn a_wiped_voter_is_nobody_until_it_is_removed_and_added_anew() {
    scenario(Plan::of(3, 0), |cluster| {
        let (_, followers) = cluster.roles();
        let wiped = followers[0].clone();
        cluster.crash(&wiped, true);
        cluster.wipe(&wiped);
        cluster.restart_on_its_disk(&wiped);
        cluster.run_for(A_WHILE);
        if let Some(said) = cluster.said(&wiped) {
            cluster.world.violation(format!("a wiped node takes itself for node {}", said.answered_by_id));
        }
        let missed = |cluster: &mut Cluster| {
            let nodes = cluster.world.newest_leader().map(|said| said.nodes).unwrap_or_default();
            nodes.iter().any(|node| node.name == wiped && !node.reachable)
        };
        cluster.expect("the wiped node is missed", Duration::from_secs(10), missed);
        cluster.goes_on(5);
        cluster.insist(Errand::Remove(wiped.clone()));
        cluster.insist(Errand::Add(wiped));
        cluster.expect_voters(&["n1", "n2", "n3"]);
        cluster.goes_on(5);
    });
}
