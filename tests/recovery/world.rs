//! Real nodes on loopback, each a process with its own data directory. Nodes still running are killed when the test
//! ends.

use std::{
    collections::BTreeMap,
    fs::File,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use quorate::{
    client::{Cluster, Recipient, Session, Settings},
    types::Consistency,
    wire::{Address, Dialer, chat},
};
use serde_json::Value;

/// Longest wait for anything.
pub const TIMEOUT: Duration = Duration::from_secs(30);
pub const PASSWORD: &str = "correct horse battery";

/// A node: its address and directory, and its process if it runs.
pub struct Node {
    pub address: String,
    pub dir: PathBuf,
    child: Option<Child>,
}

/// The nodes of one test, by name. They may belong to several clusters, or to none yet.
pub struct World {
    pub folder: tempfile::TempDir,
    pub nodes: BTreeMap<String, Node>,
}

/// A port that was free a moment ago.
pub fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").to_string()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A program of this crate, without the `CHAT_*` variables of the environment.
pub fn program(name: &str) -> Command {
    let path = match name {
        "chat-node" => env!("CARGO_BIN_EXE_chat-node"),
        _ => env!("CARGO_BIN_EXE_chat-admin"),
    };
    let mut command = Command::new(path);
    for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("CHAT_")) {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

impl World {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), nodes: BTreeMap::new() }
    }

    /// A cluster of one voter, n1.
    pub fn of_one() -> Self {
        let mut world = Self::new();
        world.place("n1");
        let (dir, address) = (world.dir("n1"), world.address("n1"));
        let made = chat_node(&["init", "--data-dir", &dir, "--name", "n1", "--listen", &address]);
        assert!(made.status.success(), "init: {}", text(&made.stderr));
        world.run("n1");
        world.wait_for_leader();
        world
    }

    /// A cluster of the voters n1 to n`count`.
    pub fn of(count: usize) -> Self {
        let mut world = Self::of_one();
        for number in 2..=count {
            world.add(&format!("n{number}"));
        }
        world
    }

    /// Chooses a directory and an address for a node. Does not start it.
    pub fn place(&mut self, name: &str) {
        let dir = self.folder.path().join(name);
        self.nodes.insert(name.to_owned(), Node { address: free_address(), dir, child: None });
    }

    /// Starts an empty node and adds it to the cluster.
    pub fn add(&mut self, name: &str) {
        self.place(name);
        self.run(name);
        let address = self.address(name);
        let added = self.admin(&["add-node", name, &address]);
        assert!(added.status.success(), "adding {name}: {}\n{}", text(&added.stderr), self.logs());
    }

    pub fn dir(&self, name: &str) -> String {
        self.nodes[name].dir.display().to_string()
    }

    pub fn address(&self, name: &str) -> String {
        self.nodes[name].address.clone()
    }

    /// All addresses, comma-separated, also of nodes that do not run.
    pub fn addresses(&self) -> String {
        self.nodes.values().map(|node| node.address.clone()).collect::<Vec<_>>().join(",")
    }

    /// Starts the node's process. Appends its log to a file.
    pub fn run(&mut self, name: &str) {
        self.run_with(name, &[]);
    }

    pub fn run_with(&mut self, name: &str, more: &[&str]) {
        let address = self.address(name);
        self.spawn(name, &[&["--name", name, "--listen", &address], more].concat());
    }

    /// Starts it with `chat-node run --data-dir DIR` alone, at the address in its own record.
    pub fn run_as_known(&mut self, name: &str) {
        self.spawn(name, &[]);
    }

    fn spawn(&mut self, name: &str, args: &[&str]) {
        let (dir, address) = (self.dir(name), self.address(name));
        let log = File::options().create(true).append(true).open(self.folder.path().join(format!("{name}.log")));
        let log = log.expect("a log file");
        let mut command = program("chat-node");
        command.args(["run", "--data-dir", &dir]).args(args);
        let child = command.stderr(log).stdout(Stdio::null()).spawn().expect("chat-node starts");
        self.nodes.get_mut(name).expect("a node").child = Some(child);
        eventually(&format!("{name} listens at {address}"), || std::net::TcpStream::connect(&address).ok().map(drop));
    }

    pub fn kill(&mut self, name: &str) {
        if let Some(mut child) = self.nodes.get_mut(name).expect("a node").child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it can be waited for");
        }
    }

    /// Sends a signal to the node's process.
    pub fn signal(&self, name: &str, signal: rustix::process::Signal) {
        let child = self.nodes[name].child.as_ref().expect("it runs");
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, signal).expect("it can be signalled");
    }

    /// Waits until the process ends by itself. Returns its exit code.
    pub fn exit_code(&mut self, name: &str) -> i32 {
        let child = self.nodes.get_mut(name).expect("a node").child.as_mut().expect("it runs");
        let ended = eventually(&format!("{name} ends"), || child.try_wait().expect("it can be waited for"));
        self.nodes.get_mut(name).expect("a node").child = None;
        ended.code().expect("it ended by itself")
    }

    /// Runs `chat-admin` with all nodes as endpoints.
    pub fn admin(&self, args: &[&str]) -> Output {
        self.admin_at(&self.addresses(), args)
    }

    pub fn admin_at(&self, endpoints: &str, args: &[&str]) -> Output {
        let mut command = program("chat-admin");
        command.args(["-e", endpoints, "--timeout", "20s"]).args(args).output().expect("chat-admin runs")
    }

    pub fn status_of(&self, endpoints: &str) -> Option<Value> {
        let output = self.admin_at(endpoints, &["--json", "status"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("status prints JSON"))
    }

    /// Waits for a leader with a quorum. Returns its name.
    pub fn wait_for_leader(&self) -> String {
        eventually("a leader with a quorum", || {
            let status = self.status_of(&self.addresses())?;
            let leads = |node: &&Value| node["nodeId"] == status["leaderId"];
            let leader = status["nodes"].as_array()?.iter().find(leads)?;
            (status["hasQuorum"] == true).then(|| leader["name"].as_str().unwrap_or_default().to_owned())
        })
    }

    pub fn cluster_id(&self) -> String {
        self.inspect("n1")["identity"]["clusterId"].as_str().expect("an id").to_owned()
    }

    /// Runs `chat-node inspect` on a stopped node.
    pub fn inspect(&self, name: &str) -> Value {
        let output = chat_node(&["inspect", "--json", "--data-dir", &self.dir(name)]);
        assert!(output.status.success(), "inspect {name}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("inspect prints JSON")
    }

    /// A client that knows these nodes.
    pub fn cluster(&self, names: &[&str]) -> Cluster {
        let seeds: Vec<Address> = names.iter().map(|name| self.address(name).parse().expect("an address")).collect();
        Cluster::new(seeds, Dialer::tcp(), Settings::new(TIMEOUT))
    }

    /// The log of all the node's processes.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    pub fn logs(&self) -> String {
        let log = |name: &String| {
            let log = self.log(name);
            let lines: Vec<&str> = log.lines().collect();
            format!("== {name}\n{}\n", lines[lines.len().saturating_sub(25)..].join("\n"))
        };
        self.nodes.keys().map(log).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        for node in self.nodes.values_mut() {
            if let Some(mut child) = node.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// Runs `chat-node` to its end.
pub fn chat_node(args: &[&str]) -> Output {
    program("chat-node").args(args).output().expect("chat-node runs")
}

/// Calls `look` until it returns something; panics after [`TIMEOUT`].
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {TIMEOUT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The texts of all messages that the account may see, oldest first.
pub async fn bodies(session: &Session) -> Vec<String> {
    let session = session.reading(Consistency::Linearizable);
    let mut request = chat::ListMessagesRequest { page_size: 500, ..Default::default() };
    let mut bodies = Vec::new();
    loop {
        let page = session.messages(None, request.clone()).await.expect("messages can be listed");
        bodies.extend(page.messages.into_iter().map(|message| message.body));
        if page.next_page_token.is_empty() {
            return bodies;
        }
        request.page_token = page.next_page_token;
    }
}

/// Creates an account and signs in.
pub async fn account(cluster: &Cluster, name: &str) -> Session {
    Session::register(cluster, name, PASSWORD).await.expect("a new account");
    Session::login(cluster, name, PASSWORD, "test").await.expect("a login").0
}

pub fn to(name: &str) -> Recipient {
    Recipient::Username(name.to_owned())
}
