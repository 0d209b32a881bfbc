//! The words that bash offers when Tab is pressed.

use std::{path::Path, process::Command, time::Duration};

use crate::{
    cluster::{Cluster, PASSWORD},
    shell::{Ended, finished, program},
};

/// The words that bash would offer for the last of `words`.
fn offered(cluster: &Cluster, words: &[&str]) -> Ended {
    const SCRIPT: &str = r#"
        source <(chat completions bash)
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=9
        _clap_complete_chat chat "${COMP_WORDS[COMP_CWORD]}" x
        printf '%s\n' "${COMPREPLY[@]}""#;
    let chat = program("chat");
    let programs = Path::new(chat.get_program()).parent().expect("their folder");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", SCRIPT, "bash"]).args(words).env("PATH", path);
    bash.env("XDG_STATE_HOME", cluster.state_home()).env("XDG_CONFIG_HOME", cluster.state_home());
    bash.env("CHAT_SERVERS", cluster.addresses()).env("CHAT_PASSWORD", PASSWORD);
    finished(&mut bash).expect(0)
}

fn has_bash() -> bool {
    let found = Command::new("bash").arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: there is no bash here");
    }
    found
}

#[test]
fn names_are_completed_from_what_the_cluster_knows() {
    if !has_bash() {
        return;
    }
    let cluster = Cluster::of(1);
    for name in ["carol", "bobby", "bob", "alice"] {
        cluster.account(name);
    }
    cluster.chat(&["send", "carol", "hello"]).expect(0);
    for (title, by) in [("ops", "alice"), ("on call", "alice"), ("$(reboot)", "alice"), ("open", "bob")] {
        cluster.chat(&["--as", by, "room", "create", title]).expect(0);
    }
    cluster.chat(&["context", "add", "home", "127.0.0.1:1"]).expect(0);
    for (words, names) in [
        (&["chat", "send", "bo"][..], "bob bobby"),
        (&["chat", "send", ""], "c2 c3 c4 carol"),
        (&["chat", "send", "#o"], "#ops"),
        (&["chat", "history", "car"], "carol"),
        (&["chat", "room", "join", ""], "c5"),
        (&["chat", "room", "join", "#"], "#open"),
        (&["chat", "room", "leave", "c"], "c2 c3 c4"),
        (&["chat", "--as", "bob", "room", "leave", ""], "c5"),
        (&["chat", "--as", "bob"], "bob bobby"),
        (&["chat", "--context", ""], "home"),
        (&["chat", "outbox", "fl"], "flush"),
    ] {
        let ended = offered(&cluster, words);
        let found: Vec<&str> = ended.out.lines().filter(|word| !word.starts_with('-') && *word != "help").collect();
        assert_eq!((found.join(" ").as_str(), ended.talk.as_str()), (names, ""), "{words:?}");
    }
}

#[test]
fn with_nobody_to_ask_nothing_is_offered_and_nobody_waits() {
    if !has_bash() {
        return;
    }
    let mut cluster = Cluster::of(1);
    cluster.account("alice");
    cluster.signal("n1", rustix::process::Signal::STOP);
    let ended = offered(&cluster, &["chat", "send", "b"]);
    assert_eq!((ended.out.trim(), ended.talk.as_str()), ("", ""));
    assert!(ended.took < Duration::from_secs(3), "a person waited for {:?}", ended.took);
    cluster.kill("n1");
    let ended = offered(&cluster, &["chat", "--as", "nobody", "send", "b"]);
    assert_eq!((ended.out.trim(), ended.talk.as_str()), ("", ""));
}
