//! The load of `chat-admin probe` on a cluster of processes, and its verdict.

use std::time::Duration;

use quorate::{
    client::{
        Cluster, Settings,
        probe::{Options, Probe, Report},
    },
    wire::Dialer,
};
use tokio::runtime::Runtime;

use crate::{
    cluster::PASSWORD,
    shell::{TIMEOUT, eventually},
};

/// Messages a second.
const RATE: u32 = 100;
/// That the load goes on is known from so many more acknowledgements.
const GOOD_MANY: u64 = 40;

/// Writers, readers and a subscriber under a ledger.
pub struct Load {
    probe: Probe,
    runtime: Runtime,
}

impl Load {
    /// Starts at the cluster at these addresses, with accounts of its own.
    pub fn start(addresses: &str) -> Self {
        Self::at_rate(addresses, RATE)
    }

    /// The same with so many messages a second.
    pub fn at_rate(addresses: &str, rate: u32) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let seeds = addresses.split(',').map(|address| address.parse().expect("an address")).collect();
        let cluster = Cluster::new(seeds, Dialer::tcp(), Settings::new(TIMEOUT));
        let options = Options {
            rate,
            names: ["load-1".to_owned(), "load-2".to_owned()],
            password: PASSWORD.to_owned(),
            room: "load".to_owned(),
            clean: false,
        };
        let probe = runtime.block_on(Probe::start(&cluster, options)).expect("the load begins");
        let load = Self { probe, runtime };
        load.progresses();
        load
    }

    /// Waits until a good many more messages have been acknowledged.
    #[track_caller]
    pub fn progresses(&self) {
        let enough = self.acknowledged() + GOOD_MANY;
        eventually("the load goes on", || self.acknowledged() >= enough);
    }

    fn acknowledged(&self) -> u64 {
        self.probe.progress().acknowledged
    }

    /// Notes that damage is done now; see [`Probe::incident`].
    pub fn incident(&self, what: &str, bound: Duration) {
        self.probe.incident(what, bound);
    }

    /// Ends the load and holds every replica, read and stream against the ledger (P1, P3, P4, P5, P8).
    #[track_caller]
    pub fn check(self) -> Report {
        let report = self.runtime.block_on(self.probe.finish());
        let [durability, _, consistency, _] = report.metrics();
        for metric in [durability, consistency] {
            let findings = report.findings.examples();
            assert!(metric.passed, "{}: {}\n{findings:#?}", metric.name, metric.figure);
        }
        report
    }
}
