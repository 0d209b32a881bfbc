//! `chat send --queue`, contexts and man pages, as a person types them.

use crate::{
    cluster::Cluster,
    shell::{finished, program},
};

/// P4: messages queued without a quorum are delivered once and in order, also the one of unknown outcome.
#[test]
fn what_is_queued_without_a_quorum_is_delivered_once_and_in_order() {
    let mut cluster = Cluster::of(3);
    cluster.account("bob");
    cluster.account("alice");
    cluster.chat(&["send", "bob", "one"]).expect(0);
    let followers = cluster.followers();
    followers.iter().for_each(|name| cluster.kill(name));
    // The leader appends it to its log and cannot commit it, so the outcome is unknown.
    cluster.chat(&["--timeout", "2s", "send", "--queue", "bob", "two"]).expect(0).says("kept on disk");
    cluster.chat(&["--timeout", "1s", "send", "--queue", "bob", "three"]).expect(0).says("kept");
    cluster.chat(&["--timeout", "1s", "send", "bob", "four"]).expect(6).says("earlier messages still wait");
    cluster.chat(&["--timeout", "1s", "outbox", "flush"]).expect(6).says("2 not acknowledged yet, kept");
    followers.iter().for_each(|name| cluster.start(name));
    cluster.leader();
    cluster.chat(&["--timeout", "30s", "send", "bob", "four"]).expect(0).says("2 delivered from the outbox");
    let history = cluster.chat(&["history", "bob"]).expect(0).out;
    let bodies: Vec<&str> = history.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(bodies, ["one", "two", "three", "four"]);
    cluster.chat(&["outbox"]).expect(0).says("the outbox is empty");
    cluster.chat(&["send", "--queue", "nobody", "x"]).expect(3).says("not sent");
    cluster.chat(&["outbox"]).expect(0).says("the outbox is empty");
}

/// P4: only the cluster can look up the title of a room. The message waits until the cluster is back and arrives once.
#[test]
fn what_is_queued_for_a_room_by_its_title_finds_it_when_the_nodes_are_back() {
    let mut cluster = Cluster::of(1);
    cluster.account("alice");
    cluster.chat(&["room", "create", "on call"]).expect(0);
    cluster.kill("n1");
    let queue = |to: &str| cluster.chat(&["--timeout", "1s", "send", "--queue", to, "hello"]);
    queue("#on call").expect(0).says("kept");
    queue("#nowhere").expect(0).says("kept");
    queue("#").expect(1).says("a room's title must be");
    let listed = cluster.chat(&["outbox"]).expect(0).out;
    assert!(listed.contains("#\"on call\"") && listed.contains("#nowhere"), "{listed}");
    cluster.start("n1");
    cluster.leader();
    let flush = ["--timeout", "30s", "outbox", "flush"];
    cluster.chat(&flush).expect(3).says("1 delivered").says("no room called \"nowhere\"").says("chat outbox drop");
    cluster.chat(&flush).expect(0).says("0 delivered");
    assert_eq!(cluster.chat(&["history", "c1"]).expect(0).out.matches("hello").count(), 1);
    cluster.chat(&["send", "--queue", "#nowhere", "hello"]).expect(3).says("not sent");
    let listed = cluster.chat(&["outbox"]).expect(0).out;
    assert_eq!(listed.matches("refused: there is no room").count(), 1, "{listed}");
}

#[test]
fn clusters_have_names() {
    let home = tempfile::tempdir().expect("a directory");
    let chat = |args: &[&str]| {
        let mut command = program("chat");
        command.env("XDG_CONFIG_HOME", home.path()).env("XDG_STATE_HOME", home.path().join("state"));
        finished(command.args(args))
    };
    chat(&["context", "use", "work"]).expect(3).says("chat context add");
    chat(&["context", "add", "work", "127.0.0.1:1,127.0.0.1:2"]).expect(0);
    chat(&["context", "add", "home", "127.0.0.1:3"]).expect(0);
    let listed = chat(&["context", "list"]).expect(0).out;
    assert_eq!(listed, "USED  NAME  SERVERS\n      home  127.0.0.1:3\n*     work  127.0.0.1:1,127.0.0.1:2\n");
    let asked = |args: &[&str]| {
        chat(&[&["--timeout", "300ms"], args, &["register", "x", "--password-file", "/dev/null"]].concat())
    };
    asked(&[]).expect(6).says("127.0.0.1:1, 127.0.0.1:2");
    asked(&["--context", "home"]).expect(6).says("127.0.0.1:3");
    asked(&["--context", "none"]).expect(3).says("no context");
    chat(&["context", "use", "home"]).expect(0);
    asked(&[]).expect(6).says("127.0.0.1:3");
    chat(&["context", "remove", "home"]).expect(0);
    asked(&[]).expect(2).says("no server is known");
    std::fs::write(home.path().join("quorate/config.toml"), "current = 7").expect("a damaged file");
    asked(&[]).expect(1).says("config.toml");
}

#[test]
fn all_three_programs_write_their_man_pages() {
    for (name, page) in
        [("chat", "chat-send.1"), ("chat-admin", "chat-admin-add-node.1"), ("chat-node", "chat-node-run.1")]
    {
        let home = tempfile::tempdir().expect("a directory");
        let folder = home.path().join("man");
        finished(program(name).args(["man", &folder.display().to_string()])).expect(0);
        for page in [format!("{name}.1"), page.to_owned()] {
            let text = std::fs::read_to_string(folder.join(&page)).unwrap_or_else(|error| panic!("{page}: {error}"));
            assert!(text.contains(".TH"), "{page}:\n{text}");
        }
    }
}
