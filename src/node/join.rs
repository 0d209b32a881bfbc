//! Before, and outside of, membership: what a node tells strangers, how it is adopted, how it learns of its removal.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Node,
    identity::{self, Identity},
    replica::{Elections, Replica, Stores},
    status::VERSION,
};
use crate::{
    types::{NodeName, Zone, limits},
    wire::{
        Address, Fault, Profile, Reason,
        raft::{
            AdoptRequest, CheckMemberRequest, CheckMemberResponse, DialResult, InspectRequest, InspectResponse,
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
        if request.dial.len() > limits::NODES {
            return Err(Fault::invalid("dial", format!("at most {} addresses", limits::NODES)));
        }
        let dialled = futures::future::join_all(request.dial.iter().map(|address| self.dial(address))).await;
        let dir = self.inner.dir.clone();
        let (free, identity) = self.settings().blocking.run(move || (dir.free_bytes(), identity::read(&dir))).await;
        let storage = |error| Fault::new(Reason::Internal, format!("the data directory cannot be read: {error}"));
        let identity = identity.map_err(storage)?.unwrap_or_default();
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
            pristine: self.replica().is_ok_and(|replica| replica.is_pristine()),
        })
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

    /// Gives this empty node its identity and starts consensus. Repeating the same adoption is harmless.
    pub async fn adopt(&self, request: AdoptRequest) -> Result<(), Fault> {
        let identity = self.checked_identity(request)?;
        let _one_at_a_time = self.inner.identity_file.lock().await;
        if let Ok(replica) = self.replica() {
            let same = replica.identity.cluster_id == identity.cluster_id
                && replica.identity.node_id == identity.node_id
                && replica.identity.epoch == identity.epoch;
            return if same { Ok(()) } else { Err(taken(&replica)) };
        }
        if self.settings().config.name.as_ref().is_some_and(|own| own.folded() != identity.name.to_ascii_lowercase()) {
            let own = self.settings().config.name.as_ref().map(ToString::to_string).unwrap_or_default();
            let message = format!("this node was started with --name {own}, not {}", identity.name);
            return Err(Fault::new(Reason::Unsafe, message).next(format!("add it as {own}, or start it anew")));
        }
        let internal = |error: &dyn std::fmt::Display| {
            Fault::new(Reason::Internal, format!("this node could not be adopted: {error}"))
        };
        let (dir, settings) = (self.inner.dir.clone(), self.settings().clone());
        let record = identity.clone();
        let stores = self.settings().blocking.run(move || {
            // The stores first: an identity promises that they are there.
            let stores = Stores::open(&dir, &settings, true)?;
            identity::write(&dir, &record)?;
            Ok::<_, crate::storage::StorageError>(stores)
        });
        let stores = stores.await.map_err(|error| internal(&error))?;
        tracing::info!(cluster = identity.cluster_id, node = identity.node_id, name = identity.name, "adopted");
        self.begin(identity, stores, Elections::AtOnce).await.map_err(|error| internal(&error))
    }

    fn checked_identity(&self, request: AdoptRequest) -> Result<Identity, Fault> {
        let invalid = |field: &str, error: &dyn std::fmt::Display| Fault::invalid(field, error.to_string());
        NodeName::new(&request.name).map_err(|e| invalid("name", &e))?;
        request.address.parse::<Address>().map_err(|e| invalid("address", &e))?;
        if !request.zone.is_empty() {
            Zone::new(&request.zone).map_err(|e| invalid("zone", &e))?;
        }
        if request.node_id == 0 || request.cluster_id.is_empty() {
            return Err(Fault::invalid("node_id", "an adoption names the cluster and a node id"));
        }
        Ok(Identity {
            cluster_id: request.cluster_id,
            epoch: request.epoch,
            node_id: request.node_id,
            name: request.name,
            address: request.address,
            zone: request.zone,
            removed: false,
            create_time_ms: self.clock().now_ms(),
            listen: self.settings().config.listen.as_ref().map(ToString::to_string).unwrap_or_default(),
        })
    }

    /// Whether a node id is still a member. Answered by the leader alone, after a quorum round: a proof, not a rumour.
    pub async fn check_member(&self, request: CheckMemberRequest) -> Result<CheckMemberResponse, Fault> {
        let replica = self.replica()?;
        let own = &replica.identity;
        if request.cluster_id != own.cluster_id || request.epoch != own.epoch {
            return Err(Fault::new(Reason::WrongCluster, format!("this node belongs to cluster {}", own.cluster_id)));
        }
        replica.leadership.ensure_leader()?;
        replica.reader.read_index(Instant::now() + DIAL).await?;
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

fn taken(replica: &Replica) -> Fault {
    let own = &replica.identity;
    Fault::new(
        Reason::Unsafe,
        format!("this node is {} (id {}) of cluster {} already", own.name, own.node_id, own.cluster_id),
    )
    .next("start a node with an empty data directory and add that one")
}

/// Asks the node at `address` what it is, and to dial `dial`.
pub async fn inspect(from: &Node, address: &Address, dial: Vec<String>) -> Result<InspectResponse, Fault> {
    let channel = from.settings().dialer.channel(address, Profile::Client);
    let mut client = JoinServiceClient::new(channel);
    // Its own dialling takes its time before it answers.
    let patience = if dial.is_empty() { DIAL } else { DIAL * 2 };
    match tokio::time::timeout(patience, client.inspect(InspectRequest { dial })).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Fault::from_status(&status)),
        Err(_) => Err(Fault::new(Reason::Unreachable, format!("no answer from {address}"))),
    }
}
