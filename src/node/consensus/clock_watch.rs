//! Watches this node's clock and log time, and says in the log when one of them is off.
//!
//! It changes nothing: a clock that is off is not used (see [`Clocks`](crate::raft::Clocks)), and log time that is ahead
//! is corrected by an operator.

use std::{sync::Arc, time::Duration};

use super::replica::Replica;
use crate::{machine::query, node::Node, types::limits};

/// Poll interval.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Starts the task. It ends when the node no longer runs `replica`.
pub fn start(node: Node, replica: Arc<Replica>) {
    tokio::spawn(watch(node, replica));
}

async fn watch(node: Node, replica: Arc<Replica>) {
    let bound_ms = u64::try_from(limits::CLOCK_OFFSET.as_millis()).unwrap_or(u64::MAX);
    let (mut was_off, mut was_ahead) = (false, false);
    while node.runs(&replica) {
        record_log_time(&node, &replica).await;
        // Without a majority's clocks nothing can be said; the last word stands.
        if let Some(offset_ms) = replica.clocks.offset_ms(replica.identity.node_id) {
            let is_off = offset_ms.unsigned_abs() > bound_ms;
            if is_off && !was_off {
                tracing::warn!(
                    offset_ms,
                    "this node's clock is off the majority's and is not used; set it, with NTP best"
                );
            } else if was_off && !is_off {
                tracing::info!(offset_ms, "this node's clock is right again");
            }
            was_off = is_off;
        }
        let ahead_ms = replica.clocks.log_time_ahead_ms();
        if ahead_ms > 0 && !was_ahead {
            tracing::warn!(ahead_ms, "log time is ahead of the majority's clocks; see docs/clocks.md");
        }
        was_ahead = ahead_ms > 0;
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn record_log_time(node: &Node, replica: &Replica) {
    let slot = replica.slot.clone();
    let read = node.settings().blocking.run(move || query::log_time_ms(&slot.current().view()?));
    match read.await {
        Ok(time_ms) => replica.clocks.record_log_time(time_ms),
        Err(error) => tracing::debug!(%error, "log time cannot be read"),
    }
}
