//! A cluster made as in the README: init, run, add-node; then growing, shrinking and stopping under load.

use std::time::Duration;

use rustix::process::Signal;

use crate::{cluster::Cluster, load::Load, shell::chat_node};

#[test]
fn a_newcomer_makes_a_cluster_of_five_and_chats() {
    let cluster = Cluster::of(5);
    let status = cluster.admin(&["status"]).expect(0).out;
    for words in ["leader n1", "5 voters, quorum 3\n  survives any 2 nodes\n", "n5    voter"] {
        assert!(status.contains(words), "`{words}` is missing in:\n{status}");
    }
    cluster.account("alice");
    cluster.account("bob");
    cluster.chat(&["send", "alice", "lunch", "at", "noon?"]).expect(0).says("sent as c1/1");
    let read =
        cluster.chat(&["--as", "alice", "read"]).expect(0).says("1 shown and marked as read; 0 left unread in all").out;
    assert!(read.starts_with("c1/1 ") && read.ends_with(" bob: lunch at noon?\n"), "{read}");
    // Any one address is enough: the client finds the other nodes through it.
    for name in cluster.names() {
        cluster.chat_by_way_of(&cluster.address(&name), &["--as", "bob", "send", "alice", &name]).expect(0);
    }
    let history = cluster.chat(&["--as", "alice", "history", "bob"]).expect(0).out;
    assert_eq!(history.lines().count(), 7, "with the line of who has read\n{history}");
    cluster.replicas_agree();
}

#[test]
fn nodes_come_and_go_while_messages_are_written() {
    let mut cluster = Cluster::of(3);
    let load = Load::start(&cluster.addresses());
    for name in ["n4", "n5"] {
        cluster.start_empty(name);
        cluster.add(name).expect(0);
        load.progresses();
    }
    // The same command again has nothing left to do.
    assert_eq!(cluster.add("n5").expect(0).out.lines().next(), Some("n5 is a voter already: nothing was left to do"));
    // The leader is one of the removed nodes. It hands leadership over first.
    let leader = cluster.leader();
    cluster.admin(&["remove-node", &leader]).expect(7).says("--accept-lower-tolerance");
    for name in [leader.as_str(), &cluster.followers()[0]] {
        cluster.admin(&["--timeout", "30s", "remove-node", name, "--accept-lower-tolerance"]).expect(0);
        load.progresses();
        let (code, log) = cluster.running(name).exit();
        assert_eq!(code, Some(76), "a removed node says so\n{log}");
        let again = chat_node(&["run", "--data-dir", &cluster.data(name)]).expect(76);
        again.says("was removed from cluster").says("next: to use this machine again, start a node with an empty");
        cluster.forget(name);
    }
    load.check();
    let status = cluster.admin(&["status"]).expect(0).out;
    assert!(status.contains("3 voters, quorum 2\n  survives any 1 node"), "{status}");
    cluster.replicas_agree();
}

#[test]
fn a_leader_that_is_asked_to_stop_hands_over_and_is_gone_within_five_seconds() {
    let mut cluster = Cluster::of(3);
    let load = Load::start(&cluster.addresses());
    for signal in [Signal::TERM, Signal::INT] {
        let leader = cluster.leader();
        let asked = std::time::Instant::now();
        cluster.signal(&leader, signal);
        let (code, log) = cluster.running(&leader).exit();
        assert_eq!(code, Some(0), "{log}");
        assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}\n{log}", asked.elapsed());
        // No election timeout has to pass: another node leads as soon as this one is gone.
        let status = cluster.status().expect("a status");
        let led = status["nodes"].as_array().is_some_and(|nodes| {
            nodes.iter().any(|node| node["nodeId"] == status["leaderId"] && node["name"] != leader.as_str())
        });
        assert!(led, "it went without a successor: {status}\n{log}");
        load.progresses();
        cluster.start(&leader);
        load.progresses();
    }
    load.check();
    cluster.replicas_agree();
}
