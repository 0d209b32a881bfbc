//! Makes clusters: how many nodes, with which settings.

use quorate::config::{Rates, SnapshotPolicy};

use super::{Cluster, Network, admin::grow, host::Host};

/// The settings of a cluster that is to be started.
pub struct Builder {
    nodes: usize,
    spare: usize,
    snapshot: SnapshotPolicy,
    zones: Vec<String>,
    rates: Option<Rates>,
}

impl Cluster {
    /// A cluster of this many voters, to be started.
    pub fn of(nodes: usize) -> Builder {
        let snapshot = SnapshotPolicy { entries: 10_000, keep: 1_000 };
        Builder { nodes, spare: 0, snapshot, zones: Vec::new(), rates: None }
    }
}

impl Builder {
    /// The zones of the nodes, from the first node on.
    pub fn zones(mut self, zones: &[&str]) -> Self {
        self.zones = zones.iter().map(ToString::to_string).collect();
        self
    }

    /// Empty nodes that run and wait to be added. They are numbered after the members.
    pub fn spare(mut self, nodes: usize) -> Self {
        self.spare = nodes;
        self
    }

    /// Snapshots after this many entries, of which `keep` stay in the log.
    pub fn snapshots(mut self, entries: u64, keep: u64) -> Self {
        self.snapshot = SnapshotPolicy { entries, keep };
        self
    }

    /// Rate limits, for tests that are about them.
    pub fn rates(mut self, rates: Rates) -> Self {
        self.rates = Some(rates);
        self
    }

    /// Initialises the first node and adds the others, as an operator would.
    pub async fn start(self) -> Cluster {
        log();
        let network = Network::new();
        let zone = |number: usize| self.zones.get(number - 1).map_or("", String::as_str);
        let host = |n| {
            let mut host = Host::new(n, zone(n), self.snapshot, &network);
            host.config.rates = self.rates.unwrap_or(host.config.rates);
            host
        };
        let hosts = (1..=self.nodes + self.spare).map(host).collect();
        let cluster = Cluster::new(network, hosts);
        cluster.init(1).await.expect("the first node is made");
        cluster.restart_all(1..=self.nodes + self.spare).await;
        cluster.wait_for_leader().await;
        grow(&cluster, 2..=self.nodes).await;
        cluster.wait_for_voters(self.nodes).await;
        cluster
    }
}

/// Logs to the terminal if `RUST_LOG` is set.
fn log() {
    if let Ok(filter) = std::env::var("RUST_LOG") {
        quorate::telemetry::init(&filter, false).expect("RUST_LOG is a log filter");
    }
}
