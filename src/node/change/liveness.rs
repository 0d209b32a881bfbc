//! Which nodes answer now.
//!
//! A change is judged by the nodes that would carry the cluster after it. The status calls a node reachable if it answered
//! within two seconds. That is too old here: if a voter died a second ago, removing another one could leave a joint
//! configuration that nobody can complete. So a change first waits until each node has answered once more. Heartbeats go
//! out every [`heartbeat`](crate::config::NodeConfig::heartbeat), so this takes about one of them when all nodes are up.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    membership::Layout,
    node::consensus::{Replica, metrics},
    types::NodeId,
};

/// A node that is silent for this long counts as down.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Poll interval.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The membership, and which of its nodes answered this leader after the call.
pub async fn probe_voters(replica: &Replica) -> Layout {
    probe(replica, |_| Duration::ZERO).await
}

/// Like [`probe_voters`], before learners are promoted: for a voter it is enough to have answered within `lease`.
///
/// A promotion costs no quorum: if a quorum of the old voters is alive and the learners are alive as well, a quorum of the
/// new voters is alive.
pub async fn probe_for_promotion(replica: &Replica, lease: Duration) -> Layout {
    probe(replica, |id| if metrics::is_voter(&replica.leadership.metrics(), id) { lease } else { Duration::ZERO }).await
}

/// Waits until all nodes have answered since `before(id)` ahead of the call, or until the timeout.
async fn probe(replica: &Replica, before: impl Fn(NodeId) -> Duration) -> Layout {
    let begun = Instant::now();
    loop {
        let layout = replica.layout(&replica.leadership.metrics(), |id| before(id) + begun.elapsed());
        if begun.elapsed() >= TIMEOUT || layout.nodes().iter().all(|node| node.healthy) {
            return layout;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
