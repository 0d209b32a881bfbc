//! The leader's duty to see chores done where nobody else writes.
//!
//! What remains to be tidied after an account was deleted is done in small steps, one with each command of anyone
//! (`machine`). Where no commands come, the leader proposes `Tend`, which is nothing but such a step: proposing it too
//! often, or twice at once by an old leader and a new one, does no harm.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use openraft::ServerState;

use super::{Node, replica::Replica};
use crate::{
    machine::query,
    types::Consistency,
    wire::{
        Fault,
        store::{self, command::Verb, outcome},
    },
};

/// How often a leader looks whether there are chores.
const LOOK: Duration = Duration::from_millis(500);
/// Steps proposed together: enough to get on, few enough to leave room for the commands of users.
const STEPS: usize = 8;
/// How long one of them may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Starts the duty, which ends when the node stops.
pub fn start(node: Node, replica: Arc<Replica>) {
    tokio::spawn(tend(node, replica));
}

async fn tend(node: Node, replica: Arc<Replica>) {
    let mut seen = 0;
    while serves(&node, &replica) {
        let metrics = replica.leadership.metrics();
        let applied = metrics.last_applied.map_or(0, |id| id.index());
        // Chores come about by commands only: nothing applied since the last look, nothing to look for.
        if metrics.state == ServerState::Leader && applied > seen {
            match finish(&replica).await {
                Ok(()) => seen = applied,
                Err(fault) => tracing::debug!(reason = fault.reason.as_str(), message = %fault.message, "chores wait"),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn serves(node: &Node, replica: &Arc<Replica>) -> bool {
    node.replica().is_ok_and(|current| Arc::ptr_eq(&current, replica))
}

/// Proposes steps until nothing is left to do.
async fn finish(replica: &Replica) -> Result<(), Fault> {
    let (mut chores, _) = replica.reader.query(Consistency::Stale, TIMEOUT, query::chores).await?;
    while chores > 0 {
        let steps = (0..STEPS).map(|_| replica.proposer.propose(step(), TIMEOUT));
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
