//! Who calls whom: the metadata on every call between peers.
//!
//! A peer refuses every call that is not meant for exactly it, in its cluster and epoch. This keeps nodes of another
//! cluster out that were started at an old address, and fences the members that an offline recovery left behind.

use tonic::{
    Request,
    metadata::{MetadataMap, MetadataValue},
};

use crate::{
    types::NodeId,
    wire::{Fault, Reason, metadata, store},
};

/// What a node tells its peers of itself with every call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The cluster.
    pub cluster_id: String,
    /// Raised by an offline recovery, to fence the members left behind.
    pub epoch: u64,
    /// This node.
    pub node_id: NodeId,
}

impl From<&store::Identity> for PeerIdentity {
    fn from(identity: &store::Identity) -> Self {
        Self { cluster_id: identity.cluster_id.clone(), epoch: identity.epoch, node_id: identity.node_id }
    }
}

impl PeerIdentity {
    /// Writes this node as the caller, and `target` as the node that is meant, into a request.
    pub fn stamp<T>(&self, request: &mut Request<T>, target: NodeId) {
        let headers = request.metadata_mut();
        if let Ok(cluster) = MetadataValue::try_from(&self.cluster_id) {
            headers.insert(metadata::CLUSTER, cluster);
        }
        headers.insert(metadata::EPOCH, self.epoch.into());
        headers.insert(metadata::FROM, self.node_id.into());
        headers.insert(metadata::TO, target.into());
    }

    /// Refuses a request that was stamped for another cluster, epoch or node, or by no other node. Returns the sender.
    pub fn check(&self, headers: &MetadataMap) -> Result<NodeId, Fault> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let number = |name| text(name).parse::<u64>().ok();
        let refuse = |message: String| {
            tracing::warn!(from = text(metadata::FROM), %message, "refused a peer");
            Err(Fault::new(Reason::WrongCluster, message))
        };
        if text(metadata::CLUSTER) != self.cluster_id {
            return refuse(format!(
                "this node belongs to cluster {}, the caller to `{}`",
                self.cluster_id,
                text(metadata::CLUSTER)
            ));
        }
        if number(metadata::EPOCH) != Some(self.epoch) {
            return refuse(format!(
                "this cluster was recovered: it is at epoch {}, the caller at {}",
                self.epoch,
                text(metadata::EPOCH)
            ));
        }
        if number(metadata::TO) != Some(self.node_id) {
            return refuse(format!("this is node {}, the caller means node {}", self.node_id, text(metadata::TO)));
        }
        match number(metadata::FROM) {
            Some(sender) if sender != 0 && sender != self.node_id => Ok(sender),
            _ => {
                let message = format!("the caller says that it is node `{}`, which cannot be", text(metadata::FROM));
                tracing::warn!(%message, "refused a peer");
                Err(Fault::new(Reason::NotAllowed, message))
            }
        }
    }
}
