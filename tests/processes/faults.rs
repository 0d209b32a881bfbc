//! Nodes killed and frozen under load. The ledger checks that nothing acknowledged is lost or doubled.

use std::{thread, time::Duration};

use rustix::process::Signal;

use crate::{cluster::Cluster, load::Load};

#[test]
fn two_of_five_are_killed_the_leader_first_and_nothing_is_missing_or_double() {
    let mut cluster = Cluster::of(5);
    let load = Load::start(&cluster.addresses());
    let mut killed = Vec::new();
    for _ in 0..2 {
        let leader = cluster.leader();
        cluster.kill(&leader);
        load.progresses();
        killed.push(leader);
    }
    for name in &killed {
        cluster.start(name);
    }
    load.progresses();
    let gap = load.check().gap.length;
    println!("longest time without an acknowledgement: {gap:?}");
    cluster.replicas_agree();
}

#[test]
fn with_three_of_five_killed_writes_are_refused_in_time_and_go_on_when_one_returns() {
    let mut cluster = Cluster::of(5);
    cluster.account("alice");
    cluster.chat(&["send", "alice", "before"]).expect(0);
    let leader = cluster.leader();
    let mut killed = vec![leader];
    killed.extend(cluster.followers().into_iter().take(2));
    for name in &killed {
        cluster.kill(name);
    }
    let refused = cluster.chat(&["--timeout", "3s", "send", "alice", "into the void"]).expect(6);
    assert!(refused.took < Duration::from_secs(5), "the refusal took {:?}", refused.took);
    refused.says("gave up after 3s").says("next: ");
    let read = cluster.chat(&["--timeout", "2s", "history", "alice"]).expect(6);
    assert!(read.took < Duration::from_secs(4), "a linearizable read needs a quorum: {:?}", read.took);
    let status = cluster.admin(&["status"]).expect(0);
    assert!(status.out.contains("NO QUORUM") && status.took < Duration::from_secs(3), "{status:?}");
    cluster.start(&killed[0]);
    cluster.chat(&["--timeout", "30s", "send", "alice", "after"]).expect(0);
    let history = cluster.chat(&["history", "alice"]).expect(0).out;
    assert!(history.contains("before") && history.contains("after"), "{history}");
    for name in &killed[1..] {
        cluster.start(name);
    }
    cluster.replicas_agree();
}

#[test]
fn a_whole_cluster_killed_under_load_comes_back_with_everything_acknowledged() {
    let mut cluster = Cluster::of(5);
    let load = Load::start(&cluster.addresses());
    for _ in 0..2 {
        for name in cluster.names() {
            cluster.kill(&name);
        }
        for name in cluster.names() {
            cluster.start(&name);
        }
        load.progresses();
    }
    load.check();
    cluster.replicas_agree();
}

#[test]
fn a_leader_frozen_for_five_seconds_thaws_without_a_lost_acknowledgement() {
    let mut cluster = Cluster::of(3);
    let load = Load::start(&cluster.addresses());
    let frozen = cluster.leader();
    cluster.signal(&frozen, Signal::STOP);
    // This sleep is the fault itself, not a wait for something.
    thread::sleep(Duration::from_secs(5));
    load.progresses();
    assert_ne!(cluster.leader(), frozen, "another leads meanwhile");
    cluster.signal(&frozen, Signal::CONT);
    load.progresses();
    let gap = load.check().gap.length;
    assert!(gap < Duration::from_secs(5), "nothing was acknowledged for {gap:?}: the frozen leader was waited for");
    cluster.replicas_agree();
    assert!(cluster.running(&frozen).is_alive(), "it follows again");
}
