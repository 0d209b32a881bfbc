//! Whether this node still belongs to its cluster, by the word of a leader.
//!
//! A removed node is never told by replication. So it asks: before it stands for election after a start, and whenever it
//! hears no leader. A leader answers after a quorum round, so a single answer is proof, whatever the others say.

use std::{collections::BTreeSet, time::Duration};

use super::{Node, replica::Replica};
use crate::{
    raft::types::Metrics,
    wire::{
        Address, Fault, Profile,
        raft::{CheckMemberRequest, CheckMemberResponse, join_service_client::JoinServiceClient},
    },
};

/// What a leader says of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It belongs.
    Member,
    /// It was removed.
    Removed,
    /// No leader could be asked.
    Unknown,
}

/// Asks the members that `metrics` names, and whoever they say leads, each for at most `timeout`.
pub async fn standing(node: &Node, replica: &Replica, metrics: &Metrics, timeout: Duration) -> Standing {
    let others = metrics.membership_config.nodes().filter(|(id, _)| **id != metrics.id);
    let known: BTreeSet<Address> = others.filter_map(|(_, member)| member.address.parse().ok()).collect();
    let (standing, leaders) = round(node, replica, &known, timeout).await;
    if standing != Standing::Unknown {
        return standing;
    }
    // Since this node was last up, the leader may have become one that it has never heard of.
    let strangers: BTreeSet<Address> = leaders.difference(&known).cloned().collect();
    round(node, replica, &strangers, timeout).await.0
}

/// Asks all at once; answers with what a leader said, or with whom the others call leader.
async fn round(
    node: &Node,
    replica: &Replica,
    asked: &BTreeSet<Address>,
    timeout: Duration,
) -> (Standing, BTreeSet<Address>) {
    let answers = asked.iter().map(|address| ask(node, replica, address, timeout));
    let mut leaders = BTreeSet::new();
    for answer in futures::future::join_all(answers).await.into_iter().flatten() {
        match answer {
            Ok(answer) if answer.member => return (Standing::Member, leaders),
            Ok(_) => return (Standing::Removed, leaders),
            Err(fault) => leaders.extend(fault.leader.and_then(|hint| hint.leader_address.parse().ok())),
        }
    }
    (Standing::Unknown, leaders)
}

async fn ask(
    node: &Node,
    replica: &Replica,
    address: &Address,
    timeout: Duration,
) -> Option<Result<CheckMemberResponse, Fault>> {
    let own = &replica.identity;
    let request = CheckMemberRequest { cluster_id: own.cluster_id.clone(), epoch: own.epoch, node_id: own.node_id };
    let mut client = JoinServiceClient::new(node.settings().dialer.channel(address, Profile::Client));
    let answer = tokio::time::timeout(timeout, client.check_member(request)).await.ok()?;
    Some(answer.map(tonic::Response::into_inner).map_err(|status| Fault::from_status(&status)))
}
