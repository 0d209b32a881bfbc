//! Clocks that are days off: one of them stops nothing (P2), and a log whose time was carried ahead has a way out that
//! applies nothing twice (P4). ADR 0070.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quorate::{
    types::Consistency,
    wire::{Reason, chat},
};

use crate::common::{Cluster, User, eventually};

const DAY_MS: i64 = 86_400_000;

/// How far a message's time is off the true one.
fn off_by(message: &chat::Message) -> Duration {
    let stamped = SystemTime::try_from(message.create_time.expect("a time")).expect("a time");
    let now = SystemTime::now();
    now.duration_since(stamped).or_else(|_| stamped.duration_since(now)).expect("one is earlier")
}

/// P2, P4, P8.
#[tokio::test]
async fn a_leader_whose_clock_is_days_off_stops_no_write_and_no_login() {
    let cluster = Cluster::of(3).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    alice.send("bob", "before").await;
    let mut expected = vec!["before".to_owned()];
    for days in [2, -2] {
        let (leader, followers) = cluster.roles().await;
        cluster.skew(leader, days * DAY_MS);
        eventually("the leader knows that its clock is off", async || {
            let view = cluster.membership(leader);
            let own = view.nodes.iter().find(|node| node.node_id == view.answered_by_id);
            match own.and_then(|node| node.clock_offset_ms) {
                Some(ms) if ms.abs_diff(days * DAY_MS) < 5_000 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let id = alice.request_id();
        let body = format!("{days} days");
        let (sent, _) = alice.try_send(id, "bob", &body).await.expect("it is sent");
        expected.push(body.clone());
        assert!(off_by(&sent) < Duration::from_secs(30), "{days} days: {:?}", sent.create_time);
        User::register(&cluster.client(), &format!("user{}", days + 2)).await;
        cluster.transfer_leader(followers[0]).await;
        let (_, again) = alice.try_send(id, "bob", &body).await.expect("its first outcome");
        assert!(again, "a repetition has its first outcome");
        cluster.skew(leader, 0);
        let after = format!("after {days} days");
        alice.send("bob", &after).await;
        expected.push(after);
        User::register(&cluster.client(), &format!("later{}", days + 2)).await;
    }
    let view = cluster.membership(cluster.wait_for_leader().await);
    assert_eq!(view.log_time_ahead_ms, 0, "log time was not carried ahead");
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    bob.eventually_sees("alice", &expected).await;
    cluster.assert_replicas_agree().await;
}

/// A node's edge does not end sessions by a clock that is off.
#[tokio::test]
async fn a_node_whose_clock_is_months_off_still_knows_its_sessions() {
    let cluster = Cluster::of(3).start().await;
    let [alice, _bob] = cluster.accounts(["alice", "bob"]).await;
    alice.send("bob", "kept").await;
    let (_, followers) = cluster.roles().await;
    cluster.skew(followers[0], 90 * DAY_MS);
    let index = Consistency::AtLeast(alice.session.index());
    let read = alice.read_at(cluster.channel(followers[0]), "bob", index, Duration::from_secs(5)).await;
    assert_eq!(read.expect("the session is alive"), ["kept"]);
}

/// P2, P4: a single node's clock is the truth for it, so an operator has to set log time right.
#[tokio::test]
async fn a_log_whose_time_was_carried_ahead_is_corrected_and_repeats_nothing() {
    let cluster = Cluster::of(1).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    let first = alice.request_id();
    alice.try_send(first, "bob", "first").await.expect("it is sent");
    cluster.skew(1, 2 * DAY_MS);
    let refused = alice.try_send(alice.request_id(), "bob", "in the wrong time").await.expect_err("too old");
    assert_eq!(refused.reason, Reason::RequestTooOld);
    cluster.skew(1, 0);
    cluster.kill([1]).await;
    cluster.restart(1).await.unwrap();
    cluster.wait_for_leader().await;
    for _ in 0..3 {
        let refused = alice.try_send(alice.request_id(), "bob", "after it").await.expect_err("still too old");
        assert_eq!(refused.reason, Reason::RequestTooOld, "a right clock alone does not help");
    }
    eventually("status says that log time is ahead", async || match cluster.membership(1).log_time_ahead_ms {
        ms if ms > 47 * 3_600_000 => Ok(()),
        ms => Err(format!("{ms} ms")),
    })
    .await;

    let node = cluster.node(1).expect("it runs");
    let look = node.correct_time(true, None).await.expect("a dry run");
    assert!(look.was_ahead);
    let done = node.correct_time(false, None).await.expect("a correction");
    assert!(done.was_ahead && done.change.to_ms < done.change.from_ms, "{done:?}");
    assert_eq!(cluster.membership(1).log_time_ahead_ms, 0);
    // Whether the first outcome is still remembered or not: its repetition has no second effect.
    match alice.try_send(first, "bob", "first").await {
        Ok((_, again)) => assert!(again, "it was applied twice"),
        Err(fault) => assert_eq!(fault.reason, Reason::RequestTooOld),
    }
    // Every outcome was pruned, so without a word of the operator it takes a day until new ones are certainly new.
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    assert!(done.change.accepts_from_ms > now_ms, "{done:?}");
    let vouched = node.correct_time(false, Some(Duration::ZERO)).await.expect("the operator's word");
    assert!(vouched.change.accepts_from_ms <= vouched.cluster_ms + 1, "{vouched:?}");
    eventually("writes go on", async || {
        alice.try_send(alice.request_id(), "bob", "second").await.map_err(|fault| format!("{fault:?}"))
    })
    .await;
    let refused = alice.try_send(first, "bob", "first").await.expect_err("its outcome is forgotten");
    assert_eq!(refused.reason, Reason::RequestTooOld);
    bob.eventually_sees("alice", &["first", "second"]).await;
    User::register(&cluster.client(), "carol").await;
}
