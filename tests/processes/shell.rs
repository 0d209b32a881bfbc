//! Runs programs to their end and nodes until they are stopped. All are killed when their owner is dropped.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU16, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for anything. Generous, because the machine may be busy with other tests.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest run of a program that a test waits for.
const LONGEST: Duration = Duration::from_secs(120);

/// The exit code, the output and the duration of a program that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    /// Standard output: the result.
    pub out: String,
    /// Standard error: what the program tells the person.
    pub talk: String,
    pub took: Duration,
}

impl Ended {
    /// Fails the test unless the program ended with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code; stdout:\n{}\nstderr:\n{}", self.out, self.talk);
        self
    }

    /// Fails the test unless `words` are in standard error.
    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(self.talk.contains(words), "`{words}` is missing in:\n{}", self.talk);
        self
    }
}

/// `chat-node`, `chat-admin` or `chat`, without the `CHAT_*` variables of the environment.
pub fn program(name: &str) -> Command {
    plain(Command::new(path_of(name)))
}

fn program_within(space: &str, name: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", space, path_of(name)]);
    plain(command)
}

fn path_of(name: &str) -> &'static str {
    match name {
        "chat-node" => env!("CARGO_BIN_EXE_chat-node"),
        "chat-admin" => env!("CARGO_BIN_EXE_chat-admin"),
        "chat" => env!("CARGO_BIN_EXE_chat"),
        other => panic!("no program {other}"),
    }
}

fn plain(mut command: Command) -> Command {
    for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("CHAT_")) {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs `chat-node` with these arguments to its end.
pub fn chat_node(args: &[&str]) -> Ended {
    finished(program("chat-node").args(args))
}

/// Runs a program to its end. Kills it after [`LONGEST`], so that it cannot hang the suite.
pub fn finished(command: &mut Command) -> Ended {
    let begun = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("the program starts");
    let pid = Pid::from_child(&child);
    let (send, ended) = mpsc::channel();
    thread::spawn(move || send.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(LONGEST) else {
        let _ = kill_process(pid, Signal::KILL);
        panic!("{command:?} did not end within {LONGEST:?}");
    };
    let output = output.expect("the program's output");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let code = output.status.code().unwrap_or(-1);
    Ended { code, out: text(output.stdout), talk: text(output.stderr), took: begun.elapsed() }
}

/// A running `chat-node`, killed when dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `chat-node run` with these arguments, in the network namespace `space` if one is given. Appends its
    /// output to the file `log`.
    pub fn start(space: Option<&str>, args: &[&str], log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log file");
        let also = file.try_clone().expect("a second handle");
        let mut command = match space {
            None => program("chat-node"),
            // `ip netns exec` becomes the program, with the same process id.
            Some(space) => program_within(space, "chat-node"),
        };
        let child = command.arg("run").args(args).stdout(file).stderr(also).spawn().expect("chat-node starts");
        Self { child, log: log.to_owned() }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process id");
        kill_process(pid, signal).expect("the process is there");
    }

    /// Waits until the node ends by itself. Returns its exit code and its whole log.
    #[track_caller]
    pub fn exit(&mut self) -> (Option<i32>, String) {
        self.exit_within(TIMEOUT)
    }

    /// The same with a timeout of the caller's own.
    #[track_caller]
    pub fn exit_within(&mut self, limit: Duration) -> (Option<i32>, String) {
        let mut status = None;
        eventually_within(limit, "the node ends", || {
            status = self.child.try_wait().expect("its status");
            status.is_some()
        });
        let status = status.expect("just seen");
        (status.code(), format!("{status}\n{}", self.logged()))
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_none()
    }

    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.logged();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the last of {}\n{}", self.log.display(), lines[lines.len().saturating_sub(15)..].join("\n"));
        }
    }
}

/// Polls until `holds` returns true; panics after [`TIMEOUT`].
#[track_caller]
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    eventually_within(TIMEOUT, what, holds);
}

#[track_caller]
fn eventually_within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "waited {limit:?} in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// An address where nothing listens. Its port is below the range for outgoing connections, so that none of those takes
/// it while a node restarts.
pub fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + (std::process::id() as u16 % 900) * 20 + offset;
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

/// Whether this process runs as root, and so may mount file systems and create namespaces.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
