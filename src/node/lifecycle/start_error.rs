//! Why a node could not start, be created, be restored or be recovered.

use crate::{node::consensus::ReplicaError, storage::StorageError, types::Address};

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Consensus.
    #[error("{0}")]
    Consensus(String),
    /// `init` and `restore` need an empty directory.
    #[error("the data directory is not empty")]
    NotEmpty,
    /// The directory holds files, but no identity.
    #[error("the data directory holds files but no identity: it is not a node's, or its set-up was interrupted")]
    NoIdentity,
    /// The directory holds the files of a member, but no identity.
    #[error("the data directory is that of a member whose file `identity` is missing: it holds {0}")]
    IdentityLost(String),
    /// The cluster has removed this node.
    #[error("node {name} (id {node_id}) was removed from cluster {cluster_id}")]
    Removed {
        /// Its name.
        name: String,
        /// Its id.
        node_id: u64,
        /// The cluster.
        cluster_id: String,
    },
    /// The backup cannot be used.
    #[error("the backup {0}")]
    Backup(String),
    /// The cluster to recover still works.
    #[error("cluster {cluster_id} has a quorum: {leader} leads it, says the node at {address}")]
    Lives {
        /// The cluster.
        cluster_id: String,
        /// The leader's name.
        leader: String,
        /// The address of the node that reported the leader.
        address: String,
    },
    /// The data directory cannot be used for a recovery.
    #[error("{0}")]
    Unusable(String),
    /// A flag contradicts the identity.
    #[error("this node is known as {known}, but was started with {given}")]
    Contradiction {
        /// From its identity.
        known: String,
        /// From its settings.
        given: String,
    },
    /// The node runs already, from the directory of which this one is a copy.
    #[error("node {name} is running already, at {there}: this directory is a copy, started at {here}")]
    AlreadyRunning {
        /// Its name.
        name: String,
        /// Where it runs.
        there: Address,
        /// Where it was to be started again.
        here: Address,
    },
    /// A required setting is missing.
    #[error("{0} is not given")]
    Missing(&'static str),
}

impl From<ReplicaError> for StartError {
    fn from(error: ReplicaError) -> Self {
        match error {
            ReplicaError::Storage(error) => Self::Storage(error),
            ReplicaError::Consensus(error) => Self::Consensus(error),
        }
    }
}
