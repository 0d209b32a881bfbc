//! Transferring leadership to another voter.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

use super::{liveness, operation::ChangeOperation};
use crate::{
    node::{
        Node,
        consensus::{
            Replica,
            metrics::{self, index_of},
        },
    },
    raft,
    types::NodeId,
    wire::{
        Fault, Reason,
        admin::{TransferLeadershipRequest, TransferLeadershipResponse},
    },
};

/// A successor further behind than this would have to catch up first, while nobody leads.
const MAX_LAG: u64 = 1_000;
/// A transfer that takes longer counts as failed.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Node {
    /// Transfers leadership to the voter called `to_name`, or to the one furthest in the log if it is empty.
    pub async fn transfer_leadership(
        &self,
        request: TransferLeadershipRequest,
    ) -> Result<TransferLeadershipResponse, Fault> {
        let replica = self.replica()?;
        replica.leadership.ensure_leader()?;
        if !replica.leadership.has_quorum() {
            return Err(replica.leadership.no_quorum());
        }
        let to = match request.to_name.as_str() {
            "" => replica.best_successor().ok_or_else(|| {
                Fault::new(Reason::Unsafe, "no other voter answers").next("add a voter, or bring one back")
            })?,
            name => named_successor(&replica, name).await?,
        };
        if to == replica.identity.node_id {
            return Ok(TransferLeadershipResponse {
                leader_name: replica.identity.name.clone(),
                term: replica.leadership.metrics().current_term,
                write_gap: Some(prost_types::Duration::default()),
            });
        }
        hand_over(&replica, to).await
    }
}

impl ChangeOperation {
    /// If this leader is the node `id`, which is about to leave, transfers leadership and fails with NOT_LEADER, which names
    /// the successor: the caller repeats the command there.
    pub async fn hand_over_if_leaving(&self, id: NodeId) -> Result<(), Fault> {
        let itself = id == self.replica.identity.node_id && !self.validate_only;
        let Some(successor) = self.replica.best_successor().filter(|_| itself) else { return Ok(()) };
        hand_over(&self.replica, successor).await?;
        Err(self.replica.leadership.not_leader())
    }
}

/// The voter called `name`, if it can take over now.
async fn named_successor(replica: &Replica, name: &str) -> Result<NodeId, Fault> {
    let metrics = replica.leadership.metrics();
    let mut members = metrics.membership_config.nodes();
    let Some((id, _)) = members.find(|(_, member)| member.name.eq_ignore_ascii_case(name)) else {
        return Err(Fault::new(Reason::NodeNotFound, format!("no node of this cluster is called {name}"))
            .next("`chat-admin status` lists the nodes"));
    };
    if *id == metrics.id {
        return Ok(*id);
    }
    if !metrics::is_voter(&metrics, *id) {
        return Err(Fault::new(Reason::Unsafe, format!("{name} is a learner, and learners cannot lead"))
            .next(format!("promote it first: chat-admin promote {name}")));
    }
    if liveness::probe_voters(replica).await.node(*id).is_none_or(|node| !node.healthy) {
        return Err(
            Fault::new(Reason::Unsafe, format!("{name} does not answer")).next("choose another, or bring it back")
        );
    }
    let lag = metrics.last_log_index.unwrap_or(0).saturating_sub(index_of(metrics::matched(&metrics, *id)));
    if lag > MAX_LAG {
        return Err(Fault::new(Reason::Unsafe, format!("{name} is {lag} entries behind"))
            .next("wait until it has caught up, or choose another"));
    }
    Ok(*id)
}

/// Transfers leadership to `to` and waits until it leads.
async fn hand_over(replica: &Replica, to: NodeId) -> Result<TransferLeadershipResponse, Fault> {
    let begun = Instant::now();
    let term = replica.leadership.metrics().current_term;
    tracing::info!(node = replica.identity.node_id, term, to, "handing leadership over");
    replica.raft.trigger().transfer_leader(to).await.map_err(raft::stopped)?;
    let mut metrics = replica.raft.metrics();
    let handed_over = async {
        loop {
            let now = metrics.borrow_watched().clone();
            // A node leads in a later term: the one named, or another that was quicker.
            if let Some(leader) = now.current_leader.filter(|_| now.current_term > term) {
                return Some((leader, now));
            }
            if metrics.changed().await.is_err() {
                return None;
            }
        }
    };
    match tokio::time::timeout(TIMEOUT, handed_over).await {
        Ok(Some((leader, now))) => {
            let member = now.membership_config.get_node(&leader).cloned().unwrap_or_default();
            if leader != to {
                let message = format!("{} took over instead", member.name);
                return Err(
                    Fault::new(Reason::Timeout, message).next("repeat the command if that is not the leader you want")
                );
            }
            Ok(TransferLeadershipResponse {
                leader_name: member.name,
                term: now.current_term,
                write_gap: begun.elapsed().try_into().ok(),
            })
        }
        Ok(None) => Err(raft::stopped("it is stopping")),
        Err(_) => Err(Fault::new(Reason::Timeout, "the successor did not take over in time")
            .next("this node still leads; `chat-admin status` shows whether the successor answers")),
    }
}
