//! The processes of the demo, their ports and their directory. Dropping it ends and removes them all.

use std::{
    env, fs,
    net::TcpListener,
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::super::{Exit, Failure, Result, probe::hex};
use crate::{types::Entropy, wire::Address};

/// Where ports are looked for: below what operating systems hand out to outgoing connections, so that none takes a
/// node's port while the node is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Lines of a node's log that are shown when it ends by itself.
const LOG_LINES: usize = 5;

/// One node: its process, if it runs.
pub(super) struct Machine {
    pub name: String,
    pub zone: &'static str,
    pub address: Address,
    directory: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

/// All nodes, and the directory that holds their data.
pub(super) struct Fleet {
    program: PathBuf,
    pub machines: Vec<Machine>,
    pub directory: PathBuf,
    /// The directory was made by us, so it goes with us.
    made: bool,
    kept: bool,
}

impl Fleet {
    /// As many nodes as `size`, none of them started, three at most in zone a.
    pub fn new(size: usize, directory: Option<&Path>) -> Result<Self> {
        let program = env::current_exe().map_err(|error| Failure::from(error).context("cannot find this program"))?;
        let (directory, made) = home(directory)?;
        let mut fleet = Self { program, machines: Vec::new(), directory, made, kept: false };
        for (number, address) in (1..).zip(free_addresses(size)?) {
            let name = format!("n{number}");
            fleet.machines.push(Machine {
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
        let addresses: Vec<&str> = self.machines.iter().map(|machine| machine.address.as_str()).collect();
        addresses.join(",")
    }

    /// The ids of the processes that run.
    pub fn pids(&self) -> Vec<u32> {
        self.machines.iter().filter_map(|machine| machine.child.as_ref().map(Child::id)).collect()
    }

    /// Makes the first node a cluster of its own: `chat-node init`.
    pub fn found(&self) -> Result<()> {
        let first = &self.machines[0];
        let mut command = self.command("init", first);
        command.args(["--name", &first.name, "--listen", first.address.as_str(), "--zone", first.zone]);
        let ended = command.stdin(Stdio::null()).output().map_err(|error| cannot("run chat-node init", &error))?;
        if ended.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
        Err(Failure::new(Exit::Failure, format!("chat-node init failed: {said}")))
    }

    /// Starts a node that runs not: `chat-node run`.
    pub fn start(&mut self, number: usize) -> Result<()> {
        let machine = &self.machines[number];
        let log = fs::OpenOptions::new().create(true).append(true).open(&machine.log);
        let log = log.map_err(|error| cannot(&format!("write {}", machine.log.display()), &error))?;
        let errors = log.try_clone()?;
        let mut command = self.command("run", machine);
        command.args(["--name", &machine.name, "--listen", machine.address.as_str(), "--zone", machine.zone]);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        // A group of its own: ctrl-c is for the demo, which then ends its nodes, or leaves them running.
        command.process_group(0);
        let child = command.spawn().map_err(|error| cannot(&format!("start {}", machine.name), &error))?;
        self.machines[number].child = Some(child);
        Ok(())
    }

    /// Kills a node with SIGKILL: it gets no chance to write anything more.
    pub fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.machines[number].child.take() {
            // It may have ended by itself, which is as good here.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// A failure if a node that should run has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        for machine in &mut self.machines {
            let Some(child) = &mut machine.child else { continue };
            if let Some(status) = child.try_wait()? {
                let tail = tail(&machine.log);
                return Err(Failure::new(
                    Exit::Failure,
                    format!("node {} ended by itself ({status}): {tail}", machine.name),
                )
                .next("run the demo with --dir DIR --keep, and see the logs there"));
            }
        }
        Ok(())
    }

    /// From now on everything stays.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    fn command(&self, verb: &str, machine: &Machine) -> Command {
        let mut command = Command::new(&self.program);
        command.args([verb, "--data-dir"]).arg(&machine.directory);
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
        // All at once, so that none is missed by the others for long.
        for machine in &mut self.machines {
            let _ = machine.child.as_mut().map(Child::kill);
        }
        for machine in &mut self.machines {
            let _ = machine.child.as_mut().map(Child::wait);
            // What was never made need not be removed.
            let _ = fs::remove_dir_all(&machine.directory);
            let _ = fs::remove_file(&machine.log);
        }
        if self.made {
            let _ = fs::remove_dir(&self.directory);
        }
    }
}

/// The directory, and whether it was made here. One that holds anything is refused.
fn home(given: Option<&Path>) -> Result<(PathBuf, bool)> {
    let unnamed = || env::temp_dir().join(format!("quorate-demo-{}", hex(Entropy::system().bytes::<6>())));
    let directory = given.map_or_else(unnamed, Path::to_owned);
    let place = directory.display();
    match fs::read_dir(&directory).map(|mut entries| entries.next().is_some()) {
        Ok(true) => {
            Err(Failure::new(Exit::Conflict, format!("{place} is not empty")).next("give a new or an empty directory"))
        }
        Ok(false) => Ok((fs::canonicalize(&directory)?, false)),
        Err(_) => {
            let made = fs::DirBuilder::new().mode(0o700).create(&directory);
            made.map_err(|error| cannot(&format!("make {place}"), &error))?;
            Ok((fs::canonicalize(&directory)?, true))
        }
    }
}

/// Addresses on the loopback interface on which nobody listens.
fn free_addresses(count: usize) -> Result<Vec<Address>> {
    let span = PORTS.end - PORTS.start;
    let first = u16::from_be_bytes(Entropy::system().bytes()) % span;
    let ports = (0..span).map(|step| PORTS.start + (first + step) % span);
    let free = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let addresses: Vec<Address> =
        free.take(count).filter_map(|port| format!("127.0.0.1:{port}").parse().ok()).collect();
    if addresses.len() < count {
        return Err(Failure::new(Exit::Failure, "no free ports on 127.0.0.1").next("see what listens there"));
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
        let zones = |size| Fleet::new(size, None).expect("a fleet").machines.iter().map(|m| m.zone).collect::<String>();
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
