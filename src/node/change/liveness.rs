//! Who answers now.
//!
//! A change is judged by who would carry the cluster after it. What the leader remembers of the last two seconds, which
//! is good enough for a status, is not good enough here: with a voter that died a second ago, removing another could
//! leave a joint configuration that nobody can complete. So whoever judges listens first. Heartbeats go out every
//! [`heartbeat`](crate::config::NodeConfig::heartbeat), so it takes about one of them when all are well.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    membership::Layout,
    node::{replica::Replica, status},
    types::NodeId,
};

/// How long is listened at most: whoever is silent for so long does not answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How often is looked who has answered.
const LOOK: Duration = Duration::from_millis(20);

/// The membership, and who of it has answered this leader since this was asked.
pub async fn listen(replica: &Replica) -> Layout {
    hear(replica, |_| Duration::ZERO).await
}

/// The same before learners are promoted. That costs no quorum: with the old voters' quorum alive and the learners beside
/// it, the new voters' is alive as well. So for a voter it is enough to have answered within `lease`.
pub async fn listen_for_learners(replica: &Replica, lease: Duration) -> Layout {
    let votes = |id| replica.leadership.metrics().membership_config.voter_ids().any(|voter| voter == id);
    hear(replica, |id| if votes(id) { lease } else { Duration::ZERO }).await
}

async fn hear(replica: &Replica, before: impl Fn(NodeId) -> Duration) -> Layout {
    let begun = Instant::now();
    loop {
        let layout = status::layout(&replica.leadership.metrics(), |id| before(id) + begun.elapsed());
        if begun.elapsed() >= TIMEOUT || layout.nodes().iter().all(|node| node.healthy) {
            return layout;
        }
        tokio::time::sleep(LOOK).await;
    }
}
