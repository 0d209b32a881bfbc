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

/// Messages per second.
const RATE: u32 = 100;
/// Further acknowledgements that prove that the load goes on.
const GOOD_MANY: u64 = 40;

/// A running load: writers, readers and a subscriber, all recorded in a ledger.
pub struct Load {
    probe: Probe,
    runtime: Runtime,
}

impl Load {
    /// Starts a load on the cluster at these addresses, with its own accounts.
    pub fn start(addresses: &str) -> Self {
        Self::at_rate(addresses, RATE)
    }

    /// Starts a load of `rate` messages per second.
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

    /// Waits until [`GOOD_MANY`] further messages have been acknowledged.
    #[track_caller]
    pub fn progresses(&self) {
        let enough = self.acknowledged() + GOOD_MANY;
        eventually("the load goes on", || self.acknowledged() >= enough);
    }

    fn acknowledged(&self) -> u64 {
        self.probe.progress().acknowledged
    }

    /// Records that damage is done now; see [`Probe::incident`].
    pub fn incident(&self, what: &str, bound: Duration) {
        self.probe.incident(what, bound);
    }

    /// Stops the load and checks every replica, read and stream against the ledger (P1, P3, P4, P5, P8).
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
