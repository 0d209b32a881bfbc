//! A cluster of real processes, grown with `init` and `add-node` as an operator would.

use std::{
    collections::BTreeMap,
    net::TcpStream,
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    hosts::Hosts,
    shell::{Ended, Running, chat_node, eventually, finished, free_address, program},
};

pub const PASSWORD: &str = "correct horse battery";

/// A cluster of nodes n1, n2, and so on. All are killed when it is dropped.
pub struct Cluster {
    nodes: BTreeMap<String, Member>,
    // Dropped after `nodes`, which run on them: fields are dropped in order.
    hosts: Option<Hosts>,
    dir: TempDir,
}

struct Member {
    address: String,
    data: PathBuf,
    running: Option<Running>,
}

impl Cluster {
    /// A cluster of `size` voters.
    pub fn of(size: usize) -> Self {
        Self::with_first_in(size, None)
    }

    /// A cluster of `size` voters, each on its own host.
    pub fn on_hosts(size: usize, hosts: Hosts) -> Self {
        Self::made(size, None, Some(hosts))
    }

    /// A cluster of `size` voters, with the first node's data in `data`.
    pub fn with_first_in(size: usize, data: Option<&Path>) -> Self {
        Self::made(size, data, None)
    }

    fn made(size: usize, data: Option<&Path>, hosts: Option<Hosts>) -> Self {
        let mut cluster = Self { nodes: BTreeMap::new(), hosts, dir: tempfile::tempdir().expect("a directory") };
        cluster.prepare("n1", data);
        let (address, dir) = (cluster.address("n1"), cluster.data("n1"));
        chat_node(&["init", "--data-dir", &dir, "--name", "n1", "--listen", &address]).expect(0);
        cluster.start("n1");
        for number in 2..=size {
            cluster.start_empty(&format!("n{number}"));
            cluster.add(&format!("n{number}")).expect(0);
        }
        cluster
    }

    fn prepare(&mut self, name: &str, data: Option<&Path>) {
        let data = data.map_or_else(|| self.dir.path().join(name), Path::to_owned);
        let address = self.hosts.as_mut().map_or_else(free_address, |hosts| hosts.add(name));
        self.nodes.insert(name.to_owned(), Member { address, data, running: None });
    }

    /// Starts an empty node, to be added, and waits until it listens.
    pub fn start_empty(&mut self, name: &str) {
        self.prepare(name, None);
        let (address, data) = (self.address(name), self.data(name));
        self.run(name, &["--data-dir", &data, "--name", name, "--listen", &address]);
        eventually("the new node listens", || TcpStream::connect(&address).is_ok());
    }

    /// Starts a node on its data directory and waits until it listens.
    pub fn start(&mut self, name: &str) {
        let data = self.data(name);
        self.run(name, &["--data-dir", &data]);
        let address = self.address(name);
        eventually("the node listens", || TcpStream::connect(&address).is_ok());
    }

    /// Starts a node whose disk may have gone back in time, on the responsibility of the operator.
    pub fn start_trusted(&mut self, name: &str) {
        let data = self.data(name);
        self.run(name, &["--data-dir", &data, "--trust-this-disk"]);
        let address = self.address(name);
        eventually("the node listens", || TcpStream::connect(&address).is_ok());
    }

    fn run(&mut self, name: &str, args: &[&str]) {
        let log = self.log(name);
        let space = self.hosts.as_ref().map(|hosts| hosts.space(name));
        self.nodes.get_mut(name).expect("a node").running = Some(Running::start(space.as_deref(), args, &log));
    }

    /// The hosts that its nodes run on.
    pub fn hosts(&self) -> Option<&Hosts> {
        self.hosts.as_ref()
    }

    /// The log of a node's processes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    pub fn address(&self, name: &str) -> String {
        self.nodes[name].address.clone()
    }

    pub fn data(&self, name: &str) -> String {
        self.nodes[name].data.display().to_string()
    }

    /// All addresses, comma-separated.
    pub fn addresses(&self) -> String {
        self.nodes.values().map(|member| member.address.clone()).collect::<Vec<_>>().join(",")
    }

    pub fn names(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    pub fn running(&mut self, name: &str) -> &mut Running {
        self.nodes.get_mut(name).expect("a node").running.as_mut().expect("it runs")
    }

    pub fn signal(&mut self, name: &str, signal: Signal) {
        self.running(name).signal(signal);
    }

    /// Kills a node with SIGKILL. Its data stay.
    pub fn kill(&mut self, name: &str) {
        self.signal(name, Signal::KILL);
        self.nodes.get_mut(name).expect("a node").running = None;
    }

    /// Forgets a node that has stopped for good.
    pub fn forget(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// Adds an empty node that is running.
    pub fn add(&self, name: &str) -> Ended {
        self.admin(&["--timeout", "30s", "add-node", name, &self.address(name)])
    }

    /// Runs `chat-admin` against this cluster.
    pub fn admin(&self, args: &[&str]) -> Ended {
        finished(program("chat-admin").args(["-e", &self.addresses()]).args(args))
    }

    /// The folder where `chat` keeps its state.
    pub fn state_home(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Runs `chat` as the account that signed in last.
    pub fn chat(&self, args: &[&str]) -> Ended {
        self.chat_by_way_of(&self.addresses(), args)
    }

    /// Runs `chat` with only these addresses.
    pub fn chat_by_way_of(&self, addresses: &str, args: &[&str]) -> Ended {
        let mut command = program("chat");
        command.env("XDG_STATE_HOME", self.state_home()).env("XDG_CONFIG_HOME", self.state_home());
        command.env("CHAT_PASSWORD", PASSWORD);
        finished(command.args(["-s", addresses]).args(args))
    }

    /// Registers an account and signs in.
    pub fn account(&self, name: &str) {
        self.chat(&["register", name]).expect(0);
        self.chat(&["login", name]).expect(0);
    }

    /// `chat-admin status --json`, if any node answers.
    pub fn status(&self) -> Option<Value> {
        let ended = self.admin(&["--timeout", "2s", "--json", "status"]);
        (ended.code == 0).then(|| serde_json::from_str(&ended.out).expect("JSON"))
    }

    /// Waits for a leader with a quorum. Returns its name.
    #[track_caller]
    pub fn leader(&self) -> String {
        let mut leader = None;
        eventually("a leader with a quorum is known", || {
            let Some(status) = self.status() else { return false };
            let nodes = status["nodes"].as_array().expect("nodes");
            let led = status["hasQuorum"] == true && status["leaderId"] != "0";
            leader = nodes.iter().find(|node| node["nodeId"] == status["leaderId"]).filter(|_| led).cloned();
            leader.is_some()
        });
        leader.expect("just seen")["name"].as_str().expect("its name").to_owned()
    }

    /// The names of all nodes but the leader.
    #[track_caller]
    pub fn followers(&self) -> Vec<String> {
        let leader = self.leader();
        self.names().into_iter().filter(|name| *name != leader).collect()
    }

    /// Waits until all replicas answer `verify`; panics unless their digests are equal.
    #[track_caller]
    pub fn replicas_agree(&self) {
        let differ = |ended: &Ended| ended.out.contains("differ");
        eventually("all replicas agree", || {
            let verified = self.admin(&["--timeout", "5s", "verify"]);
            assert!(!differ(&verified), "{}", verified.out);
            verified.code == 0
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let status = self.admin(&["--timeout", "2s", "status"]);
            eprintln!("--- status\n{}{}", status.out, status.talk);
        }
    }
}
