//! Hosts of their own on one computer: a network namespace for each node, joined by a switch, with links that can be cut
//! one way, both ways, or at the plug. Needs root; all is taken down when dropped.

use std::{collections::BTreeMap, process::Command};

use crate::shell::is_root;

/// The port that every node listens on.
const PORT: u16 = 7400;

/// The hosts of one cluster, and a switch between them. This process is plugged into it and reaches all of them.
pub struct Hosts {
    name: String,
    net: String,
    numbers: BTreeMap<String, u8>,
}

impl Hosts {
    /// A switch; none where this process may not make one. It has a namespace of its own, where no firewall of this
    /// computer looks into it.
    pub fn new() -> Option<Self> {
        let id = std::process::id();
        let net = format!("10.{}.{}", 64 + id / 250 % 64, id % 250);
        let hosts = Self { name: format!("q{}", id % 100_000), net, numbers: BTreeMap::new() };
        let (switch, ours, address) = (hosts.switch(), hosts.uplink(), format!("{}.254/24", hosts.net));
        let steps: [&[&str]; 8] = [
            &["netns", "add", &switch],
            &["-n", &switch, "link", "add", "br0", "type", "bridge"],
            &["-n", &switch, "link", "set", "br0", "up"],
            &["link", "add", &ours, "type", "veth", "peer", "name", "uplink", "netns", &switch],
            &["-n", &switch, "link", "set", "uplink", "master", "br0"],
            &["-n", &switch, "link", "set", "uplink", "up"],
            &["addr", "add", &address, "dev", &ours],
            &["link", "set", &ours, "up"],
        ];
        (is_root() && steps.into_iter().all(ip)).then_some(hosts)
    }

    /// Makes a host and tells the address of the node on it.
    pub fn add(&mut self, name: &str) -> String {
        let number = u8::try_from(self.numbers.len() + 1).expect("a few hosts");
        self.numbers.insert(name.to_owned(), number);
        let (switch, space, port) = (self.switch(), self.space(name), self.port(name));
        let address = format!("{}/24", self.ip_of(name));
        let steps: [&[&str]; 7] = [
            &["netns", "add", &space],
            &["-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &space],
            &["-n", &switch, "link", "set", &port, "master", "br0"],
            &["-n", &switch, "link", "set", &port, "up"],
            &["-n", &space, "addr", "add", &address, "dev", "eth0"],
            &["-n", &space, "link", "set", "eth0", "up"],
            &["-n", &space, "link", "set", "lo", "up"],
        ];
        for step in steps {
            assert!(ip(step), "ip {step:?}");
        }
        format!("{}:{PORT}", self.ip_of(name))
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    fn uplink(&self) -> String {
        format!("{}-up", self.name)
    }

    /// The namespace that a node's process belongs into.
    pub fn space(&self, name: &str) -> String {
        format!("{}-{}", self.name, self.numbers[name])
    }

    fn port(&self, name: &str) -> String {
        format!("port{}", self.numbers[name])
    }

    fn ip_of(&self, name: &str) -> String {
        format!("{}.{}", self.net, self.numbers[name])
    }

    /// Nothing that `from` sends reaches `to` any more; the other way is as it was.
    pub fn cut_one_way(&self, from: &str, to: &str) {
        let there = format!("{}/32", self.ip_of(to));
        assert!(ip(&["-n", &self.space(from), "route", "replace", "blackhole", &there]));
    }

    /// Nothing goes between the two any more.
    pub fn cut(&self, one: &str, other: &str) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Pulls a host's plug: nobody reaches it, clients neither.
    pub fn unplug(&self, name: &str) {
        assert!(ip(&["-n", &self.switch(), "link", "set", &self.port(name), "down"]));
    }

    /// All links of all hosts are whole again.
    pub fn mend(&self) {
        for name in self.numbers.keys() {
            ip(&["-n", &self.switch(), "link", "set", &self.port(name), "up"]);
            ip(&["-n", &self.space(name), "route", "flush", "type", "blackhole"]);
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in self.numbers.keys() {
            ip(&["netns", "del", &self.space(name)]);
        }
        ip(&["link", "del", &self.uplink()]);
        ip(&["netns", "del", &self.switch()]);
    }
}

fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).output().is_ok_and(|ended| ended.status.success())
}
