//! Bots made of pipes: the bot of docs/bots.md, copied from the page and run.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    process::{Child, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::{
    cluster::{Cluster, PASSWORD},
    shell::{eventually, program},
};

/// A bot and the programs that it runs. All of them are killed when it is dropped.
struct Bot(Child);

impl Drop for Bot {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.0.id() as i32).expect("a process id");
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.0.wait();
    }
}

/// The first block of the page in this language.
fn bot_of_the_page(language: &str) -> String {
    let page = include_str!("../../docs/bots.md");
    let block = page.split(&format!("```{language}\n")).nth(1).expect("a block of this language");
    block.split("```").next().expect("its end").to_owned()
}

/// Whether this machine has the program. Without it a test says that it was skipped.
fn has(tool: &str) -> bool {
    let has = std::process::Command::new(tool).arg("--version").output().is_ok();
    if !has {
        eprintln!("skipped: there is no {tool} here to run the bots of docs/bots.md");
    }
    has
}

/// Starts a bot of the account echo: `source` run by `python3 -c` or `sh -c`.
fn start(cluster: &Cluster, interpreter: &str, source: &str) -> Bot {
    let chat = std::path::Path::new(env!("CARGO_BIN_EXE_chat")).parent().expect("a folder").to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    let child = std::process::Command::new(interpreter)
        .args(["-c", source])
        .env("PATH", format!("{}:{path}", chat.display()))
        .env("XDG_STATE_HOME", cluster.state_home())
        .env("CHAT_SERVERS", cluster.addresses())
        .env("CHAT_AS", "echo")
        .env("HOME", cluster.state_home())
        .current_dir(cluster.state_home())
        .process_group(0)
        .spawn()
        .expect("the bot starts");
    Bot(child)
}

/// Greets the bot until it answers: it sees only messages that are sent after it has connected.
fn greet(cluster: &Cluster) {
    let mut greetings = 0;
    eventually("the bot answers", || {
        greetings += 1;
        cluster.chat(&["--as", "alice", "send", "echo", &format!("hello {greetings}")]).expect(0);
        !said_by_echo(cluster).is_empty()
    });
}

/// Whether the bot answers its own messages. It reads in order, so before it answers the last word it has answered its
/// answer to the greeting.
fn answers_itself(interpreter: &str, source: &str) -> bool {
    let cluster = Cluster::of(1);
    cluster.account("alice");
    cluster.account("echo");
    let _bot = start(&cluster, interpreter, source);
    greet(&cluster);
    cluster.chat(&["--as", "alice", "send", "echo", "the last word"]).expect(0);
    eventually("the bot has answered the last word", || {
        said_by_echo(&cluster).iter().any(|said| said == "the last word")
    });
    let mut said = said_by_echo(&cluster);
    let all = said.len();
    said.sort_unstable();
    said.dedup();
    said.len() < all
}

fn said_by_echo(cluster: &Cluster) -> Vec<String> {
    let ended = cluster.chat(&["--as", "alice", "--timeout", "30s", "--json", "history", "echo"]).expect(0);
    let messages = ended.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let of_echo = messages.filter(|message| message["sender"] == "echo");
    of_echo.map(|message| message["body"].as_str().expect("a body").to_owned()).collect()
}

#[test]
fn the_bots_of_the_page_do_not_answer_themselves() {
    for (tool, interpreter, language, guard, broken) in [
        ("python3", "python3", "python", r#" and message["sender"] != "echo""#, ""),
        ("jq", "sh", "sh", r#"(.message.sender? // "echo") != "echo""#, r#".message.sender? // "echo" != "echo""#),
    ] {
        if !has(tool) {
            continue;
        }
        let bot = bot_of_the_page(language);
        assert!(!answers_itself(interpreter, &bot), "{bot}");
        assert!(bot.contains(guard), "the guard has changed: {bot}");
        assert!(
            answers_itself(interpreter, &bot.replace(guard, broken)),
            "this test cannot see a {tool} bot's mistake"
        );
    }
}

#[test]
fn the_echo_bot_of_the_page_survives_the_death_of_the_leader() {
    if !has("python3") {
        return;
    }
    let source = bot_of_the_page("python");
    assert!(source.lines().count() <= 10, "the page promises ten lines");
    let mut cluster = Cluster::of(3);
    cluster.account("alice");
    cluster.account("echo");
    let _bot = start(&cluster, "python3", &source);
    greet(&cluster);
    let leader = cluster.leader();
    cluster.kill(&leader);
    cluster.chat(&["--as", "alice", "--timeout", "30s", "send", "echo", "still there?"]).expect(0);
    eventually("the bot answers under the new leader", || {
        said_by_echo(&cluster).iter().any(|said| said == "still there?")
    });
    let said = said_by_echo(&cluster);
    let mut once = said.clone();
    once.dedup();
    assert_eq!(said, once, "it answered something twice");
}

#[test]
fn a_pipe_tells_what_became_of_each_line() {
    let cluster = Cluster::of(1);
    cluster.account("bob");
    cluster.account("alice");
    let id = "018bcfe5-6800-7000-8000-000000000001";
    let lines = [
        r#"{"to":"bob","body":"one"}"#,
        r#"{"to":"nobody","body":"two"}"#,
        "not JSON",
        r#"{"to":"bob","body":"three","requestId":"x"}"#,
        r#"{"to":"bob","body":"four","requestId":"OLD"}"#,
        "",
        r#"{"to":"bob","body":"five"}"#,
    ];
    let input = lines.join("\n").replace("OLD", id);
    let mut child = program("chat")
        .args(["-s", &cluster.addresses(), "--json", "send", "-"])
        .env("XDG_STATE_HOME", cluster.state_home())
        .env("CHAT_PASSWORD", PASSWORD)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("chat starts");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let results = String::from_utf8(output.stdout).expect("UTF-8");
    let results: Vec<Value> = results.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let oks: Vec<bool> = results.iter().map(|result| result["ok"] == true).collect();
    assert_eq!(oks, [true, false, false, false, false, true], "{results:#?}");
    assert_eq!(results[0]["message"]["body"], "one");
    assert_eq!(results[1]["reason"], "NOT_FOUND");
    assert_eq!(results[4]["requestId"], id);
    assert_eq!(output.status.code(), Some(1), "some were refused");
}
