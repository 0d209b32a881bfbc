//! Terms and log ids that no cluster reaches.

use quorate::wire::{
    Reason,
    raft::{AppendRequest, LogId, SnapshotHeader, StoredMembership},
};

use crate::{
    attacker::{Attacker, refused},
    common::Cluster,
};

const GREATEST: u64 = u64::MAX;

/// Every request that carries a vote. openraft adopts a greater one, and adds one to it at the next election.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_message_of_the_greatest_term_does_not_end_elections() {
    let cluster = Cluster::of(3).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    alice.send("bob", "before").await;
    let (leader, followers) = cluster.roles().await;
    let term = cluster.membership(leader).term;
    for target in [followers[0], followers[1], leader] {
        // A follower is told in the name of the leader, the leader in the name of a follower.
        let from = if target == leader { followers[0] } else { leader };
        let attacker = Attacker::new(&cluster, from, target);
        for claimed in [GREATEST, GREATEST - 1, 1 << 62, 1 << 48] {
            let (leads, stands) = (attacker.vote(claimed, true), attacker.vote(claimed, false));
            let last = Some(LogId { term, index: 1 << 30 });
            refused("an append", attacker.heartbeat(leads).await, Reason::InvalidArgument);
            refused("a vote", attacker.stand(stands, last, false).await, Reason::InvalidArgument);
            refused("a pre-vote", attacker.stand(stands, last, true).await, Reason::InvalidArgument);
            refused("a transfer", attacker.transfer(leads, last).await, Reason::InvalidArgument);
            let last_membership = Some(StoredMembership::default());
            let header = SnapshotHeader { vote: leads, last_log_id: last, last_membership, ..Default::default() };
            refused("a snapshot", attacker.install(header, &[]).await, Reason::InvalidArgument);
        }
    }
    cluster.kill([leader]).await;
    let next = cluster.wait_for_leader_among(&followers).await;
    assert!(cluster.membership(next).term < term + 100, "{}", cluster.status());
    alice.send("bob", "after").await;
    cluster.restart(leader).await.expect("it starts");
    bob.eventually_sees("alice", &["before", "after"]).await;
    cluster.assert_replicas_agree().await;
}

/// A leader may be far ahead of a follower, but no log is as long as this. openraft adds one to an index, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_ids_that_no_leader_has_are_refused() {
    let cluster = Cluster::of(3).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    let (leader, followers) = cluster.roles().await;
    let attacker = Attacker::new(&cluster, leader, followers[0]);
    let term = cluster.membership(leader).term;
    let id = |term, index| Some(LogId { term, index });
    let leads = attacker.vote(term, true);
    let append =
        |prev_log_id, leader_commit| AppendRequest { vote: leads, prev_log_id, leader_commit, ..Default::default() };
    for (what, request) in [
        ("the greatest index", append(id(term, GREATEST), None)),
        ("a commit of the greatest index", append(None, id(term, GREATEST))),
        ("an index that no cursor holds", append(id(term, 1 << 44), None)),
        ("an entry of a later term", append(id(term + 1, 3), None)),
        ("a commit of a later term", append(None, id(GREATEST, 3))),
    ] {
        refused(what, attacker.append(request).await, Reason::InvalidArgument);
    }
    let stands = attacker.vote(term + 1, false);
    refused("a log of a later term", attacker.stand(stands, id(term + 2, 9), false).await, Reason::InvalidArgument);
    alice.send("bob", "after").await;
    bob.eventually_sees("alice", &["after"]).await;
    cluster.assert_replicas_agree().await;
}
