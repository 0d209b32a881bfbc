//! The faults of the nemesis, and its changes of membership.

use std::{fs, time::Duration};

use rustix::process::Signal;

use super::{Dice, Nemesis, RECOVERY};
use crate::{cluster::Cluster, mount::Mount, shell::eventually};

/// How long the room inside a node's files may last once its disk is full.
const ROOM_LASTS: Duration = Duration::from_secs(120);

/// Where the cluster runs, which decides what can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// Processes on one host.
    Processes,
    /// Hosts of their own, with links that can be cut.
    Hosts,
}

/// A fault of one node that lasts a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL.
    Killed,
    /// SIGSTOP.
    Frozen,
    /// SIGTERM.
    Stopped,
    /// No space left for its data.
    DiskFull,
    /// Cut off from the other nodes, both ways.
    CutOff,
    /// The other nodes receive nothing from it.
    Unheard,
    /// It receives nothing from the other nodes.
    Deaf,
    /// Cut off from the other nodes and from clients.
    Unplugged,
}

impl Fault {
    pub fn random(dice: &mut Dice, place: Where, small_disk: bool) -> Self {
        if small_disk && dice.below(2) == 0 {
            return Self::DiskFull;
        }
        let faults: &[Self] = match place {
            Where::Processes => &[Self::Killed, Self::Frozen, Self::Stopped],
            Where::Hosts => &[Self::Killed, Self::Frozen, Self::CutOff, Self::Unheard, Self::Deaf, Self::Unplugged],
        };
        faults[dice.below(faults.len())]
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Frozen => "frozen",
            Self::Stopped => "asked to stop",
            Self::DiskFull => "disk full",
            Self::CutOff => "cut off from its peers",
            Self::Unheard => "not heard by its peers",
            Self::Deaf => "does not hear its peers",
            Self::Unplugged => "unplugged",
        }
    }

    pub fn begin(self, cluster: &mut Cluster, victim: &str, disk: Option<&Mount>) {
        match self {
            Self::Killed => cluster.kill(victim),
            Self::Frozen => cluster.signal(victim, Signal::STOP),
            Self::Stopped => {
                cluster.signal(victim, Signal::TERM);
                let (code, log) = cluster.running(victim).exit();
                assert_eq!(code, Some(0), "{log}");
            }
            Self::DiskFull => {
                disk.expect("a small disk").fill_but(0);
                // Until its files must grow, it writes into the room that they have: on a busy machine that takes long.
                let (code, log) = cluster.running(victim).exit_within(ROOM_LASTS);
                assert_eq!(code, Some(75), "{log}");
            }
            Self::CutOff | Self::Unheard | Self::Deaf => {
                let hosts = cluster.hosts().expect("links");
                for other in cluster.names().iter().filter(|name| *name != victim) {
                    match self {
                        Self::Unheard => hosts.cut_one_way(victim, other),
                        Self::Deaf => hosts.cut_one_way(other, victim),
                        _ => hosts.cut(victim, other),
                    }
                }
            }
            Self::Unplugged => cluster.hosts().expect("links").unplug(victim),
        }
    }

    /// Undoes the fault, unless the node was removed from the cluster meanwhile.
    pub fn end(self, cluster: &mut Cluster, victim: &str, disk: Option<&Mount>) {
        if !cluster.names().iter().any(|name| name == victim) {
            return;
        }
        match self {
            Self::Frozen => cluster.signal(victim, Signal::CONT),
            Self::Killed | Self::Stopped => cluster.start(victim),
            Self::DiskFull => {
                fs::remove_file(disk.expect("a small disk").path().join("ballast")).expect("room is made");
                cluster.start(victim);
            }
            Self::CutOff | Self::Unheard | Self::Deaf | Self::Unplugged => cluster.hosts().expect("links").heal(),
        }
    }
}

impl Nemesis {
    /// Transfers leadership or replaces a node, perhaps while the nodes in `troubled` are in trouble. A replacement
    /// that is refused or interrupted is repeated until it succeeds (P6).
    pub(super) fn change_members(&mut self, troubled: &[String]) {
        // Never n1, the node on the small disk.
        let well = self.cluster.names().into_iter().filter(|name| name != "n1" && !troubled.contains(name)).collect();
        let Some(chosen) = self.dice.some(well, 1).pop() else { return };
        if self.dice.below(2) == 0 {
            self.count("leadership handed over");
            self.load.incident(&format!("leadership handed to {chosen}"), RECOVERY);
            self.command(&["--timeout", "5s", "transfer-leader", &chosen], &[0, 4, 6, 7]);
            return;
        }
        self.count("node replaced");
        self.newest += 1;
        let fresh = format!("n{}", self.newest);
        self.cluster.start_empty(&fresh);
        let address = self.cluster.address(&fresh);
        self.load.incident(&format!("{chosen} replaced by {fresh}"), RECOVERY);
        let replace = ["--timeout", "20s", "replace-node", &chosen, &fresh, &address];
        eventually("a replacement is finished, by the same command again if need be", || {
            self.command(&replace, &[0, 4, 6, 7]) == 0
        });
        if self.cluster.running(&chosen).is_alive() {
            let (code, log) = self.cluster.running(&chosen).exit();
            assert_eq!(code, Some(76), "a node that was replaced says so\n{log}");
        }
        self.cluster.forget(&chosen);
    }

    fn command(&self, args: &[&str], allowed: &[i32]) -> i32 {
        let ended = self.cluster.admin(args);
        assert!(allowed.contains(&ended.code), "{args:?} ended with {}: {}{}", ended.code, ended.out, ended.talk);
        ended.code
    }
}
