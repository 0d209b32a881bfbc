//! The promises P1 to P4 and P8, attacked through the real client while nodes die, links break and clocks jump.

use std::time::Duration;

use prost::Message;
use quorate::{
    types::Consistency,
    wire::{Fault, Reason, cluster::LeaderHint},
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::common::{Cluster, Endpoint, Load, eventually};

/// Timeout of a call to one node.
const SOON: Duration = Duration::from_secs(5);

/// P1, P2, P8.
#[tokio::test]
async fn an_acknowledged_message_survives_a_deposed_leader() {
    let cluster = Cluster::of(5).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    let (leader, followers) = cluster.roles().await;
    cluster.partition(&[leader, followers[0]], &followers[1..]);
    alice.send("bob", "kept").await;
    cluster.heal();
    cluster.kill([leader]).await;
    bob.eventually_sees("alice", &["kept"]).await;
    cluster.assert_replicas_agree().await;
}

/// P2: two nodes, the leader among them, are killed, then cut off from the other nodes, then cut off from all.
#[tokio::test]
async fn any_two_of_five_may_fail() {
    let cluster = Cluster::of(5).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    let (leader, followers) = cluster.roles().await;
    let lost = [leader, followers[1]];
    cluster.kill(lost).await;
    alice.send("bob", "two are dead").await;
    bob.eventually_sees("alice", &["two are dead"]).await;
    cluster.restart_all(lost).await;
    cluster.assert_replicas_agree().await;

    let (leader, followers) = cluster.roles().await;
    cluster.isolate(leader);
    cluster.isolate(followers[0]);
    alice.send("bob", "two are cut off").await;
    bob.eventually_sees("alice", &["two are dead", "two are cut off"]).await;
    cluster.heal();
    cluster.assert_replicas_agree().await;

    let (leader, followers) = cluster.roles().await;
    cluster.isolate_from_all(leader);
    cluster.isolate_from_all(followers[2]);
    alice.send("bob", "two are silent").await;
    bob.eventually_sees("alice", &["two are dead", "two are cut off", "two are silent"]).await;
    cluster.heal();
    cluster.assert_replicas_agree().await;
}

/// P2 and scenario 20: after a third failure, writes are refused in bounded time with a reason. Nothing is lost, and
/// writes go on as soon as one node returns.
#[tokio::test]
async fn without_a_majority_writes_are_refused_and_stale_reads_served_until_one_returns() {
    let cluster = Cluster::of(5).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    alice.send("bob", "before").await;
    let (leader, followers) = cluster.roles().await;
    cluster.kill([followers[0], followers[1]]).await;
    alice.send("bob", "with three").await;
    cluster.kill([followers[2]]).await;
    for number in [leader, followers[3]] {
        let refused = alice.send_at(cluster.channel(number), "bob", "with two", SOON).await;
        let fault = Fault::from_status(&refused.expect_err("no majority"));
        let named = matches!(fault.reason, Reason::NoQuorum | Reason::NoLeader | Reason::NotLeader | Reason::Timeout);
        assert!(named, "at n{number}: {fault:?}");
        let stale = bob.read_at(cluster.channel(number), "alice", Consistency::Stale, SOON).await;
        assert!(stale.expect("a stale read").contains(&"before".to_owned()), "at n{number}");
        let fresh = bob.read_at(cluster.channel(number), "alice", Consistency::Linearizable, SOON).await;
        let fault = Fault::from_status(&fresh.expect_err("nobody can vouch for it"));
        assert!(fault.reason.is_transient(), "at n{number}: {fault:?}");
    }
    assert!(cluster.leader().is_none(), "nobody leads with a majority\n{}", cluster.status());
    cluster.restart(followers[0]).await.unwrap();
    alice.send("bob", "with three again").await;
    let bodies = bob.bodies("alice", Consistency::Linearizable).await.unwrap();
    assert_eq!(bodies.first().map(String::as_str), Some("before"));
    assert_eq!(bodies.last().map(String::as_str), Some("with three again"));
    cluster.restart_all([followers[1], followers[2]]).await;
    cluster.assert_replicas_agree().await;
}

/// P3: the status alone tells any gRPC client how to find the leader.
#[tokio::test]
async fn a_follower_sends_writers_to_the_leader_with_every_detail() {
    let cluster = Cluster::of(3).start().await;
    let [alice, _bob] = cluster.accounts(["alice", "bob"]).await;
    let (leader, followers) = cluster.roles().await;
    let status = alice.send_at(cluster.channel(followers[0]), "bob", "here?", SOON).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let details = status.get_error_details();
    let info = details.error_info().expect("ErrorInfo");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("NOT_LEADER", "quorate"));
    let address = cluster.address(leader).to_string();
    assert_eq!(info.metadata.get("leader_address"), Some(&address));
    assert!(details.retry_info().and_then(|retry| retry.retry_delay).is_some_and(|delay| delay < SOON));
    let any = tonic_types::pb::Status::decode(status.details()).expect("google.rpc.Status").details;
    let hint = any.iter().find(|any| any.type_url == "type.googleapis.com/chat.cluster.v1.LeaderHint");
    let hint = LeaderHint::decode(hint.expect("LeaderHint").value.as_slice()).expect("LeaderHint");
    let view = cluster.membership(leader);
    assert_eq!((hint.leader_address, hint.cluster_id), (address, view.cluster_id));
    assert_eq!((hint.leader_id, hint.term), (view.answered_by_id, view.term));
    assert_eq!(info.metadata.get("leader_id"), Some(&hint.leader_id.to_string()));
}

/// P3.
#[tokio::test]
async fn a_read_anywhere_sees_what_was_acknowledged_elsewhere_just_before() {
    let cluster = Cluster::of(3).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    let channels: Vec<_> = (1..=3).map(|number| cluster.channel(number)).collect();
    for number in 0..30 {
        let body = format!("message {number}");
        alice.send("bob", &body).await;
        let at = number % 3;
        let read = bob.read_at(channels[at].clone(), "alice", Consistency::Linearizable, SOON).await.unwrap();
        assert_eq!(read.last(), Some(&body), "at n{}", at + 1);
        let index = alice.session.index();
        let read =
            bob.read_at(channels[(at + 1) % 3].clone(), "alice", Consistency::AtLeast(index), SOON).await.unwrap();
        assert_eq!(read.last(), Some(&body), "at least {index} at n{}", (at + 1) % 3 + 1);
    }
}

/// P3 and scenario 15.
#[tokio::test]
async fn a_minority_leader_answers_only_stale_reads_and_loses_nothing_it_promised() {
    let cluster = Cluster::of(5).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    alice.send("bob", "one").await;
    let (old, followers) = cluster.roles().await;
    cluster.partition(&[old, followers[0]], &followers[1..]);
    let channel = cluster.channel(old);
    // From the first moment on, while it still believes that it leads.
    for _ in 0..3 {
        let fresh = bob.read_at(channel.clone(), "alice", Consistency::Linearizable, Duration::from_millis(700)).await;
        let fault = Fault::from_status(&fresh.expect_err("it cannot know"));
        assert!(fault.reason.is_transient(), "{fault:?}");
    }
    let refused = alice.send_at(channel.clone(), "bob", "lost", Duration::from_millis(700)).await;
    assert!(Fault::from_status(&refused.expect_err("no majority")).reason.is_transient());
    cluster.wait_for_leader_among(&followers[1..]).await;
    alice.send("bob", "two").await;
    let stale = bob.read_at(channel.clone(), "alice", Consistency::Stale, SOON).await.unwrap();
    assert_eq!(stale, ["one"], "what it had");
    let too_new = Consistency::AtLeast(alice.session.index());
    let waited = bob.read_at(channel.clone(), "alice", too_new, Duration::from_millis(500)).await;
    assert_eq!(Fault::from_status(&waited.expect_err("it has not got there")).reason, Reason::Timeout);
    cluster.heal();
    cluster.assert_replicas_agree().await;
    let bodies = bob.bodies("alice", Consistency::Linearizable).await.unwrap();
    assert_eq!(bodies, ["one", "two"], "what it never acknowledged was discarded");
}

/// P4.
#[tokio::test]
async fn a_repeated_request_has_its_first_outcome_through_failover_and_restart() {
    let cluster = Cluster::of(3).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    let id = alice.request_id();
    let (first, again) = alice.try_send(id, "bob", "once").await.unwrap();
    assert!(!again);
    alice.send("bob", "between").await;
    let (leader, _) = cluster.roles().await;
    cluster.kill([leader]).await;
    assert_eq!(alice.try_send(id, "bob", "once").await.unwrap(), (first.clone(), true), "after failover");
    cluster.restart(leader).await.unwrap();
    cluster.kill([1, 2, 3]).await;
    cluster.restart_all([1, 2, 3]).await;
    assert_eq!(alice.try_send(id, "bob", "once").await.unwrap(), (first.clone(), true), "after a restart of all");
    let other = alice.try_send(id, "bob", "something else").await.unwrap_err();
    assert_eq!(other.reason, Reason::RequestIdReused);
    bob.eventually_sees("alice", &["once", "between"]).await;
    cluster.assert_replicas_agree().await;
}

/// P4: the answer to a write is lost.
#[tokio::test]
async fn a_write_of_unknown_outcome_takes_effect_once_when_repeated() {
    let cluster = Cluster::of(3).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    for round in 0..3 {
        let (leader, _) = cluster.roles().await;
        let id = alice.request_id();
        let body = format!("round {round}");
        // Requests reach the leader, and its answers do not come back.
        alice.send("bob", &format!("before {round}")).await;
        cluster.network.cut_one_way(Endpoint::Node(leader), Endpoint::Clients);
        let impatient = alice.session.through(&cluster.client_with(Duration::from_millis(600)));
        let to = quorate::client::Recipient::Username("bob".into());
        let _ = impatient.send_as(id, &to, &body).await;
        cluster.heal();
        let (sent, _) = alice.try_send(id, "bob", &body).await.unwrap();
        let (again, known) = alice.try_send(id, "bob", &body).await.unwrap();
        assert_eq!((&again, known), (&sent, true));
    }
    bob.eventually_sees("alice", &["before 0", "round 0", "before 1", "round 1", "before 2", "round 2"]).await;
    cluster.assert_replicas_agree().await;
}

/// P1, P3, P4, P8 and scenario 18.
#[tokio::test]
async fn all_five_may_be_killed_at_once_under_load() {
    let cluster = Cluster::of(5).start().await;
    let load = Load::start(&cluster).await;
    for _ in 0..3 {
        load.goes_on(40).await;
        cluster.kill(1..=5).await;
        cluster.restart_all(1..=5).await;
    }
    load.goes_on(40).await;
    let acknowledged = load.finish(&cluster).await.acknowledged;
    assert!(acknowledged >= 160, "{acknowledged} acknowledged");
}

/// P1, P2, P3, P4, P8: the leader is killed, cut off, replaced by a transfer, and stopped, one after the other.
#[tokio::test]
async fn the_ledger_holds_through_changes_of_leader() {
    let cluster = Cluster::of(3).start().await;
    let load = Load::start(&cluster).await;
    for round in 0..4 {
        load.goes_on(25).await;
        let (leader, followers) = cluster.roles().await;
        match round % 4 {
            0 => cluster.kill([leader]).await,
            1 => cluster.isolate(leader),
            2 => cluster.transfer_leader(followers[0]).await,
            _ => cluster.stop(leader).await,
        }
        load.goes_on(25).await;
        cluster.heal();
        if cluster.node(leader).is_none() {
            cluster.restart(leader).await.unwrap();
        }
    }
    load.finish(&cluster).await;
}

/// P3 and scenario 19: links that work in one direction only.
#[tokio::test]
async fn one_way_links_do_not_stop_a_majority_that_hears_each_other() {
    let cluster = Cluster::of(3).start().await;
    let load = Load::start(&cluster).await;
    for outward in [true, false] {
        let (leader, followers) = cluster.roles().await;
        for follower in &followers {
            match outward {
                true => cluster.network.cut_one_way(Endpoint::Node(leader), Endpoint::Node(*follower)),
                false => cluster.network.cut_one_way(Endpoint::Node(*follower), Endpoint::Node(leader)),
            }
        }
        cluster.wait_for_leader_among(&followers).await;
        load.goes_on(20).await;
        cluster.heal();
        load.goes_on(20).await;
    }
    // One follower and the leader do not see each other; the other follower sees both.
    let (leader, followers) = cluster.roles().await;
    cluster.network.cut(Endpoint::Node(leader), Endpoint::Node(followers[0]));
    load.goes_on(40).await;
    cluster.heal();
    load.finish(&cluster).await;
}

/// P1, P3 and scenario 17: order does not depend on clocks, and a session does not end because one clock jumps.
#[tokio::test]
async fn a_clock_that_jumps_an_hour_changes_neither_order_nor_sessions() {
    let cluster = Cluster::of(3).start().await;
    let load = Load::start(&cluster).await;
    for ms in [3_600_000, -3_600_000, 0] {
        let (leader, followers) = cluster.roles().await;
        cluster.skew(leader, ms);
        load.goes_on(15).await;
        cluster.transfer_leader(followers[0]).await;
        load.goes_on(15).await;
    }
    load.finish(&cluster).await;
}

/// P8 and log compaction: after it, the logs of the leader and of the lagging node begin late.
#[tokio::test]
async fn the_log_is_compacted_and_a_lagging_node_takes_a_snapshot() {
    let cluster = Cluster::of(3).snapshots(20, 5).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    let (leader, followers) = cluster.roles().await;
    let lagging = followers[0];
    cluster.isolate(lagging);
    let stood = cluster.membership(lagging).applied_index;
    let mut sent = Vec::new();
    for number in 0..80 {
        let body = format!("message {number}");
        alice.send("bob", &body).await;
        sent.push(body);
    }
    cluster.heal();
    let sent: Vec<&str> = sent.iter().map(String::as_str).collect();
    bob.eventually_sees("alice", &sent).await;
    cluster.assert_replicas_agree().await;
    let reached = cluster.membership(lagging).applied_index;
    assert!(reached >= stood + 80, "from {stood} to {reached}");
    for number in [leader, lagging] {
        let first = eventually("a compacted log", async || {
            alice.send("bob", "more").await;
            cluster.stop(number).await;
            let found = cluster.inspect(number).await;
            cluster.restart(number).await.unwrap();
            match found.first_log_index {
                first if first > stood + 5 => Ok(first),
                first => Err(format!("the log of n{number} begins at {first}")),
            }
        });
        first.await;
    }
    cluster.assert_replicas_agree().await;
}
