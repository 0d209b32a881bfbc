//! The nemesis: random faults on real processes, and on hosts of their own, under the load and ledger of `chat-admin
//! probe`.
//!
//! A seed decides the faults, and the test prints it. It does not decide how the processes are scheduled, so a seed
//! replays the faults but not a race. `NEMESIS_SEED` sets the seed, `NEMESIS_SECONDS` the duration (30).

mod faults;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use faults::{Fault, Where};

use crate::{cluster::Cluster, hosts::Hosts, load::Load, mount::Mount};

/// Number of voters. Up to two of them are in trouble at a time.
const VOTERS: usize = 5;
/// Size of the small disk that gets full, in MiB.
const SMALL: u64 = 64;
/// Longest time for writes to recover. Generous, because the machine may be busy with other tests.
const RECOVERY: Duration = Duration::from_secs(15);

/// A random number generator with a seed: splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
/// generators).
pub struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// `count` different ones of `names`.
    pub fn some(&mut self, mut names: Vec<String>, count: usize) -> Vec<String> {
        (0..count.min(names.len())).map(|_| names.swap_remove(self.below(names.len()))).collect()
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.next() % (to - from))
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")))
}

fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    number("NEMESIS_SEED").unwrap_or(now.as_millis() as u64 % 1_000_000)
}

struct Nemesis {
    dice: Dice,
    cluster: Cluster,
    load: Load,
    place: Where,
    /// The small disk of n1, if there is one.
    disk: Option<Mount>,
    /// Number of the newest node.
    newest: usize,
    counts: BTreeMap<&'static str, u32>,
}

impl Nemesis {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Causes trouble until time is up, then checks everything.
    fn run(mut self, title: &str, seed: u64) {
        let until = Instant::now() + Duration::from_secs(number("NEMESIS_SECONDS").unwrap_or(30));
        while Instant::now() < until {
            match self.dice.below(8) {
                0 => self.everything_goes_down(),
                1 => self.change_members(&[]),
                _ => self.trouble(),
            }
            self.load.progresses();
        }
        self.judge(title, seed);
    }

    /// Prints the report and fails on any violation.
    fn judge(self, title: &str, seed: u64) {
        let report = self.load.check();
        assert!(report.acknowledged > 0 && !self.counts.is_empty(), "nothing happened: {:?}", self.counts);
        self.cluster.replicas_agree();
        let status = self.cluster.status().expect("a status");
        assert_eq!(status["joint"], false, "a change was left half done: {status}");
        println!("--- {title}, NEMESIS_SEED={seed}, {:.0} s", report.elapsed.as_secs_f64());
        for (what, count) in &self.counts {
            println!("{count:>5}  {what}");
        }
        println!(
            "{:>5}  messages sent, {} acknowledged in time, {} reads, {} changes of leader",
            report.sent,
            report.acknowledged,
            report.reads,
            report.changes.len()
        );
        for metric in report.metrics() {
            let word = if metric.passed { "PASS" } else { "FAIL" };
            println!("{word}  {:<13}  {}  (bound: {})", metric.name, metric.figure, metric.bound);
        }
        let slow = report.incidents.iter().find(|incident| incident.recovered.is_none_or(|took| took > incident.bound));
        assert!(slow.is_none(), "writes did not go on in time: {slow:?}");
    }

    /// One or two nodes get a fault each. The others go on without them (P2).
    fn trouble(&mut self) {
        let count = 1 + self.dice.below(2);
        let victims = self.dice.some(self.cluster.names(), count);
        let mut faults = Vec::new();
        for victim in &victims {
            let fault = Fault::random(&mut self.dice, self.place, self.disk.is_some() && victim == "n1");
            self.count(fault.name());
            self.load.incident(&format!("{victim} {}", fault.name()), RECOVERY);
            fault.begin(&mut self.cluster, victim, self.disk.as_ref());
            faults.push((fault, victim));
        }
        self.load.progresses();
        if victims.len() == 1 && self.dice.below(3) == 0 {
            self.change_members(&victims);
        }
        // The duration is a part of the fault, not a wait for something.
        std::thread::sleep(self.dice.millis(100, 2_500));
        for (fault, victim) in faults {
            fault.end(&mut self.cluster, victim, self.disk.as_ref());
        }
    }

    fn everything_goes_down(&mut self) {
        self.count("all killed at once");
        for name in self.cluster.names() {
            self.cluster.kill(&name);
        }
        for name in self.cluster.names() {
            self.cluster.start(&name);
        }
    }
}

#[test]
fn a_cluster_of_processes_endures_a_random_nemesis() {
    let seed = seed();
    println!("NEMESIS_SEED={seed}");
    let disk = Mount::of(SMALL);
    if disk.is_none() {
        println!("SKIPPED in part: no disk gets full; that needs root and a loop device");
    }
    let first = disk.as_ref().map(|disk| disk.path().join("n1"));
    let cluster = Cluster::with_first_in(VOTERS, first.as_deref());
    let load = Load::start(&cluster.addresses());
    let (dice, counts) = (Dice(seed), BTreeMap::new());
    let nemesis = Nemesis { dice, cluster, load, place: Where::Processes, disk, newest: VOTERS, counts };
    nemesis.run("processes", seed);
}

#[test]
fn a_cluster_on_hosts_of_their_own_endures_a_random_nemesis() {
    let Some(hosts) = Hosts::new() else {
        return println!("SKIPPED: needs root and network namespaces");
    };
    let seed = seed();
    println!("NEMESIS_SEED={seed}");
    let cluster = Cluster::on_hosts(VOTERS, hosts);
    let load = Load::start(&cluster.addresses());
    let (dice, counts) = (Dice(seed), BTreeMap::new());
    let nemesis = Nemesis { dice, cluster, load, place: Where::Hosts, disk: None, newest: VOTERS, counts };
    nemesis.run("hosts", seed);
}
