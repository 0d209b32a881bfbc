//! The transcripts of docs/chat.md, run against a real cluster. Each verb of `chat` must appear in one of them.
//!
//! In a `console` block, alice types what follows `alice$ `. The lines below are the output, stdout and stderr in the
//! order in which they were written, then `[exit code N]` unless the code is 0. `^C` stands where a command is
//! interrupted: once it has written the lines before. Comments in the page say when the node stops and starts. What
//! differs from run to run (times, ids, the node's address) is replaced by fixed substitutes, which commands in the
//! page may use too.
//!
//! `UPDATE_GOLDENFILES=1 cargo test --test processes guide` writes the actual output into the page. Review the diff.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use clap::CommandFactory;
use quorate::{cli::chat::Chat, types::RequestId};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    cluster::{Cluster, PASSWORD},
    shell::{TIMEOUT, program},
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/chat.md");
const STOP: &str = "<!-- the node stops -->";
const START: &str = "<!-- the node starts -->";
/// Verbs whose output has no place in the page.
const NOT_SHOWN: [&str; 2] = ["bench", "completions"];

/// A piece of the page. The lines of all pieces together are the page.
#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Typed { by: String, command: String, read: Vec<String> },
}

fn pieces(page: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        let typed = line.split_once("$ ").filter(|(by, _)| inside && by.chars().all(|c| c.is_ascii_lowercase()));
        match (typed, pieces.last_mut()) {
            (Some((by, command)), _) => {
                let (by, command) = (by.to_owned(), command.to_owned());
                pieces.push(Piece::Typed { by, command, read: Vec::new() });
            }
            (None, Some(Piece::Typed { read, .. })) if inside && line != "```" => read.push(line.to_owned()),
            _ => {
                inside = line == "```console";
                pieces.push(Piece::Text(line.to_owned()));
            }
        }
    }
    pieces
}

fn page_of(pieces: &[Piece]) -> String {
    let lines = pieces.iter().flat_map(|piece| match piece {
        Piece::Text(line) => vec![line.clone()],
        Piece::Typed { by, command, read } => [vec![format!("{by}$ {command}")], read.clone()].concat(),
    });
    lines.map(|line| line + "\n").collect()
}

/// The substitutes for what differs from run to run.
#[derive(Default)]
struct Substitutes {
    /// The actual text and its substitute on the page.
    pairs: Vec<(String, String)>,
    requests: usize,
    sessions: usize,
}

impl Substitutes {
    fn on_page(&mut self, line: &str) -> String {
        let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.')));
        let words: Vec<String> = words.map(|word| word.trim_end_matches([':', '.']).to_owned()).collect();
        let mut line = line.to_owned();
        for word in words {
            if let Some(substitute) = self.substitute(&word) {
                line = line.replace(&word, &substitute);
            }
        }
        line
    }

    fn substitute(&mut self, word: &str) -> Option<String> {
        if let Some((_, substitute)) = self.pairs.iter().find(|(read, _)| read == word) {
            return Some(substitute.clone());
        }
        let is_hex = |c: char| c.is_ascii_hexdigit() && !c.is_ascii_uppercase();
        let substitute = if word.len() == 20 && word.ends_with('Z') && word.get(10..11) == Some("T") {
            return Some("2026-11-22T18:00:00Z".to_owned());
        } else if word.len() > 6 && word.chars().all(|c| c.is_ascii_digit()) {
            // A cursor.
            return Some("41943040".to_owned());
        } else if word.parse::<RequestId>().is_ok() {
            self.requests += 1;
            format!("019aacd0-5a60-7000-8000-{:012}", self.requests)
        } else if word.len() == 16 && word.chars().all(is_hex) {
            self.sessions += 1;
            format!("5e5510{:010}", self.sessions)
        } else {
            return None;
        };
        self.pairs.push((word.to_owned(), substitute.clone()));
        Some(substitute)
    }

    fn as_typed(&self, command: &str) -> String {
        self.pairs.iter().fold(command.to_owned(), |command, (read, page)| command.replace(page, read))
    }
}

/// A shell of the user `by`, with a home folder of its own where `chat` keeps its state.
fn shell(cluster: &Cluster, by: &str, command: &str) -> Command {
    let home = cluster.state_home().join(by);
    std::fs::create_dir_all(&home).expect("a home");
    let chat = program("chat");
    let programs = std::path::Path::new(chat.get_program()).parent().expect("their folder");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("CHAT_")) {
        shell.env_remove(variable);
    }
    shell.args(["-c", command]).current_dir(&home).stdin(Stdio::null()).stdout(Stdio::piped());
    shell.env("HOME", &home).env("XDG_STATE_HOME", &home).env("XDG_CONFIG_HOME", &home).env("PATH", path);
    shell.env("CHAT_SERVERS", cluster.address("n1")).env("CHAT_PASSWORD", PASSWORD).env("CHAT_DEVICE", "laptop");
    shell
}

/// Runs `command` and returns the lines that it writes.
fn run(cluster: &Cluster, by: &str, command: &str, before_interrupt: Option<usize>) -> Vec<String> {
    // `exec` replaces the shell, so that the signal goes to the command itself.
    let exec = if before_interrupt.is_some() { "exec " } else { "" };
    let mut child = shell(cluster, by, &format!("exec 2>&1; {exec}{command}")).spawn().expect("a shell starts");
    let mut read = match before_interrupt {
        Some(lines) => interrupted(&mut child, lines),
        None => {
            let mut text = String::new();
            child.stdout.take().expect("its output").read_to_string(&mut text).expect("UTF-8");
            text.lines().map(str::to_owned).collect()
        }
    };
    match child.wait().expect("it ends").code() {
        Some(0) => {}
        code => read.push(format!("[exit code {}]", code.unwrap_or(-1))),
    }
    read
}

/// Reads this many lines, interrupts the command, and reads the rest.
fn interrupted(child: &mut Child, lines: usize) -> Vec<String> {
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let (send, coming) = mpsc::channel();
    thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    let mut read: Vec<String> = (0..lines).map_while(|_| coming.recv_timeout(TIMEOUT).ok()).collect();
    kill_process(Pid::from_child(child), Signal::INT).expect("it runs");
    read.push("^C".to_owned());
    read.extend(coming);
    read
}

#[test]
fn the_guide_shows_what_people_read() {
    let page = std::fs::read_to_string(PAGE).expect("docs/chat.md");
    let mut cluster = Cluster::of(1);
    let mut substitutes = Substitutes::default();
    substitutes.pairs.push((cluster.address("n1"), "127.0.0.1:7401".to_owned()));
    let mut now = pieces(&page);
    for piece in &mut now {
        match piece {
            Piece::Text(line) if line == STOP => cluster.kill("n1"),
            Piece::Text(line) if line == START => {
                cluster.start("n1");
                cluster.leader();
            }
            Piece::Text(_) => {}
            Piece::Typed { by, command, read } => {
                let before_interrupt = read.iter().position(|line| line == "^C");
                let lines = run(&cluster, by, &substitutes.as_typed(command), before_interrupt);
                *read = lines.iter().map(|line| substitutes.on_page(line)).collect();
            }
        }
    }
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        std::fs::write(PAGE, page_of(&now)).expect("docs/chat.md can be written");
        return;
    }
    for (before, now) in pieces(&page).iter().zip(&now) {
        assert_eq!(now, before, "docs/chat.md (right) shows another answer than this (left)");
    }
}

#[test]
fn the_guide_shows_every_verb() {
    let page = std::fs::read_to_string(PAGE).expect("docs/chat.md");
    let typed: Vec<String> = pieces(&page)
        .into_iter()
        .filter_map(|piece| match piece {
            Piece::Typed { command, .. } => Some(command),
            Piece::Text(_) => None,
        })
        .collect();
    let mut verbs = Vec::new();
    leaves(&Chat::command(), "", &mut verbs);
    assert!(verbs.len() > 30, "{verbs:?}");
    for verb in verbs.iter().filter(|verb| !NOT_SHOWN.contains(&verb.trim())) {
        assert!(typed.iter().any(|command| format!("{command} ").contains(verb)), "docs/chat.md never types{verb}");
    }
}

/// Collects the full names of all verbs, such as ` room create `.
fn leaves(command: &clap::Command, path: &str, found: &mut Vec<String>) {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let path = format!("{path} {}", verb.get_name());
        match verb.has_subcommands() {
            true => leaves(verb, &path, found),
            false => found.push(path + " "),
        }
    }
}
