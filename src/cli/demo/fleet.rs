//! The processes of the demo, their ports and their directory.

use std::{
    env, fs,
    net::TcpListener,
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::super::{Exit, Failure, Result, probe::hex};
use crate::{types::Entropy, wire::Address};

/// The range of ports for the nodes. It is below the ephemeral ports of common systems (Linux starts at 32768), so that no
/// outgoing connection takes a node's port while the node is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Lines of a node's log that the error shows if the node ends by itself.
const LOG_LINES: usize = 5;

/// One node of the demo, running or not.
pub(super) struct NodeProcess {
    pub name: String,
    pub zone: &'static str,
    pub address: Address,
    directory: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

/// All nodes and the directory with their data.
///
/// Dropping it kills the processes and removes their data and logs, unless [`Fleet::keep`] was called. It removes the
/// directory only if it created it, and nothing in it that is not of the nodes.
pub(super) struct Fleet {
    program: PathBuf,
    pub nodes: Vec<NodeProcess>,
    pub directory: PathBuf,
    /// We created the directory, so we remove it.
    created: bool,
    kept: bool,
}

impl Fleet {
    /// `size` nodes, none of them started: the larger half in zone a, the others in zone b.
    pub fn new(size: usize, directory: Option<&Path>) -> Result<Self> {
        let program = env::current_exe().map_err(|error| Failure::from(error).context("cannot find this program"))?;
        let (directory, created) = data_directory(directory)?;
        let mut fleet = Self { program, nodes: Vec::new(), directory, created, kept: false };
        for (number, address) in (1..).zip(free_addresses(size)?) {
            let name = format!("n{number}");
            fleet.nodes.push(NodeProcess {
                zone: if number <= size.div_ceil(2) { "a" } else { "b" },
                directory: fleet.directory.join(&name),
                log: fleet.directory.join(format!("{name}.log")),
                child: None,
                name,
                address,
            });
        }
        Ok(fleet)
    }

    /// `127.0.0.1:20001,127.0.0.1:20002,…`.
    pub fn addresses(&self) -> String {
        let addresses: Vec<&str> = self.nodes.iter().map(|node| node.address.as_str()).collect();
        addresses.join(",")
    }

    /// The ids of the running processes.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|node| node.child.as_ref().map(Child::id)).collect()
    }

    /// Makes the first node a cluster of one: `chat-node init`.
    pub fn init_first(&self) -> Result<()> {
        let first = &self.nodes[0];
        let mut command = self.command("init", first);
        command.args(["--name", &first.name, "--listen", first.address.as_str(), "--zone", first.zone]);
        let ended = command.stdin(Stdio::null()).output().map_err(|error| cannot("run chat-node init", &error))?;
        if ended.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
        Err(Failure::new(Exit::Failure, format!("chat-node init failed: {said}")))
    }

    /// Starts a node: `chat-node run`.
    pub fn start(&mut self, number: usize) -> Result<()> {
        let node = &self.nodes[number];
        let log = fs::OpenOptions::new().create(true).append(true).open(&node.log);
        let log = log.map_err(|error| cannot(&format!("write {}", node.log.display()), &error))?;
        let errors = log.try_clone()?;
        let mut command = self.command("run", node);
        command.args(["--name", &node.name, "--listen", node.address.as_str(), "--zone", node.zone]);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        // A process group of its own: the terminal sends ctrl-c to the demo only, which decides about its nodes.
        command.process_group(0);
        let child = command.spawn().map_err(|error| cannot(&format!("start {}", node.name), &error))?;
        self.nodes[number].child = Some(child);
        Ok(())
    }

    /// Kills a node with SIGKILL, so it cannot write anything more.
    pub fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.nodes[number].child.take() {
            // It may have ended by itself already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Fails if a node that should run has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            let Some(child) = &mut node.child else { continue };
            if let Some(status) = child.try_wait()? {
                let tail = tail(&node.log);
                return Err(Failure::new(
                    Exit::Failure,
                    format!("node {} ended by itself ({status}): {tail}", node.name),
                )
                .next("run the demo with --dir DIR --keep and read the logs there"));
            }
        }
        Ok(())
    }

    /// Keeps processes and data when this is dropped.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// `chat-node VERB --data-dir …`, without the `CHAT_…` variables of the person.
    fn command(&self, verb: &str, node: &NodeProcess) -> Command {
        let mut command = Command::new(&self.program);
        command.args([verb, "--data-dir"]).arg(&node.directory);
        for (variable, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CHAT_")) {
            command.env_remove(variable);
        }
        command
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Kill all before waiting for any, so that no node has time to react to the loss of the others.
        for node in &mut self.nodes {
            let _ = node.child.as_mut().map(Child::kill);
        }
        for node in &mut self.nodes {
            let _ = node.child.as_mut().map(Child::wait);
            // It may not exist.
            let _ = fs::remove_dir_all(&node.directory);
            let _ = fs::remove_file(&node.log);
        }
        if self.created {
            let _ = fs::remove_dir(&self.directory);
        }
    }
}

/// The directory, and whether it was created here. One that is not empty is refused.
fn data_directory(given: Option<&Path>) -> Result<(PathBuf, bool)> {
    let unnamed = || env::temp_dir().join(format!("quorate-demo-{}", hex(Entropy::system().bytes::<6>())));
    let directory = given.map_or_else(unnamed, Path::to_owned);
    let place = directory.display();
    match fs::read_dir(&directory).map(|mut entries| entries.next().is_some()) {
        Ok(true) => {
            Err(Failure::new(Exit::Conflict, format!("{place} is not empty")).next("give a new or an empty directory"))
        }
        Ok(false) => Ok((fs::canonicalize(&directory)?, false)),
        Err(_) => {
            let created = fs::DirBuilder::new().mode(0o700).create(&directory);
            created.map_err(|error| cannot(&format!("create {place}"), &error))?;
            Ok((fs::canonicalize(&directory)?, true))
        }
    }
}

/// Loopback addresses on which nobody listens now.
fn free_addresses(count: usize) -> Result<Vec<Address>> {
    let span = PORTS.end - PORTS.start;
    let first = u16::from_be_bytes(Entropy::system().bytes()) % span;
    let ports = (0..span).map(|step| PORTS.start + (first + step) % span);
    let free = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let addresses: Vec<Address> =
        free.take(count).filter_map(|port| format!("127.0.0.1:{port}").parse().ok()).collect();
    if addresses.len() < count {
        return Err(Failure::new(Exit::Failure, "no free ports on 127.0.0.1")
            .next("stop programs that listen on ports 20000 to 31999"));
    }
    Ok(addresses)
}

fn cannot(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failure, format!("cannot {what}: {error}"))
}

/// The end of a log, on one line.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_half_of_the_nodes_is_in_zone_a() {
        let zones = |size| Fleet::new(size, None).expect("a fleet").nodes.iter().map(|m| m.zone).collect::<String>();
        assert_eq!((zones(5).as_str(), zones(3).as_str()), ("aaabb", "aab"));
    }

    #[test]
    fn what_was_made_goes_and_what_was_there_stays() {
        let fleet = Fleet::new(3, None).expect("a fleet");
        let made = fleet.directory.clone();
        assert!(made.is_dir());
        drop(fleet);
        assert!(!made.exists());
        let given = tempfile::tempdir().expect("a directory");
        drop(Fleet::new(3, Some(given.path())).expect("a fleet"));
        assert!(given.path().is_dir());
        fs::write(given.path().join("mine"), "").expect("a file");
        let refused = Fleet::new(3, Some(given.path())).err().expect("not empty");
        assert_eq!(refused.exit, Exit::Conflict);
        assert!(given.path().join("mine").exists());
    }

    #[test]
    fn ports_are_distinct_and_outside_of_those_for_outgoing_connections() {
        let mut addresses = free_addresses(9).expect("free ports");
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 9);
    }
}
