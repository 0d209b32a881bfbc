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

/// The first Python block of the page.
fn bot_of_the_page() -> String {
    let page = include_str!("../../docs/bots.md");
    let block = page.split("```python\n").nth(1).expect("a block of Python");
    block.split("```").next().expect("its end").to_owned()
}

fn said_by_echo(cluster: &Cluster) -> Vec<String> {
    let ended = cluster.chat(&["--as", "alice", "--timeout", "30s", "--json", "history", "echo"]).expect(0);
    let messages = ended.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let of_echo = messages.filter(|message| message["sender"] == "echo");
    of_echo.map(|message| message["body"].as_str().expect("a body").to_owned()).collect()
}

#[test]
fn the_echo_bot_of_the_page_survives_the_death_of_the_leader() {
    let has_python = std::process::Command::new("python3").arg("--version").output().is_ok();
    if !has_python {
        eprintln!("skipped: there is no python3 here to run the bot of docs/bots.md");
        return;
    }
    let source = bot_of_the_page();
    assert!(source.lines().count() <= 10, "the page promises ten lines");
    let mut cluster = Cluster::of(3);
    cluster.account("alice");
    cluster.account("echo");
    let chat = std::path::Path::new(env!("CARGO_BIN_EXE_chat")).parent().expect("a folder").to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    let child = std::process::Command::new("python3")
        .args(["-c", &source])
        .env("PATH", format!("{}:{path}", chat.display()))
        .env("XDG_STATE_HOME", cluster.state_home())
        .env("CHAT_SERVERS", cluster.addresses())
        .env("CHAT_AS", "echo")
        .env("HOME", cluster.state_home())
        .current_dir(cluster.state_home())
        .process_group(0)
        .spawn()
        .expect("the bot starts");
    let _bot = Bot(child);
    // The bot sees only messages sent after it has connected.
    let mut greetings = 0;
    eventually("the bot answers", || {
        greetings += 1;
        cluster.chat(&["--as", "alice", "send", "echo", &format!("hello {greetings}")]).expect(0);
        !said_by_echo(&cluster).is_empty()
    });
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
