//! Changes of membership that meet trouble (P6). In the end each change is done or not begun, never half done.

use std::{collections::BTreeSet, pin::pin, time::Duration};

use quorate::{
    node::{Exit, StartError},
    wire::{
        Reason,
        admin::{AddNodeRequest, RemoveNodeRequest, admin_service_client::AdminServiceClient, change_progress::Phase},
        cluster::Role,
        raft::{AdoptRequest, CheckMemberRequest, join_service_client::JoinServiceClient},
    },
};
use tokio::sync::mpsc;

use crate::common::{Cluster, Endpoint, TIMEOUT, change, eventually};

fn node_id(cluster: &Cluster, leader: usize, name: &str) -> Option<u64> {
    cluster.membership(leader).nodes.iter().find(|node| node.name == name).map(|node| node.node_id)
}

fn role(cluster: &Cluster, leader: usize, name: &str) -> Option<Role> {
    cluster.membership(leader).nodes.iter().find(|node| node.name == name).map(|node| node.role())
}

/// Starts to add `number` and kills the leader as soon as the change reports `phase`. Returns the dead leader.
async fn add_and_kill_the_leader_at(cluster: &Cluster, number: usize, phase: Phase) -> usize {
    let leader = cluster.wait_for_leader().await;
    let (reached, mut stage) = mpsc::unbounded_channel();
    let adding = cluster.try_add_node(cluster.adding(number), move |message| {
        if message.phase() == phase {
            let _ = reached.send(());
        }
    });
    let kill = async {
        tokio::time::timeout(TIMEOUT, stage.recv()).await.expect("the phase is reached");
        cluster.kill([leader]).await;
    };
    let _ = tokio::join!(adding, kill);
    leader
}

/// The number of the progress message before the last, among those about a learner that has caught up. A cut at this
/// message comes too late for the safety check, which trusts the leader's lease, and in time for the joint entry.
const LAST_BUT_ONE: u32 = 4;

/// Scenario 1 (P6).
#[tokio::test]
async fn an_unreachable_node_is_refused_before_any_log_entry() {
    let cluster = Cluster::of(1).start().await;
    let [alice, _bob] = cluster.accounts(["alice", "bob"]).await;
    let before = cluster.membership(1);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for validate_only in [true, false] {
        let request =
            AddNodeRequest { name: "n2".into(), address: nobody.to_string(), validate_only, ..Default::default() };
        let fault = cluster.try_add_node(request, |_| {}).await.unwrap_err();
        assert_eq!(fault.reason, Reason::Unsafe, "{fault:?}");
        assert!(fault.message.contains("`answers`") && fault.next.is_some(), "{fault:?}");
    }
    let after = cluster.membership(1);
    assert_eq!((after.commit_index, after.etag), (before.commit_index, before.etag), "no log entry");
    alice.send("bob", "writes never stopped").await;
}

/// Scenario 2 (P6).
#[tokio::test]
async fn a_node_of_another_cluster_a_member_and_a_taken_name_or_address_are_told_apart() {
    let cluster = Cluster::of(2).spare(1).start().await;
    let other = Cluster::of(1).start().await;
    let (leader, _) = cluster.roles().await;
    let before = cluster.membership(leader);
    let adding = |name: &str, address: String| AddNodeRequest { name: name.into(), address, ..Default::default() };
    let of_other = other.address(1).to_string();
    let foreign = cluster.try_add_node(adding("n9", of_other), |_| {}).await.unwrap_err();
    assert!(foreign.reason == Reason::Unsafe && foreign.message.contains("another cluster"), "{foreign:?}");
    let name = cluster.try_add_node(adding("N2", cluster.address(3).to_string()), |_| {}).await.unwrap_err();
    assert!(name.reason == Reason::Unsafe && name.message.contains("bears that name"), "{name:?}");
    let address = cluster.try_add_node(adding("n3", cluster.address(2).to_string()), |_| {}).await.unwrap_err();
    assert!(address.reason == Reason::Unsafe && address.message.contains("is at"), "{address:?}");
    let again = cluster.add_node(2).await.unwrap();
    assert!(again.note.contains("nothing was left to do"), "{again:?}");
    let after = cluster.membership(leader);
    assert_eq!((&after.etag, after.nodes.len()), (&before.etag, 2), "nothing changed");
    assert_eq!(other.membership(1).nodes.len(), 1);
}

/// Scenario 2 (P6): two operators add the same node at once, and then one adds it again.
#[tokio::test]
async fn the_same_node_added_twice_at_once_is_one_member() {
    let cluster = Cluster::of(1).spare(1).start().await;
    let adding = || cluster.try_add_node(cluster.adding(2), |_| {});
    let (first, second) = tokio::join!(adding(), adding());
    assert!(first.is_ok() || second.is_ok(), "{first:?} {second:?}");
    for fault in [first, second].into_iter().filter_map(Result::err) {
        assert_eq!(fault.reason, Reason::ChangeInProgress, "{fault:?}");
    }
    cluster.add_node(2).await.unwrap();
    cluster.wait_for_voters(2).await;
}

/// Scenario 3 (P6): the leader dies while the new node adopts its identity. The connection breaks and the call is
/// dropped, so the node has to finish by itself.
#[tokio::test]
async fn an_addition_goes_on_after_the_caller_died_during_the_adoption() {
    let cluster = Cluster::of(1).spare(1).start().await;
    let adoption = AdoptRequest {
        cluster_id: cluster.membership(1).cluster_id,
        epoch: 1,
        node_id: 7,
        name: "n2".into(),
        address: cluster.address(2).to_string(),
        zone: String::new(),
    };
    let begun = || {
        let mut files = std::fs::read_dir(cluster.data_dir(2)).unwrap();
        files.any(|file| file.unwrap().file_name().to_string_lossy().starts_with("log.redb"))
    };
    let opening = async {
        while !begun() {
            tokio::task::yield_now().await;
        }
    };
    let mut caller = JoinServiceClient::new(cluster.channel(2));
    tokio::select! {
        // The node creates its stores and is about to write its identity. The caller is gone before consensus begins.
        () = opening => {}
        answer = caller.adopt(adoption) => drop(answer),
    }
    cluster.add_node(2).await.expect("the same command continues");
    cluster.wait_for_voters(2).await;
    assert_eq!(node_id(&cluster, 1, "n2"), Some(7), "under the identity that it has adopted");
}

/// Scenario 3 (P6): the leader dies at each phase of a change. The same command, given again, finishes the change.
#[tokio::test]
async fn an_addition_survives_the_leader_at_every_stage() {
    let cluster = Cluster::of(3).spare(4).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    let stages = [Phase::Checks, Phase::LearnerAdded, Phase::Log, Phase::Joint];
    for (number, phase) in (4..).zip(stages) {
        let dead = add_and_kill_the_leader_at(&cluster, number, phase).await;
        alice.send("bob", &format!("{phase:?}")).await;
        // For a moment the new leader believes that the dead one is alive, and refuses a node that cannot reach it.
        eventually("the same command finishes it", async || {
            cluster.add_node(number).await.map_err(|fault| format!("{phase:?}: {fault:?}"))
        })
        .await;
        cluster.restart(dead).await.unwrap();
        cluster.wait_for_voters(number).await;
    }
    let leader = cluster.wait_for_leader().await;
    let ids: BTreeSet<u64> = cluster.membership(leader).nodes.iter().map(|node| node.node_id).collect();
    assert_eq!(ids.len(), 7, "an id for each");
    bob.eventually_sees("alice", &["Checks", "LearnerAdded", "Log", "Joint"]).await;
    cluster.assert_replicas_agree().await;
}

/// Scenario 3 (P6): only the dead leader and one follower have the joint entry, which is not committed. That follower,
/// or the new node, leads next.
#[tokio::test]
async fn a_joint_configuration_that_a_new_leader_finds_is_completed() {
    let cluster = Cluster::of(5).spare(1).start().await;
    let (leader, followers) = cluster.roles().await;
    let cut = || {
        let away = [followers[1], followers[2], followers[3]];
        cluster.partition(&[leader, followers[0], 6], &away);
        for node in away {
            cluster.isolate(node);
        }
    };
    let (joint, mut begun) = mpsc::unbounded_channel();
    let mut level = 0;
    let adding = cluster.try_add_node(cluster.adding(6), move |message| match message.phase() {
        Phase::Log if message.lag_entries == 0 => {
            level += 1;
            if level == LAST_BUT_ONE {
                cut();
            }
        }
        Phase::Joint => {
            let _ = joint.send(());
        }
        _ => {}
    });
    let kill = async {
        tokio::time::timeout(TIMEOUT, begun.recv()).await.expect("the joint entry is appended");
        eventually("the joint entry at one follower", async || {
            if cluster.membership(followers[0]).joint { Ok(()) } else { Err(cluster.status()) }
        })
        .await;
        cluster.kill([leader]).await;
    };
    let _ = tokio::join!(adding, kill);
    cluster.heal();
    // Without this voter, only the two nodes with the joint entry, the follower and the new node, can win an election.
    cluster.isolate(followers[3]);
    let elected = cluster.wait_for_leader().await;
    assert!(elected == followers[0] || elected == 6, "{}", cluster.status());
    cluster.heal();
    cluster.wait_for_voters(6).await;
    cluster.restart(leader).await.unwrap();
    cluster.wait_for_voters(6).await;
    cluster.assert_replicas_agree().await;
}

/// Scenario 3 (P6): the leader is killed between the two steps of the joint change, as precisely as a test can aim.
#[tokio::test]
async fn a_leader_killed_while_joint_leaves_no_joint_configuration_behind() {
    let cluster = Cluster::of(3).spare(3).start().await;
    for number in 4..=6 {
        let (leader, followers) = cluster.roles().await;
        let (reached, mut stage) = mpsc::unbounded_channel();
        let adding = cluster.try_add_node(cluster.adding(number), |message| {
            if message.phase() == Phase::Joint {
                let begun = std::time::Instant::now();
                while !cluster.membership(followers[0]).joint && begun.elapsed() < Duration::from_millis(200) {}
                let _ = reached.send(());
            }
        });
        let kill = async {
            tokio::time::timeout(TIMEOUT, stage.recv()).await.expect("the phase is reached");
            cluster.kill([leader]).await;
        };
        let _ = tokio::join!(adding, kill);
        cluster.wait_for_leader().await;
        cluster.restart(leader).await.unwrap();
        eventually("no joint configuration anywhere", async || {
            let joint = (1..=6).any(|number| cluster.membership(number).joint);
            if joint { Err(cluster.status()) } else { Ok(()) }
        })
        .await;
        cluster.add_node(number).await.unwrap();
        cluster.wait_for_voters(number).await;
    }
    cluster.assert_replicas_agree().await;
}

/// Scenario 4 (P6): both changes carry the etag of the same membership, so at most one may succeed.
#[tokio::test]
async fn of_two_changes_of_one_membership_one_wins_and_the_other_conflicts() {
    let cluster = Cluster::of(3).spare(1).start().await;
    let (leader, followers) = cluster.roles().await;
    let etag = cluster.membership(leader).etag;
    let add = AddNodeRequest { etag: etag.clone(), learner_only: true, ..cluster.adding(4) };
    let remove = RemoveNodeRequest {
        name: format!("n{}", followers[0]),
        accept_lower_tolerance: true,
        etag,
        ..Default::default()
    };
    let client = cluster.client();
    let removing = change(
        &client,
        |mut admin: AdminServiceClient<_>| {
            let remove = remove.clone();
            async move { admin.remove_node(remove).await }
        },
        |_| {},
    );
    let (added, removed) = tokio::join!(cluster.try_add_node(add, |_| {}), removing);
    let won = [added.is_ok(), removed.is_ok()];
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{added:?} {removed:?}");
    let lost = added.err().or(removed.err()).expect("the other one");
    assert!(matches!(lost.reason, Reason::EtagMismatch | Reason::ChangeInProgress), "{lost:?}");
    assert_eq!(lost.reason.exit_code(), 4);
    let nodes = cluster.membership(leader).nodes.len();
    assert_eq!(nodes, if won[0] { 4 } else { 2 }, "{}", cluster.status());
}

/// Scenario 5 (P6).
#[tokio::test]
async fn a_joint_entry_of_a_leader_that_was_cut_off_is_taken_back() {
    let cluster = Cluster::of(3).spare(1).start().await;
    let (leader, followers) = cluster.roles().await;
    let (joint, mut begun) = mpsc::unbounded_channel();
    let mut level = 0;
    let adding = cluster.try_add_node(cluster.adding(4), |message| match message.phase() {
        Phase::Log if message.lag_entries == 0 => {
            level += 1;
            if level == LAST_BUT_ONE {
                cluster.partition(&[leader, 4], &followers);
            }
        }
        Phase::Joint => {
            let _ = joint.send(());
        }
        _ => {}
    });
    let elected = async {
        tokio::time::timeout(TIMEOUT, begun.recv()).await.expect("the joint entry is appended");
        eventually("the old leader is joint", async || match cluster.membership(leader).joint {
            true => Ok(()),
            false => Err(cluster.status()),
        })
        .await;
        let elected = cluster.wait_for_leader_among(&followers).await;
        cluster.heal();
        elected
    };
    let (_, elected) = tokio::join!(adding, elected);
    eventually("the old configuration holds on the old leader", async || {
        let (old, new) = (cluster.membership(leader), cluster.membership(elected));
        if !old.joint && old.etag == new.etag { Ok(()) } else { Err(cluster.status()) }
    })
    .await;
    assert_eq!(cluster.voters(elected).len(), 3, "{}", cluster.status());
    assert_eq!(role(&cluster, elected, "n4"), Some(Role::Learner));
    cluster.add_node(4).await.unwrap();
    cluster.wait_for_voters(4).await;
    cluster.assert_replicas_agree().await;
}

/// A leader that is deposed while it confirms its leadership does not know what its successor has done. It must not
/// tell a member that the member was removed.
#[tokio::test]
async fn a_leader_that_is_deposed_while_it_is_asked_does_not_say_who_is_a_member() {
    let cluster = Cluster::of(3).spare(1).start().await;
    let (old, followers) = cluster.roles().await;
    cluster.isolate(old);
    let new = cluster.wait_for_leader_among(&followers).await;
    // The client may ask the old leader first, which refuses because no node answers it.
    eventually("n4 is added", async || cluster.add_learner(4).await).await;
    let question = CheckMemberRequest {
        cluster_id: cluster.membership(new).cluster_id,
        epoch: 1,
        node_id: node_id(&cluster, new, "n4").unwrap(),
        ..Default::default()
    };
    let deposed = cluster.node(old).unwrap();
    assert_eq!(deposed.membership().leader_id, deposed.membership().answered_by_id, "it has not heard of another");
    let mut asked = pin!(deposed.check_member(question.clone()));
    assert!(futures::poll!(asked.as_mut()).is_pending(), "it asks the others first");
    cluster.heal();
    let answer = asked.await;
    let doubt = [Reason::NotLeader, Reason::NoLeader, Reason::NoQuorum];
    assert!(answer.as_ref().is_err_and(|fault| doubt.contains(&fault.reason)), "{answer:?}");
    let known = eventually("the leader answers", async || {
        cluster.node(cluster.wait_for_leader().await).unwrap().check_member(question.clone()).await
    });
    assert!(known.await.member);
}

/// Scenarios 6 and 7 (P6): the leader, a follower that is down, and a follower that is cut off are removed; the last
/// two return.
#[tokio::test]
async fn removed_nodes_learn_of_it_and_disturb_nobody() {
    let cluster = Cluster::of(5).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    let (leader, followers) = cluster.roles().await;
    cluster.remove_node(leader, true).await.unwrap();
    assert_eq!(cluster.exited(leader).await, Exit::Removed);
    cluster.stop(leader).await;
    let again = cluster.restart(leader).await.unwrap_err();
    assert!(matches!(again, StartError::Removed { .. }), "{again}");
    cluster.wait_for_voters(4).await;

    let leader = cluster.wait_for_leader().await;
    let mut rest = followers.into_iter().filter(|number| *number != leader);
    let (down, away) = (rest.next().unwrap(), rest.next().unwrap());
    cluster.kill([down]).await;
    cluster.remove_node(down, true).await.unwrap();
    cluster.isolate(away);
    eventually("a removal while the node is cut off", async || {
        cluster.remove_node(away, true).await.map_err(|fault| format!("{fault:?}"))
    })
    .await;
    alice.send("bob", "two are left").await;

    let term = cluster.membership(leader).term;
    cluster.restart(down).await.unwrap();
    cluster.heal();
    assert_eq!(cluster.exited(down).await, Exit::Removed);
    assert_eq!(cluster.exited(away).await, Exit::Removed);
    let now = cluster.membership(leader);
    assert_eq!((now.term, now.leader_id), (term, now.answered_by_id), "nobody was disturbed\n{}", cluster.status());
    bob.eventually_sees("alice", &["two are left"]).await;
    cluster.assert_replicas_agree().await;
}

/// Scenario 7 (P6): a node id is never used twice.
#[tokio::test]
async fn a_node_comes_back_only_empty_and_under_a_new_id() {
    let cluster = Cluster::of(3).start().await;
    let (leader, followers) = cluster.roles().await;
    let back = followers[0];
    let name = format!("n{back}");
    let old = node_id(&cluster, leader, &name).expect("a member");
    // Wiped while it is a member: it is an empty node and takes no part in the cluster.
    cluster.kill([back]).await;
    cluster.wipe(back).await;
    cluster.restart(back).await.unwrap();
    assert_eq!(cluster.membership(back).answered_by_id, 0, "an empty node");
    cluster.remove_node(back, true).await.unwrap();
    cluster.add_node(back).await.unwrap();
    let new = node_id(&cluster, leader, &name).expect("a member again");
    assert!(new > old, "{new} after {old}");
    cluster.wait_for_voters(3).await;
    cluster.assert_replicas_agree().await;
}

/// Scenario 7 (P6): a node with an empty, fully compacted log is not an empty node.
#[tokio::test]
async fn a_removed_node_with_a_compacted_log_is_not_taken_for_a_fresh_one() {
    let cluster = Cluster::of(3).snapshots(1, 0).start().await;
    cluster.transfer_leader(1).await;
    eventually("all of the log of n3 is compacted", async || {
        cluster.stop(3).await;
        let found = cluster.inspect(3).await;
        let last = found.last_log_id.map_or(0, |id| id.index);
        if found.first_log_index > last {
            return Ok(());
        }
        cluster.restart(3).await.unwrap();
        cluster.assert_replicas_agree().await;
        cluster.node(3).expect("it runs").trigger_snapshot().await.unwrap();
        Err(format!("the log reaches from {} to {last}", found.first_log_index))
    })
    .await;
    cluster.remove_node(3, true).await.unwrap();
    // It cannot ask the others whether it is still a member, so it does not know yet that it was removed.
    for other in [1, 2] {
        cluster.network.refuse(Endpoint::Node(3), Endpoint::Node(other));
    }
    cluster.restart(3).await.unwrap();
    let refused = cluster.try_add_node(cluster.adding(3), |_| {}).await.unwrap_err();
    assert!(refused.reason == Reason::Unsafe && refused.message.contains("`empty node`"), "{refused:?}");
    cluster.heal();
    assert_eq!(cluster.exited(3).await, Exit::Removed);
    assert_eq!(cluster.voters(1).len(), 2, "{}", cluster.status());
}
