//! A real node in a process of its own, a watch on its memory, and a client that must not notice the flood.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use quorate::{
    client::{Cluster, Recipient, Session, Settings},
    wire::Dialer,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub const PASSWORD: &str = "correct horse battery";
/// Longest turn of the bystander. 0.1 s was measured on an idle machine; the bound allows for a busy one.
pub const NOTICED: Duration = Duration::from_secs(5);
/// The same while the flood keeps the node's cores busy, with pages to read or frames to parse; 2.4 s were measured.
pub const STRAINED: Duration = Duration::from_secs(10);

/// Held by the test whose node runs, so that the flood of one test does not slow down the bystander of another.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A cluster of one node, killed when dropped. One exists at a time.
pub struct Node {
    child: Child,
    pub address: String,
    dir: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Node {
    /// Starts a node with these settings (TOML).
    pub fn start(settings: &str) -> Self {
        Self::start_by(program(), settings)
    }

    /// The same with a limit on open files.
    pub fn start_with_files(files: usize, settings: &str) -> Self {
        let mut shell = plain(Command::new("sh"));
        shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_chat-node")]);
        Self::start_by(shell, settings)
    }

    fn start_by(mut run: Command, settings: &str) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().expect("a directory");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        drop(listener);
        let config = dir.path().join("node.toml");
        fs::write(&config, settings).expect("a file");
        let data = dir.path().join("data");
        let init = program().args(["init", "--name", "n1", "--listen", &address]).arg("--data-dir").arg(&data).output();
        assert!(init.expect("chat-node runs").status.success());
        let log = fs::File::create(dir.path().join("log")).expect("a file");
        run.args(["run", "--log", "warn"]).arg("--data-dir").arg(&data).arg("--config").arg(&config).stderr(log);
        let node = Self { child: run.spawn().expect("chat-node runs"), address, dir, _alone: alone };
        let begun = Instant::now();
        while TcpStream::connect(&node.address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not listen: {}", node.log());
            thread::sleep(Duration::from_millis(20));
        }
        node
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A client that knows this node's address.
    pub fn client(&self, timeout: Duration) -> Cluster {
        Cluster::new(vec![self.address.parse().expect("an address")], Dialer::tcp(), Settings::new(timeout))
    }

    /// Creates an account, signs in, and returns the session and its token.
    pub async fn account(&self, name: &str) -> (Session, String) {
        let client = self.client(Duration::from_secs(20));
        Session::register(&client, name, PASSWORD).await.expect("an account");
        let (session, created) = Session::login(&client, name, PASSWORD, "test").await.expect("a session");
        (session, created.token)
    }

    /// Samples the node's memory from now on.
    pub fn memory(&self) -> Memory {
        let status = format!("/proc/{}/status", self.child.id());
        let before = resident(Path::new(&status)).expect("its memory can be read");
        let (peak, stop) = (Arc::new(AtomicU64::new(before)), Arc::new(AtomicBool::new(false)));
        let (seen, stopping) = (Arc::clone(&peak), Arc::clone(&stop));
        let watching = thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                let Some(now) = resident(Path::new(&status)) else { return };
                seen.fetch_max(now, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(20));
            }
        });
        Memory { before, peak, stop, watching }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the node ({ended:?}) said\n{}", self.log());
        }
    }
}

fn program() -> Command {
    plain(Command::new(env!("CARGO_BIN_EXE_chat-node")))
}

fn plain(mut command: Command) -> Command {
    for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("CHAT_")) {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Resident memory in MiB; `None` once the process has ended.
fn resident(status: &Path) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib >> 10)
}

/// The resident memory of a node, sampled every 20 ms by a thread of its own.
pub struct Memory {
    before: u64,
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    watching: thread::JoinHandle<()>,
}

impl Memory {
    /// Growth to the highest sample, in MiB. Panics if the node has ended meanwhile.
    pub fn grown(&self) -> u64 {
        assert!(!self.watching.is_finished(), "its memory could not be read any more");
        self.peak.load(Ordering::Relaxed).saturating_sub(self.before)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A client that sends a message and reads it back, again and again.
pub struct Bystander {
    stop: Arc<AtomicBool>,
    going: JoinHandle<(u32, Duration)>,
}

impl Bystander {
    pub async fn start(node: &Node) -> Self {
        let (session, _) = node.account("bystander").await;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let going = tokio::spawn(async move {
            let notes = Recipient::Username("bystander".into());
            let (mut turns, mut longest) = (0, Duration::ZERO);
            while !stopping.load(Ordering::Relaxed) {
                let begun = Instant::now();
                session.send(&notes, "still here").await.expect("a bystander is served");
                let newest = quorate::wire::chat::ListMessagesRequest { page_size: 1, ..Default::default() };
                session.messages(Some(&notes), newest).await.expect("a bystander is served");
                longest = longest.max(begun.elapsed());
                turns += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (turns, longest)
        });
        Self { stop, going }
    }

    /// Stops the client and returns the number of its turns and the longest. Panics if one took longer than `timeout`.
    pub async fn has_noticed_nothing(self, timeout: Duration) -> (u32, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let (turns, longest) = self.going.await.expect("it was served all the time");
        assert!(turns > 0 && longest < timeout, "{turns} turns, the longest took {longest:?}");
        (turns, longest)
    }
}
