//! Names and messages of other people never reach a terminal raw, and cannot imitate our own output.
//!
//! Mallory does the worst that the API allows. The API refuses hostile names; hostile messages are allowed. All output
//! of `chat` and `chat-admin` about them must be printable text, and so must be error messages that repeat hostile
//! arguments. Lying nodes are left to the unit tests of both programs.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use quorate::{
    client::{self, Recipient, Session},
    wire::{
        Dialer, Fault, Reason,
        admin::{AddNodeRequest, admin_service_client::AdminServiceClient},
    },
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

use crate::{
    cluster::{Cluster, PASSWORD},
    shell::{Ended, eventually, program},
    terminal::Terminal,
};

/// Texts that set the clipboard or the title, clear the screen, move the cursor, ring the bell, make links, hide or
/// reverse text, or end the line.
const EVIL: &[&str] = &[
    "\u{1b}]52;c;eA==\u{7}",
    "\u{1b}]8;;u\u{1b}\\x\u{1b}]8;;\u{1b}\\",
    "\u{1b}]0;x\u{7}",
    "\u{1b}[31337z",
    "\u{1b}Pq\u{1b}\\",
    "\u{9b}31337z",
    "\u{9d}0;x\u{9c}",
    "\u{8}\u{7}\u{7f}",
    "x\rFORGED",
    "x\nFORGED",
    "x\u{b}FORGED",
    "x\u{c}FORGED",
    "x\u{85}FORGED",
    "x\u{2028}FORGED",
    "x\u{202e}FORGED",
    "x\u{2066}FORGED",
    "ad\u{200b}min",
    "ad\u{200d}min",
    "\u{feff}x",
    "x\u{e0041}",
];
/// Printable titles that imitate a line of output.
const TRICKS: &[&str] = &["ops c1/9 2026-11-22T18:00:00Z alice: pay mallory", "ops  c9  public  7  in it", "x\" c1/1"];

fn worst() -> String {
    EVIL.concat()
}

/// Fails unless `text` is harmless on every terminal.
#[track_caller]
fn assert_harmless(what: &str, text: &str) {
    const RAW: &str = "\u{200b}\u{200d}\u{202e}\u{2028}\u{2066}\u{feff}\u{e0041}";
    let raw = text.chars().find(|c| (c.is_control() && *c != '\n') || RAW.contains(*c));
    assert_eq!(raw, None, "{what} printed it raw: {text:?}");
    assert!(!text.lines().any(|line| line.starts_with("FORGED")), "{what} printed a forged line:\n{text}");
    for line in text.lines().filter(|line| line.contains("pay mallory") && !line.starts_with('{')) {
        assert!(line.contains("#\"ops c1/9 2026-11-22T18:00:00Z alice: pay mallory\""), "{what} printed {line}");
    }
}

/// Runs a command with hostile text in place of `EVIL`.
fn typed(program: impl Fn(&[&str]) -> Ended, args: &str, code: i32) {
    let worst = worst();
    let args: Vec<String> = args.split_whitespace().map(|arg| arg.replace("EVIL", &worst)).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    for args in [args.clone(), [&["--json"], &args[..]].concat()] {
        let ended = program(&args);
        assert_harmless(&format!("{args:?}"), &ended.out);
        assert_harmless(&format!("{args:?}"), &ended.talk);
        assert_eq!(ended.code, code, "{args:?}: {}{}", ended.out, ended.talk);
    }
}

#[track_caller]
fn is_refused<T: std::fmt::Debug>(what: &str, evil: &str, answer: Result<T, Fault>) {
    let fault = answer.expect_err(&format!("{what} {evil:?} should be refused"));
    assert_eq!(fault.reason, Reason::InvalidArgument, "{what} {evil:?}: {fault:?}");
}

/// Mallory tries everything that must be refused, then does everything that is allowed.
async fn does_the_worst(address: &str) {
    let settings = client::Settings::new(Duration::from_secs(30));
    let cluster = client::Cluster::new(vec![address.parse().expect("an address")], Dialer::tcp(), settings);
    Session::register(&cluster, "mallory", PASSWORD).await.expect("an account");
    let (session, _) = Session::login(&cluster, "mallory", PASSWORD, "x").await.expect("a session");
    let plain = session.create_room("plain", false, vec!["alice".into()]).await.expect("a room");
    let plain = plain.conversation_id.parse().expect("its id");
    for evil in EVIL {
        is_refused("a username", evil, Session::register(&cluster, evil, PASSWORD).await);
        let login = Session::login(&cluster, "mallory", PASSWORD, evil).await;
        is_refused("a device label", evil, login.map(|(_, answer)| answer));
        is_refused("a title", evil, session.create_room(evil, false, Vec::new()).await);
        is_refused("a title", evil, session.rename_room(plain, evil).await);
        is_refused("a member", evil, session.invite(plain, vec![(*evil).into()]).await);
        is_refused("a recipient", evil, session.send(&Recipient::Username((*evil).into()), "x").await);
        is_refused("a pattern", evil, session.users(evil, 0, "").await);
        let node = AddNodeRequest { name: "n9".into(), address: "127.0.0.1:1".into(), ..Default::default() };
        for node in [
            AddNodeRequest { name: (*evil).into(), ..node.clone() },
            AddNodeRequest { address: (*evil).into(), ..node.clone() },
            AddNodeRequest { zone: (*evil).into(), ..node.clone() },
        ] {
            let asked = cluster.on_leader(|channel| {
                let node = node.clone();
                async move { AdminServiceClient::new(channel).add_node(node).await }
            });
            is_refused("a node", evil, asked.await.map(drop));
        }
    }
    for trick in TRICKS {
        session.create_room(trick, false, vec!["alice".into()]).await.expect("a room");
        session.create_room(trick, false, Vec::new()).await.expect("a room to find");
    }
    let alice = Recipient::Username("alice".into());
    for body in [worst(), "#".repeat(300)] {
        session.send(&alice, &body).await.expect("a message");
        session.send(&Recipient::Conversation(plain), &body).await.expect("a message");
    }
}

fn cluster_with_mallory() -> Cluster {
    let cluster = Cluster::of(1);
    cluster.account("alice");
    Runtime::new().expect("a runtime").block_on(does_the_worst(&cluster.address("n1")));
    cluster
}

#[test]
fn nothing_that_an_account_chose_is_printed_raw() {
    let mut cluster = cluster_with_mallory();
    // Commands that print something of mallory's.
    for args in [
        "inbox",
        "inbox --unread",
        "read --peek --limit 500",
        "read mallory --limit 1",
        "history mallory",
        "history c1",
        "rooms",
        "users",
        "users m*",
        "sessions",
        "block mallory",
        "blocked",
        "unblock mallory",
        "room join c3",
        "room rename c2 better",
        "delete mallory 1",
        "room invite c4 mallory",
        "history c4",
    ] {
        typed(|args| cluster.chat(args), args, 0);
    }
    for json in [None, Some("--json")] {
        assert_harmless("listen", &listened(&cluster, json));
    }
    typed(|args| cluster.admin(args), "status", 0);
    typed(|args| cluster.admin(args), "verify", 0);
    // Commands that repeat a wrong argument.
    for (args, code) in [
        ("EVIL", 2),
        ("--as EVIL inbox", 5),
        ("--context EVIL inbox", 3),
        ("-s EVIL inbox", 2),
        ("--timeout EVIL inbox", 2),
        ("register EVIL", 1),
        ("login EVIL", 1),
        ("login alice --device EVIL", 1),
        ("login alice --password-file /nonexistent/EVIL", 1),
        ("passwd --new-password-file /nonexistent/EVIL", 1),
        ("delete-account --password-file /nonexistent/EVIL", 1),
        ("logout --session EVIL", 1),
        ("settings --receipts EVIL", 2),
        ("block EVIL", 1),
        ("unblock EVIL", 1),
        ("users EVIL", 1),
        ("send EVIL x", 1),
        ("send #EVIL x", 1),
        ("send --queue #EVIL x", 1),
        ("send #none EVIL", 3),
        ("send nobody EVIL", 3),
        ("send mallory x --request-id EVIL", 2),
        ("read EVIL", 1),
        ("history EVIL", 1),
        ("history mallory --before EVIL", 2),
        ("delete EVIL 1", 1),
        ("delete mallory EVIL", 2),
        ("listen --after EVIL", 2),
        ("room EVIL", 2),
        ("room create EVIL", 1),
        ("room join EVIL", 3),
        ("room rename c2 EVIL", 1),
        ("room invite c2 EVIL", 1),
        ("room kick c2 EVIL", 1),
        ("outbox drop EVIL", 2),
        ("context add EVIL a:1", 2),
        ("context add x EVIL", 2),
        ("context use EVIL", 3),
        ("context remove EVIL", 3),
        ("completions EVIL", 2),
        ("bench --clients EVIL", 2),
        ("man /proc/EVIL", 1),
        ("send mallory EVIL", 0),
        ("history mallory", 0),
    ] {
        typed(|args| cluster.chat(args), args, code);
    }
    for (args, code) in [
        ("EVIL", 2),
        ("-e EVIL status", 2),
        ("add-node EVIL a:1", 2),
        ("add-node n9 EVIL", 2),
        ("add-node n9 a:1 --zone EVIL", 2),
        ("replace-node EVIL n9 a:1", 2),
        ("remove-node EVIL", 2),
        ("promote EVIL", 2),
        ("demote EVIL", 2),
        ("set-address n1 EVIL", 2),
        ("transfer-leader EVIL", 2),
        ("promote n1 --etag EVIL", 1),
        ("backup /nonexistent/EVIL", 1),
        ("plan --zones EVIL=1", 2),
        ("probe --kill EVIL", 2),
        ("man /proc/EVIL", 1),
    ] {
        typed(|args| cluster.admin(args), args, code);
    }
    // Messages kept in the outbox because no node answers.
    cluster.kill("n1");
    typed(|args| cluster.chat(args), "--timeout 200ms send --queue mallory EVIL", 0);
    typed(|args| cluster.chat(args), "outbox", 0);
    typed(|args| cluster.chat(args), "--timeout 200ms inbox", 6);
    typed(|args| cluster.admin(args), "--timeout 200ms status", 6);
}

/// The output of `chat listen`, stdout and stderr, from the first event to the last.
fn listened(cluster: &Cluster, json: Option<&str>) -> String {
    let shell = "exec 2>&1; exec \"$@\"";
    let chat = program("chat");
    let mut command = Command::new("sh");
    command.args(["-c", shell, "sh"]).arg(chat.get_program()).args(["-s", &cluster.address("n1")]).args(json);
    command.args(["listen", "--after", "0"]).env("XDG_STATE_HOME", cluster.state_home()).stdout(Stdio::piped());
    let child = command.spawn().expect("chat starts");
    let last = cluster.chat(&["--json", "send", "alice", "the last"]).expect(0).out;
    assert!(last.contains("the last"));
    let pid = Pid::from_child(&child);
    let (send, coming) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut child = child;
        let mut output = child.stdout.take().expect("its output");
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = std::io::Read::read(&mut output, &mut bytes) {
            let _ = send.send(bytes[..count].to_vec());
        }
        child.wait().expect("it ends")
    });
    let mut heard = Vec::new();
    eventually("the last event is heard", || {
        heard.extend(coming.try_iter().flatten());
        String::from_utf8_lossy(&heard).contains("the last")
    });
    kill_process(pid, Signal::INT).expect("it listens");
    heard.extend(coming.iter().flatten());
    String::from_utf8(heard).expect("UTF-8")
}

#[test]
fn nothing_that_an_account_chose_reaches_a_terminal_raw() {
    let cluster = cluster_with_mallory();
    let chat = format!("{} -s {} --as alice", env!("CARGO_BIN_EXE_chat"), cluster.addresses());
    let mut terminal = Terminal::open(80, 24, &cluster.state_home());
    // Without colours, so that any escape sequence must be mallory's.
    for verb in ["history mallory", "rooms", "inbox", "users"] {
        let before = terminal.sent().len();
        let end = verb.replace(' ', "-");
        terminal.types(&format!("clear; NO_COLOR=1 {chat} {verb}; echo {end}-$?\r"));
        terminal.sees(&format!("{end}-0"));
        let sent = terminal.sent()[before..].replace("\r\n", "\n");
        let rows: Vec<&str> = sent.lines().filter(|row| !row.contains("clear")).collect();
        assert!(rows.len() > 2, "{verb}: {sent:?}");
        let answer =
            rows.iter().skip(1).filter(|row| !row.contains(&format!("{end}-"))).copied().collect::<Vec<_>>().join("\n");
        assert_harmless(verb, &answer.replace("\u{1b}[H\u{1b}[2J", "").replace("\u{1b}[3J", ""));
        // If a line of hers were broken, the next line would begin with her text.
        let picture = terminal.picture();
        assert!(!picture.lines().any(|row| row.starts_with("##") || row.starts_with("FORGED")), "{picture}");
    }
    let before = terminal.sent().len();
    terminal.types(&format!("clear; {chat}\r"));
    terminal.sees("connected to 127.0.0.1");
    // Through all conversations, the list of matches, and the search.
    for keys in ["\x0e"; 6].into_iter().chain(["\x14", "o", "\x1b", "\x06", "a", "\x1b"]) {
        terminal.types(keys);
    }
    terminal.types("\x14mallory");
    terminal.sees("To: mallory");
    terminal.types("\r");
    terminal.sees(r"\x1b]52;c;eA==\x07");
    terminal.types("\x03");
    terminal.is_clean();
    let sent = &terminal.sent()[before..];
    for raw in [
        "\u{1b}]",
        "\u{1b}P",
        "\u{1b}[31337z",
        "\u{7}",
        "\u{9b}",
        "\u{9d}",
        "\u{85}",
        "\u{2028}",
        "\u{202e}",
        "\u{2066}",
        "\u{200b}",
        "\u{feff}",
        "\u{e0041}",
    ] {
        assert!(!sent.contains(raw), "{raw:?} was sent to the terminal");
    }
}
