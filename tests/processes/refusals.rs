//! Refusals: each with its exit code, its message and its advice.

use std::{net::TcpListener, path::Path};

use crate::{
    cluster::Cluster,
    shell::{Running, chat_node, eventually, finished, free_address, program},
};

fn init(data: &Path, address: &str) -> crate::shell::Ended {
    chat_node(&["init", "--data-dir", &data.display().to_string(), "--name", "n1", "--listen", address])
}

#[test]
fn a_directory_that_is_taken_is_refused() {
    let mut cluster = Cluster::of(1);
    let (data, other) = (cluster.data("n1"), free_address());
    // In use: all commands refuse the directory.
    for args in [&["run"][..], &["inspect"], &["init", "--name", "n1", "--listen", &other]] {
        let ended = chat_node(&[args, &["--data-dir", &data]].concat());
        // A second `run` at the recorded address fails at the port already, with advice of its own.
        match args == ["run"] {
            true => ended.expect(4).says("in use by another process").says("next: stop the other process"),
            false => ended.expect(4).says("in use by another process"),
        };
    }
    chat_node(&["run", "--data-dir", &data, "--listen", &other]).expect(4).says("in use by another process");
    cluster.kill("n1");
    init(Path::new(&data), &other).expect(4).says("is not empty").says("next: use `chat-node run` to start");
    // None of the refused commands has done any harm.
    cluster.start("n1");
    cluster.account("alice");
}

#[test]
fn a_configuration_that_cannot_work_ends_with_78() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("n1");
    let place = data.display().to_string();
    init(&data, &free_address()).expect(0);
    let free = free_address();
    for (args, words) in [
        (&["--listen", free.as_str(), "--name", "other"][..], "was started with"),
        (&["--listen", "nowhere"], "listen"),
        (&["--listen", free.as_str(), "--log-format", "json", "--log", "quorate=loud"], "log"),
        (&["--config", "/nonexistent.toml"], "/nonexistent.toml"),
    ] {
        chat_node(&[&["run", "--data-dir", &place], args].concat()).expect(78).says(words).says("next: ");
    }
    let empty = dir.path().join("empty").display().to_string();
    chat_node(&["run", "--data-dir", &empty]).expect(78).says("give --listen HOST:PORT");
}

#[test]
fn only_the_last_folder_of_a_data_directory_is_created() {
    let dir = tempfile::tempdir().expect("a directory");
    let parent = dir.path().join("not-mounted");
    let (data, address) = (parent.join("n1"), free_address());
    let run = chat_node(&["run", "--data-dir", &data.display().to_string(), "--listen", &address]);
    for ended in [init(&data, &address), run] {
        ended.expect(1).says(&data.display().to_string()).says("next: mount the disk that ");
    }
    assert!(!parent.exists(), "the parent was created");
}

#[test]
fn a_port_in_use_ends_with_75_so_that_a_supervisor_tries_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("n1");
    let address = free_address();
    let taken = TcpListener::bind(&address).expect("a port");
    init(&data, &address).expect(0);
    let run = ["run", "--data-dir", &data.display().to_string()];
    chat_node(&run).expect(75).says(&address).says("next: stop the process that uses the address");
    let unit = include_str!("../../deploy/quorate@.service");
    let kept_down = unit.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus=")).expect("the codes");
    assert!(!kept_down.split(' ').any(|code| code == "75"), "the unit restarts after 75: {kept_down}");
    drop(taken);
    let log = tempfile::NamedTempFile::new().expect("a log");
    let node = Running::start(None, &run[1..], log.path());
    eventually("the node listens", || node.logged().contains("listening"));
}

#[test]
fn nodes_and_data_of_another_cluster_are_kept_out() {
    let mut ours = Cluster::of(3);
    let mut theirs = Cluster::of(1);
    // Their node is not adopted.
    ours.admin(&["add-node", "n9", &theirs.address("n1")]).expect(7).says("empty node");
    // Their data starts at the address of our n3. Our nodes do not accept it as n3.
    let (address, data, known_as) = (ours.address("n3"), theirs.data("n1"), theirs.address("n1"));
    ours.kill("n3");
    theirs.kill("n1");
    let log = tempfile::NamedTempFile::new().expect("a log");
    let impostor =
        Running::start(None, &["--data-dir", &data, "--listen", &address, "--advertise", &known_as], log.path());
    eventually("the impostor listens", || impostor.logged().contains("listening"));
    let rest = format!("{},{}", ours.address("n1"), ours.address("n2"));
    ours.chat_by_way_of(&rest, &["register", "alice"]).expect(0);
    let verified = ours.admin(&["--timeout", "5s", "verify"]);
    assert!(verified.code != 0, "the impostor counts as a replica:\n{}", verified.out);
    drop(impostor);
    ours.start("n3");
    ours.replicas_agree();
    theirs.start("n1");
    theirs.account("eve");
}

#[test]
fn every_exit_code_of_the_clients_is_met() {
    let mut cluster = Cluster::of(3);
    cluster.account("alice");
    let chat = |args: &[&str]| cluster.chat(args);
    chat(&["send", "alice", ""]).expect(1);
    chat(&["send"]).expect(2);
    chat(&["send", "nobody", "hi"]).expect(3).says("nobody");
    chat(&["register", "ALICE"]).expect(4);
    chat(&["--as", "bob", "whoami"]).expect(5).says("next: sign in with `chat login NAME`");
    let mut login = program("chat");
    login.env("CHAT_PASSWORD", "wrong").env("XDG_STATE_HOME", cluster.data("n1"));
    finished(login.args(["-s", &cluster.addresses(), "login", "alice"])).expect(5);
    let admin = |args: &[&str]| cluster.admin(args);
    admin(&["remove-node"]).expect(2);
    admin(&["remove-node", "n9"]).expect(3);
    admin(&["remove-node", "n3", "--etag", "1-1"]).expect(4);
    admin(&["add-node", "n4", &free_address()]).expect(7).says("answers");
    // With one follower down, no other node may be removed, and `verify` cannot pass.
    let down = cluster.followers()[0].clone();
    cluster.kill(&down);
    let other = cluster.followers().into_iter().find(|name| *name != down).expect("another");
    eventually("the leader misses it", || {
        cluster.admin(&["remove-node", &other, "--accept-lower-tolerance", "--dry-run"]).code == 7
    });
    cluster.admin(&["--timeout", "3s", "verify"]).expect(8);

    cluster.chat_by_way_of(&free_address(), &["--timeout", "1s", "register", "bob"]).expect(6);
}
