//! Who this node is: a record in its data directory, written once when it is initialised or adopted.

use crate::{
    storage::{DataDir, Result},
    wire::store,
};

const FILE: &str = "identity";

pub use store::Identity;

/// The identity in this directory; none for a node that belongs to no cluster yet.
pub fn read(dir: &DataDir) -> Result<Option<Identity>> {
    dir.read_record(FILE)
}

/// Writes it, durably and as a whole.
pub fn write(dir: &DataDir, identity: &Identity) -> Result<()> {
    dir.write_record(FILE, identity)
}

/// Marks that the node was removed from its cluster: it must never start again from this data.
pub fn mark_removed(dir: &DataDir) -> Result<()> {
    match read(dir)? {
        Some(identity) if !identity.removed => write(dir, &Identity { removed: true, ..identity }),
        _ => Ok(()),
    }
}

/// How consensus names this node to its peers.
pub fn for_peers(identity: &Identity) -> crate::raft::Identity {
    crate::raft::Identity { cluster_id: identity.cluster_id.clone(), epoch: identity.epoch, node_id: identity.node_id }
}
