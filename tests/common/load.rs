//! The load of `chat-admin probe` on a cluster in this process, and its verdict.

use quorate::client::probe::{Options, Probe, Report};

use super::{Cluster, PASSWORD};

/// Messages per second.
const RATE: u32 = 100;

/// A running load: writers, readers and a subscriber, all recorded in a ledger.
pub struct Load(Probe);

impl Load {
    pub async fn start(cluster: &Cluster) -> Self {
        let options = Options {
            rate: RATE,
            names: ["load-1".to_owned(), "load-2".to_owned()],
            password: PASSWORD.to_owned(),
            room: "load".to_owned(),
            clean: false,
        };
        Self(Probe::start(&cluster.client(), options).await.expect("the load begins"))
    }

    /// Waits until `more` further writes have been acknowledged.
    pub async fn goes_on(&self, more: u64) {
        let wanted = self.0.progress().acknowledged + more;
        super::eventually("writes go on", async || match self.0.progress().acknowledged {
            enough if enough >= wanted => Ok(()),
            few => Err(format!("{few} writes acknowledged, {wanted} wanted")),
        })
        .await;
    }

    /// Stops the load and checks every replica, read and stream against the ledger (P1, P3, P4, P5, P8).
    pub async fn finish(self, cluster: &Cluster) -> Report {
        let report = self.0.finish().await;
        let [durability, _, consistency, _] = report.metrics();
        for metric in [durability, consistency] {
            let (findings, status) = (report.findings.examples(), cluster.status());
            assert!(metric.passed, "{}: {}\n{findings:#?}\n{status}", metric.name, metric.figure);
        }
        let final_refusal = report.refused.keys().find(|reason| !reason.is_transient());
        assert_eq!(final_refusal, None, "what may be sent was refused for good\n{}", cluster.status());
        cluster.assert_replicas_agree().await;
        report
    }
}
