//! Waiting until a learner follows the log closely.

use std::time::Duration;

use tokio::time::Instant;

use super::Changing;
use crate::{
    node::status,
    types::NodeId,
    wire::{
        Fault, Reason,
        admin::{ChangeProgress, change_progress::Phase},
    },
};

/// Entries that a learner may be behind to count as caught up: about what is in flight under full load.
const LAG: u64 = 128;
/// How often the learner is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Looks in a row at which it must have been close: a promotion must not stall the writes that need it.
const STEADY: u32 = 5;
/// Without any progress for so long, the change is given up; the learner stays.
const STUCK: Duration = Duration::from_secs(30);

/// What was seen of a learner at one look.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Seen {
    matched: Option<u64>,
    sent: u64,
}

impl Changing {
    /// Follows the learner `id` until its lag has been small for a while, telling how it goes.
    pub async fn catch_up(&self, id: NodeId) -> Result<(), Fault> {
        let begun = Instant::now();
        let heartbeat = self.node.settings().config.heartbeat;
        let mut steady = 0;
        let mut before = Seen::default();
        let mut moved = Instant::now();
        while steady < STEADY {
            tokio::time::sleep(LOOK).await;
            self.replica.leadership.ensure_leader()?;
            let metrics = self.metrics();
            let transfer = self.replica.transfers.of(id);
            let matched = metrics.replication.as_ref().and_then(|all| all.get(&id)).and_then(Option::as_ref);
            let seen = Seen { matched: matched.map(|id| id.index()), sent: transfer.map_or(0, |t| t.done) };
            if seen != before {
                (before, moved) = (seen, Instant::now());
            }
            let last = metrics.last_log_index.unwrap_or(0);
            let lag = last.saturating_sub(seen.matched.unwrap_or(0));
            // One that died with the whole log behind it has no lag either.
            let answers = status::last_answer(&metrics, id).is_some_and(|ago| ago <= heartbeat * 3);
            let close = seen.matched.is_some() && lag <= LAG && answers;
            steady = if close { steady + 1 } else { 0 };
            let phase = if transfer.is_some() { Phase::Snapshot } else { Phase::Log };
            let total = transfer.map_or(0, |t| t.total);
            self.tell(ChangeProgress {
                bytes_done: seen.sent,
                bytes_total: total,
                lag_entries: lag,
                eta: eta(begun.elapsed(), seen.sent, total).and_then(|eta| eta.try_into().ok()),
                ..self.message(phase)
            });
            if !close && moved.elapsed() > STUCK {
                return Err(stuck(lag));
            }
        }
        Ok(())
    }
}

fn stuck(lag: u64) -> Fault {
    let message = format!("the node has made no progress for {} s; it is {lag} entries behind", STUCK.as_secs());
    Fault::new(Reason::Timeout, message)
        .next("it stays a learner, which costs nothing: see its log, then repeat the command to go on, or remove it")
}

/// From the share done so far.
fn eta(elapsed: Duration, done: u64, total: u64) -> Option<Duration> {
    let left = total.checked_sub(done).filter(|_| done > 0)?;
    let millis = u64::try_from(elapsed.as_millis()).ok()?;
    Some(Duration::from_millis(millis.saturating_mul(left) / done))
}
