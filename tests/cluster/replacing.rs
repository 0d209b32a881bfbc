//! Who may replace whom, and new nodes that are not what the operator says (P6).

use quorate::wire::{
    Reason,
    admin::{AddNodeRequest, RemoveNodeRequest},
    cluster::Role,
};

use crate::common::{Cluster, Endpoint, eventually};

/// A voter that replaces another voter leaves one voter fewer. With two of five dead, that would stop writes.
#[tokio::test]
async fn a_voter_takes_nobodys_place() {
    let cluster = Cluster::of(5).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    let (leader, followers) = cluster.roles().await;
    let (one, other) = (followers[0], followers[1]);
    for dead in [None, Some([followers[2], followers[3]])] {
        cluster.kill(dead.into_iter().flatten()).await;
        let before = cluster.membership(leader).etag;
        let fault = cluster.replace_node(one, other).await.unwrap_err();
        assert!(fault.reason == Reason::Unsafe && fault.message.contains("is a voter already"), "{fault:?}");
        assert_eq!(cluster.membership(leader).etag, before, "no log entry");
    }
    alice.send("bob", "writes go on").await;
    bob.eventually_sees("alice", &["writes go on"]).await;
}

#[tokio::test]
async fn a_learner_takes_a_members_place_if_it_answers() {
    let cluster = Cluster::of(3).spare(1).start().await;
    let (leader, followers) = cluster.roles().await;
    cluster.add_learner(4).await.unwrap();
    cluster.kill([4]).await;
    let fault = cluster.replace_node(followers[0], 4).await.unwrap_err();
    assert!(fault.reason == Reason::Unsafe && fault.message.contains("does not answer"), "{fault:?}");
    assert_eq!(cluster.voters(leader).len(), 3);
    cluster.restart(4).await.unwrap();
    eventually("it takes the place", async || cluster.replace_node(followers[0], 4).await).await;
    cluster.wait_for_voters(3).await;
    assert!(cluster.voters(cluster.wait_for_leader().await).contains(&4));
}

/// The check comes first. If the leader stepped down before a refusal, the election would be for nothing.
#[tokio::test]
async fn a_leader_that_is_not_to_be_replaced_goes_on_leading() {
    let cluster = Cluster::of(3).start().await;
    let (leader, followers) = cluster.roles().await;
    let term = cluster.membership(leader).term;
    let fault = cluster.replace_node(leader, followers[0]).await.unwrap_err();
    assert_eq!(fault.reason, Reason::Unsafe, "{fault:?}");
    let now = cluster.membership(leader);
    assert_eq!((now.leader_id, now.term), (now.answered_by_id, term));
}

/// The wiped node answers at its old address as an empty node. Its replacement need not reach it.
#[tokio::test]
async fn a_wiped_voter_is_replaced_by_a_fresh_node() {
    let cluster = Cluster::of(3).spare(1).start().await;
    let (_, followers) = cluster.roles().await;
    cluster.kill([followers[0]]).await;
    cluster.wipe(followers[0]).await;
    cluster.restart(followers[0]).await.unwrap();
    eventually("it is replaced", async || cluster.replace_node(followers[0], 4).await).await;
    cluster.wait_for_voters(3).await;
}

#[tokio::test]
async fn a_newcomer_is_let_in_as_it_was_started_and_not_otherwise() {
    let cluster = Cluster::of(1).spare(1).zones(&["a", "b"]).start().await;
    // Makes sure that nothing else is about to enter the log.
    cluster.accounts(["alice"]).await;
    let before = cluster.membership(1).commit_index;
    let right = cluster.adding(2);
    for (wrong, complaint) in [
        (AddNodeRequest { name: "n9".into(), ..right.clone() }, "--name n2, not n9"),
        (AddNodeRequest { zone: "elsewhere".into(), ..right.clone() }, "not elsewhere"),
    ] {
        let fault = cluster.try_add_node(wrong, |_| {}).await.unwrap_err();
        assert!(fault.reason == Reason::Unsafe && fault.message.contains(complaint), "{fault:?}");
    }
    assert_eq!(cluster.membership(1).commit_index, before, "no log entry");
    cluster.try_add_node(AddNodeRequest { zone: String::new(), ..right.clone() }, |_| {}).await.unwrap();
    let added = cluster.membership(1).nodes.into_iter().find(|node| node.name == "n2").unwrap();
    assert_eq!(added.zone, cluster.zone(2), "its own");
    let again = cluster.try_add_node(AddNodeRequest { zone: "elsewhere".into(), ..right.clone() }, |_| {}).await;
    assert_eq!(again.unwrap_err().reason, Reason::NameTaken);
    let learner = cluster.try_add_node(AddNodeRequest { learner_only: true, ..right }, |_| {}).await;
    assert_eq!(learner.unwrap_err().reason, Reason::NameTaken);
}

/// The leader reaches the new node, and the new node reaches every voter, but one voter does not reach the new node. As
/// leader, that voter could never replicate to it.
#[tokio::test]
async fn a_newcomer_that_one_voter_does_not_reach_is_refused() {
    let cluster = Cluster::of(3).spare(1).start().await;
    let (leader, followers) = cluster.roles().await;
    let before = cluster.membership(leader).etag;
    cluster.network.refuse(Endpoint::Node(followers[1]), Endpoint::Node(4));
    let fault = cluster.try_add_node(cluster.adding(4), |_| {}).await.unwrap_err();
    let complaint = format!("n{} does not reach it", followers[1]);
    assert!(fault.reason == Reason::Unsafe && fault.message.contains(&complaint), "{fault:?}");
    assert_eq!(cluster.membership(leader).etag, before, "nothing was changed");
    cluster.heal();
    cluster.add_node(4).await.unwrap();
}

/// A dry run shows the fault tolerance after the change.
#[tokio::test]
async fn a_change_that_is_only_judged_tells_what_dry_run_survived() {
    let cluster = Cluster::of(3).spare(2).start().await;
    let (leader, followers) = cluster.roles().await;
    let adding = AddNodeRequest { validate_only: true, ..cluster.adding(4) };
    let dry_run = cluster.try_add_node(adding, |_| {}).await.unwrap().tolerance.unwrap();
    assert_eq!((dry_run.voters, dry_run.quorum), (4, 3));
    let removing = RemoveNodeRequest {
        name: format!("n{}", followers[0]),
        accept_lower_tolerance: true,
        validate_only: true,
        ..Default::default()
    };
    let dry_run = cluster.try_remove_node(removing).await.unwrap().tolerance.unwrap();
    assert_eq!((dry_run.voters, dry_run.survives_any_nodes), (2, 0));
    assert!(cluster.membership(leader).nodes.iter().all(|node| node.role() == Role::Voter), "nothing was changed");
}
