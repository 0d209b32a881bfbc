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
};

/// How long is listened at most: whoever is silent for so long does not answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often is looked who has answered.
const LOOK: Duration = Duration::from_millis(20);

/// The membership, and who of it has answered this leader since `lately` before this was asked.
pub async fn listen(replica: &Replica, lately: Duration) -> Layout {
    let begun = Instant::now();
    loop {
        let layout = status::layout(&replica.leadership.metrics(), lately + begun.elapsed());
        if begun.elapsed() >= PATIENCE || layout.nodes().iter().all(|node| node.healthy) {
            return layout;
        }
        tokio::time::sleep(LOOK).await;
    }
}
