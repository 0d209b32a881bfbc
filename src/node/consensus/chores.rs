//! The leader's background task that finishes pending chores in an idle cluster.
//!
//! Deleting an account leaves work that is done in small steps, one with each command that is applied (see `machine`).
//! While no commands come, the leader proposes `Tend`, a command that does such a step and nothing else. Proposing it
//! too often is harmless, and so is an old and a new leader proposing it at once.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use openraft::ServerState;

use super::{metrics::index_of, replica::Replica};
use crate::{
    machine::query,
    node::Node,
    types::Consistency,
    wire::{
        Fault,
        store::{self, command::Verb, outcome},
    },
};

/// Poll interval.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Steps proposed together: enough to make progress, few enough to leave room for the commands of users.
const STEPS: usize = 8;
/// How long one step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts the task. It ends when the node no longer runs `replica`.
pub fn start(node: Node, replica: Arc<Replica>) {
    tokio::spawn(tend(node, replica));
}

async fn tend(node: Node, replica: Arc<Replica>) {
    let mut seen = 0;
    while node.runs(&replica) {
        let metrics = replica.leadership.metrics();
        let applied = index_of(metrics.last_applied.as_ref());
        // Only commands create chores: if nothing was applied since the last look, there is nothing to do.
        if metrics.state == ServerState::Leader && applied > seen {
            match finish(&replica).await {
                Ok(()) => seen = applied,
                Err(fault) => tracing::debug!(reason = fault.reason.as_str(), message = %fault.message, "chores wait"),
            }
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Proposes steps until no chores are left.
async fn finish(replica: &Replica) -> Result<(), Fault> {
    let (mut chores, _) = replica.reader.query(Consistency::Stale, STEP_TIMEOUT, query::chores).await?;
    while chores > 0 {
        let steps = (0..STEPS).map(|_| replica.proposer.propose(step(), STEP_TIMEOUT));
        for proposed in join_all(steps).await {
            if let Some(outcome::Result::Tended(tended)) = proposed?.outcome.result {
                chores = tended.chores;
            }
        }
    }
    Ok(())
}

fn step() -> store::Command {
    store::Command { verb: Some(Verb::Tend(store::Tend {})), ..Default::default() }
}
