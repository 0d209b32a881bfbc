//! Several hosts on one computer: a network namespace for each node and a bridge between them. Links can be cut one
//! way, both ways, or by unplugging a host. Needs root. Everything is removed when it is dropped.

use std::{collections::BTreeMap, process::Command};

use crate::shell::is_root;

/// The port of every node.
const PORT: u16 = 7400;

/// The hosts of one cluster and the switch between them. This process is connected to the switch and reaches all hosts.
pub struct Hosts {
    name: String,
    net: String,
    numbers: BTreeMap<String, u8>,
}

impl Hosts {
    /// Creates the switch, in its own namespace, where the firewall of this computer does not interfere. Returns `None`
    /// if this process may not create one.
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

    /// Adds a host. Returns the address of the node on it.
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

    /// The network namespace of a node's host.
    pub fn space(&self, name: &str) -> String {
        format!("{}-{}", self.name, self.numbers[name])
    }

    fn port(&self, name: &str) -> String {
        format!("port{}", self.numbers[name])
    }

    fn ip_of(&self, name: &str) -> String {
        format!("{}.{}", self.net, self.numbers[name])
    }

    /// Cuts the link from `from` to `to`. The other direction stays as it is.
    pub fn cut_one_way(&self, from: &str, to: &str) {
        let there = format!("{}/32", self.ip_of(to));
        assert!(ip(&["-n", &self.space(from), "route", "replace", "blackhole", &there]));
    }

    /// Cuts the link between two hosts, both ways.
    pub fn cut(&self, one: &str, other: &str) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Unplugs a host: no other host and no client reaches it.
    pub fn unplug(&self, name: &str) {
        assert!(ip(&["-n", &self.switch(), "link", "set", &self.port(name), "down"]));
    }

    /// Restores all links of all hosts.
    pub fn heal(&self) {
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
