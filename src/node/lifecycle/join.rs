//! Before, and outside of, membership: what a node tells strangers, and how another learns of its removal.

use std::time::Duration;

use openraft::ReadPolicy;

use super::{
    Node,
    identity::{self, Identity},
    status::VERSION,
};
use crate::{
    types::limits,
    wire::{
        Address, Fault, Profile, Reason,
        raft::{
            CheckMemberRequest, CheckMemberResponse, DialResult, InspectRequest, InspectResponse,
            join_service_client::JoinServiceClient,
        },
    },
};

/// Peers speak together only when this is equal. Raised by a change that older programs cannot follow.
pub const PROTOCOL: u32 = 1;

/// One node dials another for a check no longer than this.
const DIAL: Duration = Duration::from_secs(2);

impl Node {
    /// What this node is and how it fares; dials whom it is told to, and says whether they answered.
    pub async fn inspect(&self, request: InspectRequest) -> Result<InspectResponse, Fault> {
        let request = checked_inspection(request)?;
        let dialled = futures::future::join_all(request.dial.iter().map(|address| self.dial(address))).await;
        let dir = self.inner.dir.clone();
        let (free, identity) = self.settings().blocking.run(move || (dir.free_bytes(), identity::read(&dir))).await;
        let storage = |error| Fault::new(Reason::Internal, format!("the data directory cannot be read: {error}"));
        let (identity, pristine) = self.known_as(identity.map_err(storage)?);
        let config = &self.settings().config;
        let told = |setting: Option<String>| setting.unwrap_or_default();
        Ok(InspectResponse {
            started_as: told(config.name.as_ref().map(ToString::to_string)),
            started_zone: told(config.zone.as_ref().map(ToString::to_string)),
            advertises: told(config.advertise.as_ref().map(ToString::to_string)),
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

    /// Who this node is, or is about to be, and whether it has nothing but that. `on_disk` was read before the rest is
    /// looked at: an adoption that ends meanwhile has left a replica.
    fn known_as(&self, on_disk: Option<Identity>) -> (Identity, bool) {
        if let Some(identity) = self.inner.adopting.identity() {
            return (identity, true);
        }
        match self.replica() {
            Ok(replica) => (on_disk.unwrap_or_else(|| replica.identity.clone()), replica.is_pristine()),
            // An identity that nobody has begun to live under: the adoption failed half way, and can be repeated.
            Err(fault) => {
                let unfinished = on_disk.is_some() && fault.reason == Reason::NotMember && !self.is_stopping();
                (on_disk.unwrap_or_default(), unfinished)
            }
        }
    }

    async fn dial(&self, address: &str) -> DialResult {
        let result = |reachable, detail: String, node_id, cluster_id| DialResult {
            address: address.to_owned(),
            reachable,
            detail,
            node_id,
            cluster_id,
        };
        let Ok(parsed) = address.parse::<Address>() else {
            return result(false, "not an address".into(), 0, String::new());
        };
        match inspect(self, &parsed, Vec::new()).await {
            Ok(answer) => result(true, String::new(), answer.node_id, answer.cluster_id),
            Err(fault) => result(false, fault.message, 0, String::new()),
        }
    }

    /// Whether a node id is still a member. Answered by the leader alone, after a quorum round: a proof, not a rumour.
    pub async fn check_member(&self, request: CheckMemberRequest) -> Result<CheckMemberResponse, Fault> {
        let replica = self.replica()?;
        let own = &replica.identity;
        if request.cluster_id != own.cluster_id || request.epoch != own.epoch {
            return Err(Fault::new(Reason::WrongCluster, format!("this node belongs to cluster {}", own.cluster_id)));
        }
        replica.leadership.ensure_leader()?;
        // By consensus itself, and not by the reader, which asks another if this node is deposed meanwhile: that other's
        // word would be no proof of what this node knows.
        let confirmed = replica.raft.get_read_log_id(ReadPolicy::ReadIndex);
        match tokio::time::timeout(DIAL, confirmed).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => {
                replica.leadership.ensure_leader()?;
                return Err(replica.leadership.no_quorum());
            }
        }
        let metrics = replica.leadership.metrics();
        // The effective membership counts as well: a node that is being added is a member before it is committed.
        let known = [&metrics.membership_config, &metrics.committed_membership_config];
        Ok(CheckMemberResponse {
            member: known.iter().any(|stored| stored.get_node(&request.node_id).is_some()),
            membership_index: metrics.committed_membership_config.log_id().as_ref().map_or(0, |id| id.index()),
            leader_address: own.address.clone(),
        })
    }
}

/// A look that makes this node dial no more than a cluster has nodes.
pub(crate) fn checked_inspection(request: InspectRequest) -> Result<InspectRequest, Fault> {
    match request.dial.len() > limits::NODES {
        true => Err(Fault::invalid("dial", format!("at most {} addresses", limits::NODES))),
        false => Ok(request),
    }
}

/// Asks the node at `address` what it is, and to dial `dial`.
pub async fn inspect(from: &Node, address: &Address, dial: Vec<String>) -> Result<InspectResponse, Fault> {
    let channel = from.settings().dialer.channel(address, Profile::Client);
    let mut client = JoinServiceClient::new(channel);
    // Its own dialling takes its time before it answers.
    let timeout = if dial.is_empty() { DIAL } else { DIAL * 2 };
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

    /// Whoever looks may have read the disk of a node that was still empty then.
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
