//! Whether this node is still a member of its cluster, by the word of a leader.
//!
//! Replication never tells a node that it was removed: the leader just stops sending. So the node asks, before it stands
//! for election after a start, and whenever it hears no leader. A leader answers after a quorum round, so a single
//! answer of a leader is proof, whatever other nodes say.

use std::{collections::BTreeSet, time::Duration};

use super::replica::Replica;
use crate::{
    node::Node,
    raft::types::Metrics,
    wire::{
        Address, Fault, Profile,
        raft::{CheckMemberRequest, CheckMemberResponse, join_service_client::JoinServiceClient},
    },
};

/// What a leader says of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MembershipCheck {
    /// It is a member.
    Member,
    /// It was removed.
    Removed,
    /// No leader answered.
    Unknown,
}

/// Asks the members in `metrics`, and the leaders that they name, each for at most `timeout`.
pub async fn check_membership(node: &Node, replica: &Replica, metrics: &Metrics, timeout: Duration) -> MembershipCheck {
    let others = metrics.membership_config.nodes().filter(|(id, _)| **id != metrics.id);
    let known: BTreeSet<Address> = others.filter_map(|(_, member)| member.address.parse().ok()).collect();
    let (check, leaders) = ask_all(node, replica, &known, timeout).await;
    if check != MembershipCheck::Unknown {
        return check;
    }
    // The leader may be a node that joined while this one was down.
    let unknown: BTreeSet<Address> = leaders.difference(&known).cloned().collect();
    ask_all(node, replica, &unknown, timeout).await.0
}

/// Asks all at once. Returns what a leader said, or the leaders that the others named.
async fn ask_all(
    node: &Node,
    replica: &Replica,
    asked: &BTreeSet<Address>,
    timeout: Duration,
) -> (MembershipCheck, BTreeSet<Address>) {
    let answers = asked.iter().map(|address| ask(node, replica, address, timeout));
    let mut leaders = BTreeSet::new();
    for answer in futures::future::join_all(answers).await.into_iter().flatten() {
        match answer {
            Ok(answer) if answer.member => return (MembershipCheck::Member, leaders),
            Ok(_) => return (MembershipCheck::Removed, leaders),
            Err(fault) => leaders.extend(fault.leader.and_then(|hint| hint.leader_address.parse().ok())),
        }
    }
    (MembershipCheck::Unknown, leaders)
}

async fn ask(
    node: &Node,
    replica: &Replica,
    address: &Address,
    timeout: Duration,
) -> Option<Result<CheckMemberResponse, Fault>> {
    let own = &replica.identity;
    let request = CheckMemberRequest {
        cluster_id: own.cluster_id.clone(),
        epoch: own.epoch,
        node_id: own.node_id,
        ..CheckMemberRequest::default()
    };
    let mut client = JoinServiceClient::new(node.settings().dialer.channel(address, Profile::Client));
    let answer = tokio::time::timeout(timeout, client.check_member(request)).await.ok()?;
    Some(answer.map(tonic::Response::into_inner).map_err(|status| Fault::from_status(&status)))
}
