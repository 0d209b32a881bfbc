//! The full-screen client in a real terminal, against a real cluster.
//!
//! `cargo test --test processes screen` runs it. It needs a shell and `stty`.

use rustix::process::{Pid, Signal, kill_process};

use crate::{cluster::Cluster, shell::eventually, terminal::Terminal};

const CHAT: &str = env!("CARGO_BIN_EXE_chat");

fn cluster_of_two(size: usize) -> Cluster {
    let cluster = Cluster::of(size);
    cluster.account("bob");
    cluster.account("alice");
    cluster
}

fn screen_of_alice(cluster: &Cluster) -> Terminal {
    let mut terminal = Terminal::open(80, 24, &cluster.state_home());
    terminal.types(&format!("{CHAT} -s {} --as alice\r", cluster.addresses()));
    terminal.sees("connected to 127.0.0.1");
    terminal
}

/// The texts of all messages between alice and bob, in order.
fn history(cluster: &Cluster) -> Vec<String> {
    let ended = cluster.chat(&["--as", "bob", "--timeout", "30s", "--json", "history", "alice"]).expect(0);
    let body = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["body"].clone();
    ended.out.lines().map(|line| body(line).as_str().expect("a body").to_owned()).collect()
}

/// Waits until each of these messages has arrived; fails if any came twice.
#[track_caller]
fn arrived_once(cluster: &Cluster, bodies: &[&str]) {
    eventually("all messages have arrived", || {
        let history = history(cluster);
        bodies.iter().all(|body| history.iter().any(|arrived| arrived == body))
    });
    let history = history(cluster);
    for body in bodies {
        assert_eq!(history.iter().filter(|arrived| arrived == body).count(), 1, "{body:?} in {history:?}");
    }
}

#[test]
fn a_terminal_without_escapes_is_offered_the_line_commands() {
    let cluster = Cluster::of(1);
    cluster.account("alice");
    let mut terminal = Terminal::open(80, 24, &cluster.state_home());
    for without in ["env TERM=dumb", "env -u TERM"] {
        terminal.types(&format!("clear; {without} {CHAT} -s {} --as alice; echo ended-$?\r", cluster.addresses()));
        terminal.sees("ended-2");
        terminal.sees("next: use the line commands `chat inbox`");
    }
    assert!(!terminal.sent().contains("\u{1b}[?1049h"), "it took the terminal over");
}

/// P2, P4 and P5 on the screen: the leader is killed while two people talk.
#[test]
fn a_conversation_goes_on_through_the_death_of_the_leader() {
    let mut cluster = cluster_of_two(3);
    cluster.chat(&["--as", "alice", "send", "bob", "hello"]).expect(0);
    cluster.chat(&["--as", "bob", "read"]).expect(0);
    cluster.chat(&["--as", "bob", "send", "alice", "are you there?"]).expect(0);
    let mut terminal = screen_of_alice(&cluster);
    terminal.sees("are you there?");
    // Sent before she opened the screen.
    terminal.sees("hello ✓✓");
    terminal.types("yes\nwith two lines\r");
    terminal.sees("with two lines ✓");
    cluster.chat(&["--as", "bob", "send", "alice", "good"]).expect(0);
    terminal.sees("bob  good");
    let leader = cluster.leader();
    cluster.kill(&leader);
    terminal.types("said while nobody led\r");
    terminal.sees("said while nobody led ✓");
    terminal.sees("connected to 127.0.0.1");
    cluster.chat(&["--as", "bob", "--timeout", "30s", "send", "alice", "heard you"]).expect(0);
    terminal.sees("bob  heard you");
    terminal.resize(60, 16);
    terminal.sees("bob  heard you");
    cluster.start(&leader);
    arrived_once(&cluster, &["are you there?", "yes\nwith two lines", "good", "said while nobody led", "heard you"]);
    terminal.types("\x03");
    terminal.is_clean();
}

/// P4: a message written without a quorum is sent once, also if the program was restarted in between.
#[test]
fn what_is_written_without_a_quorum_is_kept_and_delivered_once() {
    let mut cluster = cluster_of_two(3);
    let mut terminal = screen_of_alice(&cluster);
    // Ctrl+T asks for the recipient.
    terminal.types("\x14bob");
    terminal.sees("bob new");
    terminal.types("\r");
    terminal.types("before\r");
    terminal.sees("before ✓");
    let followers = cluster.followers();
    followers.iter().for_each(|name| cluster.kill(name));
    terminal.types("kept on disk\r");
    terminal.sees("(waiting, kept on disk");
    terminal.types("\x03");
    terminal.sees("1 unsent message is kept on disk");
    let listed = cluster.chat(&["--as", "alice", "outbox"]).expect(0);
    assert!(listed.out.contains("kept on disk") && listed.out.contains("waiting"), "{}", listed.out);
    followers.iter().for_each(|name| cluster.start(name));
    cluster.leader();
    let mut terminal = screen_of_alice(&cluster);
    terminal.sees("kept on disk ✓");
    arrived_once(&cluster, &["before", "kept on disk"]);
    terminal.types("\x03");
    terminal.is_clean();
    cluster.chat(&["--as", "alice", "outbox"]).expect(0).says("the outbox is empty");
}

#[test]
fn a_signal_and_a_panic_leave_the_terminal_as_it_was() {
    let cluster = cluster_of_two(1);
    let mut terminal = screen_of_alice(&cluster);
    terminal.types("\x03");
    terminal.is_clean();
    let note = cluster.state_home().join("pid");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let (note, servers) = (note.display(), cluster.addresses());
        terminal.types(&format!("clear; sh -c 'echo $$ > {note}; exec {CHAT} -s {servers} --as alice'\r"));
        terminal.sees("connected to 127.0.0.1");
        let pid = std::fs::read_to_string(note.to_string()).expect("the screen's process");
        let pid = Pid::from_raw(pid.trim().parse().expect("a number")).expect("a process id");
        kill_process(pid, signal).expect("it runs");
        terminal.is_clean();
    }
    let itself = std::env::current_exe().expect("this test");
    terminal.types(&format!("clear; {} --ignored --exact screen::panicking --nocapture\r", itself.display()));
    terminal.sees("a fault with the screen open");
    terminal.is_clean();
}

#[test]
#[ignore = "run by another test in a terminal of its own"]
fn panicking() {
    let _screen = quorate::cli::screen::Screen::open().expect("a terminal");
    panic!("a fault with the screen open");
}
