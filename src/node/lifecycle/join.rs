//! What nodes tell each other outside of membership: what a node is, whom it reaches, and who is still a member.
//!
//! `inspect` answers anybody: the leader asks it of a node that is to join or has moved. `check_member` is answered by the
//! leader alone: a member asks it to learn whether it was removed.

use std::time::Duration;

use openraft::ReadPolicy;
use prost::Message;
use tokio::time::Instant;

use crate::{
    node::{
        Identity, Node, VERSION,
        consensus::{Replica, metrics::index_of},
        identity,
    },
    raft::{convert, types::Proposal},
    types::{NodeId, limits},
    wire::{
        Address, Fault, Profile, Reason,
        raft::{
            CheckMemberRequest, CheckMemberResponse, DialResult, InspectRequest, InspectResponse,
            join_service_client::JoinServiceClient,
        },
        store::CommandBatch,
    },
};

/// The version of the protocol between peers. Nodes join only if theirs is equal; raised by a change that older programs
/// cannot follow.
pub const PROTOCOL: u32 = 1;

/// All that a node tells of an address at which no node answers.
const NO_ANSWER: &str = "no answer";
/// How long a process at the member's address may take to answer a heartbeat.
const TWIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Poll interval of that answer.
const TWIN_POLL: Duration = Duration::from_millis(20);
/// Timeout of one call to another node.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

impl Node {
    /// Reports what this node is and how it fares. Dials the addresses in the request and reports which answered.
    pub async fn inspect(&self, request: InspectRequest) -> Result<InspectResponse, Fault> {
        let request = checked_inspection(request)?;
        let dialled = futures::future::join_all(request.dial.iter().map(|address| self.dial(address))).await;
        let dir = self.inner.dir.clone();
        let (free, identity) = self.settings().blocking.run(move || (dir.free_bytes(), identity::read(&dir))).await;
        let storage = |error| Fault::new(Reason::Internal, format!("the data directory cannot be read: {error}"));
        let (identity, pristine) = self.known_as(identity.map_err(storage)?);
        let config = &self.settings().config;
        let or_empty = |setting: Option<String>| setting.unwrap_or_default();
        Ok(InspectResponse {
            started_as: or_empty(config.name.as_ref().map(ToString::to_string)),
            started_zone: or_empty(config.zone.as_ref().map(ToString::to_string)),
            advertises: or_empty(config.advertise.as_ref().map(ToString::to_string)),
            version: VERSION.to_owned(),
            protocol: PROTOCOL,
            cluster_id: identity.cluster_id,
            epoch: identity.epoch,
            node_id: identity.node_id,
            name: identity.name,
            time_ms: self.clock().now_ms(),
            disk_free_bytes: free.map_err(storage)?,
            dialled,
            removed: identity.removed,
            pristine,
        })
    }

    /// The identity that this node has or is about to take, and whether it has nothing but that.
    ///
    /// `on_disk` was read before this call. If an adoption ended in between, there is a replica, and its identity counts.
    fn known_as(&self, on_disk: Option<Identity>) -> (Identity, bool) {
        if let Some(identity) = self.inner.pending_adoption.identity() {
            return (identity, true);
        }
        match self.replica() {
            Ok(replica) => (on_disk.unwrap_or_else(|| replica.identity.clone()), replica.is_pristine()),
            // An identity without a replica: an adoption failed half way and can be repeated.
            Err(fault) => {
                let unfinished = on_disk.is_some() && fault.reason == Reason::NotMember && !self.is_stopping();
                (on_disk.unwrap_or_default(), unfinished)
            }
        }
    }

    async fn dial(&self, address: &str) -> DialResult {
        let address = address.to_owned();
        let answer = match address.parse::<Address>() {
            Ok(parsed) => inspect_remote(self, &parsed, Vec::new()).await.map_err(|fault| fault.message),
            Err(error) => Err(error.to_string()),
        };
        match answer {
            Ok(InspectResponse { node_id, cluster_id, .. }) => {
                DialResult { address, reachable: true, node_id, cluster_id, ..Default::default() }
            }
            Err(why) => {
                // The caller may be anybody, and the reason tells an open port from a closed one.
                tracing::debug!(address, why, "an address that was to be dialled does not answer");
                DialResult { address, detail: NO_ANSWER.to_owned(), ..Default::default() }
            }
        }
    }

    /// Whether a node id is still a member. Only the leader answers, after a quorum round, so the answer is proof.
    pub async fn check_member(&self, request: CheckMemberRequest) -> Result<CheckMemberResponse, Fault> {
        let replica = self.replica()?;
        let own = &replica.identity;
        if request.cluster_id != own.cluster_id || request.epoch != own.epoch {
            return Err(Fault::new(Reason::WrongCluster, format!("this node belongs to cluster {}", own.cluster_id)));
        }
        replica.leadership.ensure_leader()?;
        if request.vouch {
            return self.vouch(&replica, &request).await;
        }
        // Not by `reader`: if this node were deposed meanwhile, it would ask the new leader, whose index proves nothing
        // about the membership that this node knows.
        let confirmed = replica.raft.get_read_log_id(ReadPolicy::ReadIndex);
        match tokio::time::timeout(DIAL_TIMEOUT, confirmed).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => {
                replica.leadership.ensure_leader()?;
                return Err(replica.leadership.no_quorum());
            }
        }
        let metrics = replica.leadership.metrics();
        // The effective membership counts as well as the committed one: a node that is being added is a member already.
        let known = [&metrics.membership_config, &metrics.committed_membership_config];
        Ok(CheckMemberResponse {
            member: known.iter().any(|stored| stored.get_node(&request.node_id).is_some()),
            membership_index: index_of(metrics.committed_membership_config.log_id().as_ref()),
            leader_address: own.address.clone(),
            ..CheckMemberResponse::default()
        })
    }

    /// Vouches for a node whose disk is not trusted, by an entry that is committed without it.
    ///
    /// The node acknowledges nothing while it asks, so the majority that commits the entry has not forgotten anything.
    async fn vouch(&self, replica: &Replica, request: &CheckMemberRequest) -> Result<CheckMemberResponse, Fault> {
        let (id, peers) = (request.node_id, &replica.disks.peers);
        let metrics = replica.leadership.metrics();
        let Some(member) = metrics.membership_config.get_node(&id).cloned() else {
            return Ok(CheckMemberResponse { leader_address: replica.identity.address.clone(), ..Default::default() });
        };
        if is_answered_by_another(replica, id, request.random).await {
            let message = format!("{} is running already, at {}: this is a copy of it", member.name, member.address);
            return Err(Fault::new(Reason::AlreadyRunning, message));
        }
        let _one_at_a_time = replica.vouching.lock().await;
        let batch = CommandBatch { time_ms: replica.clocks.stamp().await, commands: Vec::new() };
        let proposal = Proposal(batch.encode_to_vec().into());
        let barrier = match tokio::time::timeout(DIAL_TIMEOUT, replica.raft.client_write(proposal)).await {
            Ok(Ok(written)) => written.log_id,
            Ok(Err(_)) | Err(_) => {
                replica.leadership.ensure_leader()?;
                return Err(replica.leadership.no_quorum());
            }
        };
        tracing::info!(node = member.name, index = barrier.index(), "vouching for a node whose disk is not trusted");
        Ok(CheckMemberResponse {
            member: true,
            membership_index: index_of(metrics.committed_membership_config.log_id().as_ref()),
            leader_address: replica.identity.address.clone(),
            barrier: Some(convert::log_id(&barrier)),
            known_start: peers.known_start(id),
        })
    }
}

/// Whether the process that answers this leader's heartbeats at the member's address is another than the one that asks.
async fn is_answered_by_another(replica: &Replica, id: NodeId, random: u64) -> bool {
    let asked = Instant::now();
    while asked.elapsed() < TWIN_TIMEOUT {
        if let Some(heard) = replica.disks.peers.heard_since(id, asked) {
            return heard.random != random;
        }
        tokio::time::sleep(TWIN_POLL).await;
    }
    false
}

/// Refuses a request that makes this node dial more addresses than a cluster has nodes.
pub fn checked_inspection(request: InspectRequest) -> Result<InspectRequest, Fault> {
    match request.dial.len() > limits::NODES {
        true => Err(Fault::invalid("dial", format!("at most {} addresses", limits::NODES))),
        false => Ok(request),
    }
}

/// Asks the node at `address` what it is, and to dial `dial`.
pub async fn inspect_remote(from: &Node, address: &Address, dial: Vec<String>) -> Result<InspectResponse, Fault> {
    let channel = from.settings().dialer.channel(address, Profile::Client);
    let mut client = JoinServiceClient::new(channel);
    // The other node dials first and answers afterwards.
    let timeout = if dial.is_empty() { DIAL_TIMEOUT } else { DIAL_TIMEOUT * 2 };
    match tokio::time::timeout(timeout, client.inspect(InspectRequest { dial })).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Fault::from_status(&status)),
        Err(_) => Err(Fault::new(Reason::Unreachable, format!("no answer from {address}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::NodeConfig, node::Settings, types::NodeName};

    /// The disk may have been read while the node was still empty.
    #[tokio::test]
    async fn a_node_that_was_adopted_after_its_disk_was_read_says_who_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let config = NodeConfig {
            name: NodeName::new("n1").ok(),
            listen: Some("127.0.0.1:1".parse().unwrap()),
            ..NodeConfig::defaults(folder.path().join("data"))
        };
        Node::init(Settings::production(config.clone())).await.unwrap();
        let node = Node::start(Settings::production(config)).await.unwrap();
        let (identity, pristine) = node.known_as(None);
        assert_eq!(identity, node.replica().unwrap().identity);
        assert!(identity.node_id != 0 && !pristine, "{identity:?}: an adoption now would be the second");
        node.stop().await;
    }
}
