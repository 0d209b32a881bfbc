//! The program `chat-admin`: exit codes, stdout and stderr.

use std::process::{Command, Output};

fn chat_admin(args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_chat-admin");
    let mut command = Command::new(program);
    command.env_remove("CHAT_ENDPOINTS").env_remove("CHAT_TIMEOUT").args(args).output().expect("chat-admin runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn a_plan_goes_to_stdout_and_exits_with_0() {
    let plan = chat_admin(&["plan", "--zones", "a=2,b=2,c=1"]);
    assert_eq!(plan.status.code(), Some(0));
    assert!(text(&plan.stdout).starts_with("5 voters, quorum 3\n  survives any 2 nodes\n  survives any 1 zone\n"));
    assert!(plan.stderr.is_empty());
}

#[test]
fn usage_errors_exit_with_2_on_stderr() {
    for args in [&["plan"][..], &["status"], &["add-node", "n4"], &["plan", "--zones", "a=1,a=2"]] {
        let ended = chat_admin(args);
        assert_eq!(ended.status.code(), Some(2), "{args:?}");
        assert!(ended.stdout.is_empty() && text(&ended.stderr).starts_with("error: "), "{args:?}");
    }
}

#[test]
fn an_absent_cluster_exits_with_6_and_says_what_next() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address").to_string();
    drop(listener);
    let ended = chat_admin(&["-e", &address, "--timeout", "500ms", "remove-node", "n3"]);
    assert_eq!(ended.status.code(), Some(6));
    let said = text(&ended.stderr);
    assert!(said.starts_with("error: cannot remove node n3: ") && said.contains("\n  next: "), "{said}");
}

#[test]
fn completions_exist_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = chat_admin(&["completions", shell]);
        assert!(script.status.success() && text(&script.stdout).contains("transfer-leader"), "{shell}");
    }
}
