//! Growing, shrinking and replacing under load (P6): the ledger finds no violation, and no change costs the cluster its
//! quorum.

use std::time::Duration;

use quorate::{
    client::Recipient,
    node::Exit,
    types::Consistency,
    wire::{
        Fault, Reason,
        admin::{TransferLeadershipRequest, admin_service_client::AdminServiceClient, change_progress::Phase},
        cluster::Role,
    },
};
use tokio::sync::mpsc;

use crate::common::{Cluster, Endpoint, Load, TIMEOUT, User, eventually};

/// Scenario 8 (P1 to P4, P6).
#[tokio::test]
async fn a_cluster_grows_to_five_and_shrinks_to_one_under_load() {
    let cluster = Cluster::of(1).spare(4).start().await;
    let load = Load::start(&cluster).await;
    for number in 2..=5 {
        eventually("it is added", async || cluster.add_node(number).await.map_err(|fault| format!("{fault:?}"))).await;
        load.goes_on(15).await;
    }
    cluster.wait_for_voters(5).await;
    for left in (1..=4).rev() {
        let (leader, followers) = cluster.roles().await;
        // Every other time the leader is removed.
        let gone = if left % 2 == 0 { leader } else { followers[0] };
        cluster
            .remove_node(gone, true)
            .await
            .unwrap_or_else(|fault| panic!("n{gone}: {fault:?}\n{}", cluster.status()));
        load.goes_on(15).await;
        assert_eq!(cluster.exited(gone).await, Exit::Removed);
    }
    cluster.wait_for_voters(1).await;
    load.finish(&cluster).await;
}

/// Scenario 8 (P1 to P4, P6): all nodes are replaced, one by one.
#[tokio::test]
async fn every_node_is_replaced_under_load() {
    let cluster = Cluster::of(3).spare(3).start().await;
    let load = Load::start(&cluster).await;
    for (old, new) in (1..=3).zip(4..=6) {
        cluster.replace_node(old, new).await.unwrap_or_else(|fault| panic!("n{old}: {fault:?}\n{}", cluster.status()));
        load.goes_on(15).await;
        assert_eq!(cluster.exited(old).await, Exit::Removed);
    }
    cluster.wait_for_voters(3).await;
    let leader = cluster.wait_for_leader().await;
    let mut voters = cluster.voters(leader);
    voters.sort_unstable();
    assert_eq!(voters, [4, 5, 6]);
    load.finish(&cluster).await;
}

/// Writes state that takes a while to send: 6 MB that do not compress.
async fn fill(cluster: &Cluster) -> User {
    let [alice, _bob] = cluster.accounts(["alice", "bob"]).await;
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..200 {
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            char::from(b'!' + u8::try_from(seed % 90).expect("below 90"))
        };
        let body: String = (0..30_000).map(|_| next()).collect();
        alice.session.send(&Recipient::Username("bob".into()), &body).await.unwrap();
    }
    alice
}

/// Scenarios 9 and 14 (P6): the sender of the snapshot dies half way, then the receiver.
#[tokio::test]
async fn a_learner_joins_by_snapshot_though_sender_and_receiver_die_half_way() {
    let cluster = Cluster::of(3).spare(1).snapshots(20, 0).start().await;
    let alice = fill(&cluster).await;
    let (leader, _) = cluster.roles().await;
    let newcomer = Endpoint::Node(4);
    // About a third of the snapshot.
    cluster.network.cut_after(Endpoint::Node(leader), newcomer, 2_000_000);
    let half_way = async |sender: usize| {
        eventually("the link is cut half way", async || {
            if cluster.network.is_cut(Endpoint::Node(sender), newcomer) { Ok(()) } else { Err(cluster.status()) }
        })
        .await;
    };
    let (_, ()) = tokio::join!(cluster.try_add_node(cluster.adding(4), |_| {}), async {
        half_way(leader).await;
        cluster.kill([leader]).await;
    });
    cluster.network.heal();
    let next = cluster.wait_for_leader().await;
    cluster.network.cut_after(Endpoint::Node(next), newcomer, 2_000_000);
    let (added, ()) = tokio::join!(cluster.add_node(4), async {
        half_way(next).await;
        cluster.kill([4]).await;
        cluster.network.heal();
        cluster.restart(4).await.unwrap();
    });
    added.unwrap_or_else(|fault| panic!("{fault:?}\n{}", cluster.status()));
    cluster.restart(leader).await.unwrap();
    cluster.wait_for_voters(4).await;
    cluster.assert_replicas_agree().await;
    let strays: Vec<_> = std::fs::read_dir(cluster.data_dir(4)).unwrap().filter_map(Result::ok).collect();
    let names: Vec<String> = strays.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(!names.iter().any(|name| name.contains("loading")), "{names:?}");
    // Scenario 14: with a snapshot and an empty log, it knows the membership after a restart.
    cluster.stop(4).await;
    cluster.restart(4).await.unwrap();
    cluster.wait_for_voters(4).await;
    let sent = alice.read_at(cluster.channel(4), "bob", Consistency::Linearizable, TIMEOUT).await.unwrap();
    assert!(!sent.is_empty());
}

/// Scenario 10 (P6): a learner that is cut off is not promoted, and writes go on.
#[tokio::test]
async fn a_learner_is_promoted_only_once_it_has_really_caught_up() {
    let cluster = Cluster::of(3).spare(1).start().await;
    let load = Load::start(&cluster).await;
    let (leader, _) = cluster.roles().await;
    let (seen, mut phases) = mpsc::unbounded_channel();
    let adding = cluster.try_add_node(cluster.adding(4), |message| {
        if message.phase() == Phase::LearnerAdded {
            cluster.isolate(4);
            let _ = seen.send(());
        }
    });
    let meanwhile = async {
        tokio::time::timeout(TIMEOUT, phases.recv()).await.expect("a learner is added");
        // The learner has nothing yet, and now lags by more than a promotion allows.
        load.goes_on(150).await;
        let view = cluster.membership(leader);
        let learner = view.nodes.iter().find(|node| node.name == "n4").expect("a learner");
        assert_eq!(learner.role(), Role::Learner, "not promoted while it is cut off\n{}", cluster.status());
        assert!(!view.joint);
        cluster.heal();
    };
    let (added, ()) = tokio::join!(adding, meanwhile);
    added.unwrap();
    cluster.wait_for_voters(4).await;
    load.finish(&cluster).await;
}

/// Scenario 11 (P6).
#[tokio::test]
async fn with_one_of_three_dead_a_live_one_stays_and_the_dead_one_is_replaced() {
    let cluster = Cluster::of(3).spare(1).start().await;
    let load = Load::start(&cluster).await;
    let (leader, followers) = cluster.roles().await;
    cluster.kill([followers[0]]).await;
    // At once: only nodes that answer now count, not nodes that answered a moment ago.
    for accept in [false, true] {
        let refused = cluster.remove_node(followers[1], accept).await.unwrap_err();
        assert_eq!((refused.reason, refused.reason.exit_code()), (Reason::Unsafe, 7), "{refused:?}");
        let refused = cluster.remove_node(leader, accept).await.unwrap_err();
        assert_eq!(refused.reason, Reason::Unsafe, "{refused:?}");
    }
    assert_eq!(cluster.leader(), Some(leader), "it did not even step aside");
    load.goes_on(10).await;
    cluster.replace_node(followers[0], 4).await.unwrap();
    cluster.wait_for_voters(3).await;
    load.goes_on(10).await;
    cluster.restart(followers[0]).await.unwrap();
    assert_eq!(cluster.exited(followers[0]).await, Exit::Removed, "it learns that it was replaced");
    load.finish(&cluster).await;
}

async fn transfer(cluster: &Cluster, to: &str) -> Result<(), Fault> {
    let client = cluster.client_with(Duration::from_secs(8)).for_slow_calls();
    let request = TransferLeadershipRequest { to_name: to.to_owned() };
    let asked = client.on_leader(|channel| {
        let request = request.clone();
        async move { AdminServiceClient::new(channel).transfer_leadership(request).await }
    });
    asked.await.map(drop)
}

/// Scenario 12 (P2, P6).
#[tokio::test]
async fn leadership_is_not_handed_to_the_dead_the_unknown_or_a_learner_and_writes_go_on() {
    let cluster = Cluster::of(3).spare(1).start().await;
    let load = Load::start(&cluster).await;
    cluster.add_learner(4).await.unwrap();
    let (leader, followers) = cluster.roles().await;
    assert_eq!(transfer(&cluster, "n4").await.unwrap_err().reason, Reason::Unsafe);
    assert_eq!(transfer(&cluster, "n9").await.unwrap_err().reason, Reason::NodeNotFound);
    assert_eq!(cluster.leader(), Some(leader));
    cluster.kill([followers[0]]).await;
    let dead = transfer(&cluster, &format!("n{}", followers[0])).await.unwrap_err();
    assert!(matches!(dead.reason, Reason::Unsafe | Reason::Timeout), "{dead:?}");
    load.goes_on(20).await;
    cluster.restart(followers[0]).await.unwrap();
    cluster.wait_for_voters(3).await;
    load.goes_on(5).await;
    load.finish(&cluster).await;
}

/// Scenario 12 (P6): leadership is transferred in the middle of a change.
#[tokio::test]
async fn a_change_during_which_leadership_is_handed_over_is_finished_by_the_same_command() {
    let cluster = Cluster::of(3).spare(1).start().await;
    let (_, followers) = cluster.roles().await;
    let (seen, mut phases) = mpsc::unbounded_channel();
    let adding = cluster.try_add_node(cluster.adding(4), |message| {
        if message.phase() == Phase::Log {
            let _ = seen.send(());
        }
    });
    let handing = async {
        tokio::time::timeout(TIMEOUT, phases.recv()).await.expect("it catches up");
        let _ = transfer(&cluster, &format!("n{}", followers[0])).await;
    };
    let (first, ()) = tokio::join!(adding, handing);
    if let Err(fault) = first {
        assert!(fault.reason.is_transient(), "{fault:?}");
    }
    cluster.add_node(4).await.unwrap();
    cluster.wait_for_voters(4).await;
    cluster.assert_replicas_agree().await;
}
