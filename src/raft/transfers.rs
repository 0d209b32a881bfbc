//! The progress of snapshots on their way to peers, which an operator may be waiting for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::types::NodeId;

/// The progress of a snapshot to a peer, in raw bytes of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Handed to the network.
    pub done: u64,
    /// The size of the state file: an estimate of the total.
    pub total: u64,
}

/// The snapshots that this node is sending. Cheap to clone; all clones are the same.
///
/// There is at most one transfer to a peer, because openraft sends one snapshot at a time to each. Its entry goes when the
/// transfer ends, however it ends.
#[derive(Debug, Clone, Default)]
pub struct Transfers(Arc<Mutex<BTreeMap<NodeId, Transfer>>>);

impl Transfers {
    /// The transfer to this peer, if there is one.
    pub fn of(&self, peer: NodeId) -> Option<Transfer> {
        self.lock().get(&peer).copied()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Transfer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, peer: NodeId, total: u64) -> Sending {
        self.lock().insert(peer, Transfer { done: 0, total });
        Sending { transfers: self.clone(), peer }
    }
}

/// A transfer under way. Dropping it removes its entry.
pub(super) struct Sending {
    transfers: Transfers,
    peer: NodeId,
}

impl Sending {
    pub(super) fn done(&self, bytes: u64) {
        if let Some(transfer) = self.transfers.lock().get_mut(&self.peer) {
            transfer.done = bytes;
            transfer.total = transfer.total.max(bytes);
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.transfers.lock().remove(&self.peer);
    }
}
