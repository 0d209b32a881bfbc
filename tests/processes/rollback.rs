//! Data directories that were restored from a copy, swapped or started twice: `docs/adr/0050`.

use std::{fs, path::Path, process::Command, time::Duration};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    cluster::Cluster,
    shell::{Running, chat_node, eventually, free_address},
};

/// Copies a directory as an operator would.
fn copy(from: &str, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(copied.success(), "cp -a {from}");
}

/// Puts a copy in the place of a data directory.
fn restore(cluster: &Cluster, name: &str, copy_of_it: &Path) {
    let data = cluster.data(name);
    fs::remove_dir_all(&data).expect("the directory goes");
    copy(copy_of_it.to_str().expect("UTF-8"), Path::new(&data));
}

/// The entry of a node in the leader's status.
fn node_in_status(cluster: &Cluster, name: &str) -> Value {
    let status = cluster.status().expect("a node answers");
    let nodes = status["nodes"].as_array().expect("nodes");
    nodes.iter().find(|node| node["name"] == name).expect("the node").clone()
}

fn condition(cluster: &Cluster, name: &str) -> String {
    node_in_status(cluster, name)["condition"].as_str().unwrap_or_default().to_owned()
}

/// Found 1: with a restored n3, n2 and n3 elected without two acknowledged messages, and replicas differed for good.
#[test]
fn a_restored_voter_votes_for_nobody_until_the_one_that_knows_more_is_heard() {
    let folder = tempfile::tempdir().expect("a directory");
    let backup = folder.path().join("n3");
    let mut cluster = Cluster::of(3);
    cluster.account("alice");
    cluster.chat(&["send", "alice", "one"]).expect(0);
    cluster.replicas_agree();
    cluster.kill("n3");
    copy(&cluster.data("n3"), &backup);
    cluster.start("n3");
    cluster.admin(&["transfer-leader", "n1"]).expect(0);
    cluster.replicas_agree();
    cluster.kill("n2");
    for text in ["two", "three"] {
        cluster.chat(&["--timeout", "20s", "send", "alice", text]).expect(0);
    }
    cluster.kill("n3");
    restore(&cluster, "n3", &backup);
    cluster.start("n3");
    cluster.kill("n1");
    cluster.start("n2");
    let refused = cluster.chat(&["--timeout", "6s", "send", "alice", "lost"]).expect(6);
    refused.says("n3's disk cannot be trusted until n1 is heard").says("restored");
    assert_eq!(condition(&cluster, "n3"), "verifying");
    cluster.start("n1");
    cluster.replicas_agree();
    eventually("n3 is trusted again", || condition(&cluster, "n3").is_empty());
    let history = cluster.chat(&["history", "alice"]).expect(0).out;
    assert!(history.contains("two") && history.contains("three"), "{history}");
    // It carries the cluster like any other.
    cluster.kill("n1");
    cluster.chat(&["--timeout", "20s", "send", "alice", "four"]).expect(0);
}

/// Found 2: the status showed lag 0, and the follower took no entries for ever.
#[test]
fn a_follower_that_is_restored_under_a_living_leader_is_named_and_catches_up() {
    let folder = tempfile::tempdir().expect("a directory");
    let backup = folder.path().join("n3");
    let mut cluster = Cluster::of(3);
    cluster.account("alice");
    cluster.admin(&["transfer-leader", "n1"]).expect(0);
    cluster.replicas_agree();
    cluster.kill("n3");
    copy(&cluster.data("n3"), &backup);
    cluster.start("n3");
    for number in 0..20 {
        cluster.chat(&["send", "alice", &number.to_string()]).expect(0);
    }
    cluster.replicas_agree();
    cluster.kill("n3");
    restore(&cluster, "n3", &backup);
    cluster.start("n3");
    cluster.replicas_agree();
    eventually("n3 is trusted again", || condition(&cluster, "n3").is_empty());
    let log = fs::read_to_string(cluster.log("n3")).expect("its log");
    assert!(log.contains("disk is not trusted") && log.contains("votes again"), "{log}");
    cluster.kill("n2");
    cluster.chat(&["--timeout", "20s", "send", "alice", "with n1 and n3"]).expect(0);
}

/// The device itself is reset: every file is the one that it was, and only the peers know better.
#[test]
fn a_device_that_was_reset_is_found_by_what_its_peers_remember() {
    let folder = tempfile::tempdir().expect("a directory");
    let backup = folder.path().join("n3");
    let mut cluster = Cluster::of(3);
    cluster.account("alice");
    cluster.admin(&["transfer-leader", "n1"]).expect(0);
    cluster.replicas_agree();
    cluster.kill("n3");
    copy(&cluster.data("n3"), &backup);
    cluster.start("n3");
    for number in 0..5 {
        cluster.chat(&["send", "alice", &number.to_string()]).expect(0);
    }
    cluster.replicas_agree();
    cluster.kill("n3");
    for file in ["log.redb", "log.redb.witness", "state.redb", "disk", "identity"] {
        // Written over: inode and birth time stay.
        fs::copy(backup.join(file), Path::new(&cluster.data("n3")).join(file)).expect("a copy");
    }
    cluster.start("n3");
    cluster.replicas_agree();
    eventually("n3 is trusted again", || condition(&cluster, "n3").is_empty());
    let log = fs::read_to_string(cluster.log("n3")).expect("its log");
    assert!(log.contains("this node's disk went back in time") && log.contains("votes again"), "{log}");
    cluster.kill("n2");
    cluster.chat(&["--timeout", "20s", "send", "alice", "with n1 and n3"]).expect(0);
}

/// All disks from one backup: nobody can know whether something is missing. They say so, and an operator decides.
#[test]
fn a_cluster_restored_whole_waits_for_an_operator() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut cluster = Cluster::of(3);
    cluster.account("alice");
    cluster.chat(&["send", "alice", "one"]).expect(0);
    cluster.replicas_agree();
    for name in cluster.names() {
        cluster.kill(&name);
        copy(&cluster.data(&name), &folder.path().join(&name));
        restore(&cluster, &name, &folder.path().join(&name));
    }
    for name in cluster.names() {
        cluster.start(&name);
    }
    cluster.chat(&["--timeout", "5s", "send", "alice", "nobody leads"]).expect(6).says("cannot be trusted");
    for name in ["n1", "n2"] {
        cluster.kill(name);
        cluster.start_trusted(name);
    }
    cluster.chat(&["--timeout", "20s", "send", "alice", "two"]).expect(0);
    cluster.replicas_agree();
    eventually("n3 is trusted again", || condition(&cluster, "n3").is_empty());
    let log = fs::read_to_string(cluster.log("n1")).expect("its log");
    assert!(log.contains("--trust-this-disk") && log.contains("epoch"), "{log}");
}

/// Found 3: n3 ran on the log of n2.
#[test]
fn a_log_of_another_node_is_refused_by_name() {
    let mut cluster = Cluster::of(3);
    cluster.replicas_agree();
    cluster.kill("n3");
    for file in ["log.redb", "log.redb.witness"] {
        fs::copy(Path::new(&cluster.data("n2")).join(file), Path::new(&cluster.data("n3")).join(file)).expect("a copy");
    }
    let refused = chat_node(&["run", "--data-dir", &cluster.data("n3")]).expect(70);
    refused.says("log.redb does not belong here: it is of node id").says("next: put the node's own file back");
}

/// Found 4: a copy of a directory ran beside the original, as the same node.
#[test]
fn a_copy_of_a_running_node_is_refused_and_the_original_goes_on() {
    let folder = tempfile::tempdir().expect("a directory");
    let twin = folder.path().join("twin");
    let mut cluster = Cluster::of(3);
    cluster.account("alice");
    cluster.replicas_agree();
    copy(&cluster.data("n3"), &twin);
    let twin = twin.to_str().expect("UTF-8");
    let refused = chat_node(&["run", "--data-dir", twin, "--listen", &free_address()]).expect(70);
    refused.says("n3 is running already").says("next: stop one of the two");
    // The original is frozen while the copy starts, so only the others know it.
    cluster.signal("n3", Signal::STOP);
    let log = folder.path().join("log");
    let mut second = Running::start(None, &["--data-dir", twin, "--listen", &free_address()], &log);
    std::thread::sleep(Duration::from_millis(1_500));
    cluster.signal("n3", Signal::CONT);
    eventually("the copy votes for nobody", || fs::read_to_string(&log).is_ok_and(|log| log.contains("not trusted")));
    cluster.chat(&["--timeout", "20s", "send", "alice", "hello"]).expect(0);
    cluster.replicas_agree();
    let (code, log) = second.exit();
    assert_eq!(code, Some(70), "{log}");
    assert!(log.contains("is running already"), "{log}");
}

/// A restart on the node's own disk asks nobody: two of five are gone while a third restarts.
#[test]
fn a_restart_from_the_nodes_own_disk_needs_no_one() {
    let mut cluster = Cluster::of(5);
    cluster.account("alice");
    cluster.admin(&["transfer-leader", "n1"]).expect(0);
    for name in ["n4", "n5", "n3"] {
        cluster.kill(name);
    }
    cluster.start("n3");
    cluster.chat(&["--timeout", "20s", "send", "alice", "three of five"]).expect(0);
    for name in ["n1", "n2", "n3"] {
        cluster.kill(name);
    }
    for name in cluster.names() {
        cluster.start(&name);
    }
    cluster.replicas_agree();
    for name in cluster.names() {
        let log = fs::read_to_string(cluster.log(&name)).expect("its log");
        assert!(!log.contains("not trusted"), "{name}: {log}");
    }
}
