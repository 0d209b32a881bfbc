//! Waits until a learner follows the log closely.

use std::time::Duration;

use tokio::time::Instant;

use super::operation::ChangeOperation;
use crate::{
    node::consensus::metrics,
    types::NodeId,
    wire::{
        Fault, Reason,
        admin::{ChangeProgress, change_progress::Phase},
    },
};

/// Entries that a learner may be behind and still count as caught up: about as many as are in flight under full load.
const MAX_LAG: u64 = 128;
/// Poll interval.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The learner must be close at this many polls in a row. Writes need its vote once it is promoted, so one that falls behind
/// would stall them.
const CLOSE_POLLS: u32 = 5;
/// A learner that makes no progress for this long ends the change; it stays a learner.
const STUCK_TIMEOUT: Duration = Duration::from_secs(30);

/// How far a learner is, at one poll.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Position {
    /// The last entry that it is known to hold.
    matched: Option<u64>,
    /// Bytes of a snapshot handed to the network.
    sent: u64,
}

impl ChangeOperation {
    /// Follows the learner `id` until its lag has been small for a while, and reports its progress.
    pub async fn catch_up(&self, id: NodeId) -> Result<(), Fault> {
        let begun = Instant::now();
        let heartbeat = self.node.settings().config.heartbeat;
        let mut steady = 0;
        let mut before = Position::default();
        let mut moved = Instant::now();
        while steady < CLOSE_POLLS {
            tokio::time::sleep(POLL_INTERVAL).await;
            self.replica.leadership.ensure_leader()?;
            let metrics = self.metrics();
            let transfer = self.replica.transfers.of(id);
            let matched = metrics::matched(&metrics, id);
            let seen = Position { matched: matched.map(|id| id.index()), sent: transfer.map_or(0, |t| t.done) };
            if seen != before {
                (before, moved) = (seen, Instant::now());
            }
            let last = metrics.last_log_index.unwrap_or(0);
            let lag = last.saturating_sub(seen.matched.unwrap_or(0));
            // A learner that died after it had the whole log has no lag either.
            let answers = metrics::last_answer(&metrics, id).is_some_and(|ago| ago <= heartbeat * 3);
            let close = seen.matched.is_some() && lag <= MAX_LAG && answers;
            steady = if close { steady + 1 } else { 0 };
            let phase = if transfer.is_some() { Phase::Snapshot } else { Phase::Log };
            let total = transfer.map_or(0, |t| t.total);
            self.report(ChangeProgress {
                bytes_done: seen.sent,
                bytes_total: total,
                lag_entries: lag,
                eta: eta(begun.elapsed(), seen.sent, total).and_then(|eta| eta.try_into().ok()),
                ..self.message(phase)
            });
            if !close && moved.elapsed() > STUCK_TIMEOUT {
                return Err(stuck(lag));
            }
        }
        Ok(())
    }
}

/// The fault of a learner that makes no progress.
fn stuck(lag: u64) -> Fault {
    let message =
        format!("the node has made no progress for {} s; it is {lag} entries behind", STUCK_TIMEOUT.as_secs());
    Fault::new(Reason::Timeout, message)
        .next("it stays a learner, which costs nothing: see its log, then repeat the command to continue, or remove it")
}

/// The estimated time left, from the share done so far.
fn eta(elapsed: Duration, done: u64, total: u64) -> Option<Duration> {
    let left = total.checked_sub(done).filter(|_| done > 0)?;
    let millis = u64::try_from(elapsed.as_millis()).ok()?;
    Some(Duration::from_millis(millis.saturating_mul(left) / done))
}
