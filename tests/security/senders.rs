//! Messages in the name of somebody else.

use quorate::wire::{
    Reason,
    raft::{SnapshotHeader, Vote},
};

use crate::{
    attacker::{Attacker, id_of, refused},
    common::Cluster,
};

/// An append whose vote names its receiver would make openraft lead without an election.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_in_the_name_of_its_receiver_or_of_a_third_node_is_refused() {
    let cluster = Cluster::of(3).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    let (leader, followers) = cluster.roles().await;
    let (target, other) = (followers[0], followers[1]);
    let term = cluster.membership(leader).term + 1;
    let ids = [target, other, leader].map(|number| id_of(&cluster, number));
    let pairs = [(ids[0], ids[0]), (ids[2], ids[0]), (ids[2], ids[1]), (ids[1], ids[2]), (0, 0), (0, ids[2])];
    for (from, node_id) in pairs {
        let attacker = Attacker::named(&cluster, from, target);
        let vote = |committed| Some(Vote { term, node_id, committed });
        let what = |kind: &str| format!("{kind} from {from} with the vote of {node_id}");
        refused(&what("an append"), attacker.heartbeat(vote(true)).await, Reason::NotAllowed);
        refused(&what("a vote"), attacker.stand(vote(false), None, false).await, Reason::NotAllowed);
        refused(&what("a transfer"), attacker.transfer(vote(true), None).await, Reason::NotAllowed);
        let header =
            SnapshotHeader { vote: vote(true), last_membership: Some(Default::default()), ..Default::default() };
        refused(&what("a snapshot"), attacker.install(header, &[]).await, Reason::NotAllowed);
    }
    // A candidate does not append, and a leader does not stand for election.
    let attacker = Attacker::new(&cluster, leader, target);
    refused("an append of a candidate", attacker.heartbeat(attacker.vote(term, false)).await, Reason::NotAllowed);
    refused("a leader's candidacy", attacker.stand(attacker.vote(term, true), None, false).await, Reason::NotAllowed);
    assert_eq!(cluster.membership(target).term, term - 1, "{}", cluster.status());
    alice.send("bob", "after").await;
    bob.eventually_sees("alice", &["after"]).await;
    cluster.assert_replicas_agree().await;
}

/// Raft must take leaders that it does not know, or a member that lags behind would be locked out (Ongaro, section 4.1).
/// A member that hears the voter it follows does not lag.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_no_voter_does_not_depose_a_leader_that_is_heard() {
    let cluster = Cluster::of(3).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    alice.send("bob", "before").await;
    let (leader, followers) = cluster.roles().await;
    let term = cluster.membership(leader).term;
    for target in followers {
        let attacker = Attacker::named(&cluster, 9, target);
        refused("a stranger's append", attacker.heartbeat(attacker.vote(term + 1, true)).await, Reason::NotAllowed);
        assert_eq!(cluster.membership(target).term, term, "{}", cluster.status());
    }
    assert_eq!(cluster.leader(), Some(leader), "{}", cluster.status());
    alice.send("bob", "after").await;
    bob.eventually_sees("alice", &["before", "after"]).await;
}
