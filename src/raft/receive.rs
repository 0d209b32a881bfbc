//! Receives a snapshot: checks its header, loads the archive beside the live state, and verifies the whole of it.
//!
//! Nothing of this node is replaced before everything is verified: the sender may be mistaken, or lie. A snapshot
//! that is refused leaves no trace, and the node goes on.

use tonic::{Status, Streaming};

use super::{
    convert, lineage,
    peer_call::{Call, invalid},
    state_machine::StateMeta,
    types::{SnapshotMeta, Vote},
};
use crate::{
    machine::query,
    storage::{self, StateSlot, StorageError, archive},
    wire::{
        Fault, Reason,
        raft::{self as pb, snapshot_chunk::Part},
    },
};

/// What a header says, once it is checked.
pub(super) struct Header {
    pub vote: Vote,
    pub meta: SnapshotMeta,
}

/// Reads the first chunk and checks what it claims.
pub(super) async fn header(call: &Call, chunks: &mut Streaming<pb::SnapshotChunk>) -> Result<Header, Status> {
    let first = chunks.message().await?.and_then(|chunk| chunk.part);
    let Some(Part::Header(header)) = first else {
        return Err(Status::invalid_argument("a snapshot begins with its header"));
    };
    let (cluster_id, epoch) = (header.cluster_id.clone(), header.epoch);
    let (vote, meta) = convert::read_snapshot_header(header).map_err(invalid)?;
    call.check_leader(&vote)?;
    call.standpoint().snapshot(&vote, &meta).map_err(invalid)?;
    let own = &call.serving.identity;
    // Nodes of 0.1.0 name neither.
    if !cluster_id.is_empty() && (cluster_id.as_str(), epoch) != (own.cluster_id.as_str(), own.epoch) {
        return Err(invalid(format!("the snapshot is of cluster {cluster_id}, epoch {epoch}")));
    }
    lineage::check(own.node_id, &call.committed_membership(), &meta.last_membership).map_err(foreign)?;
    Ok(Header { vote, meta })
}

/// Receives the archive into a file beside the live one, with bounded memory: it reads the next chunk from the network
/// only after it wrote the last one. Then compares the state in it with its header and with the live state.
pub(super) async fn archive(
    call: &Call,
    meta: &SnapshotMeta,
    mut chunks: Streaming<pb::SnapshotChunk>,
) -> Result<archive::Loaded, Status> {
    let (blocking, slot) = (call.serving.blocking, call.serving.slot.clone());
    let mut loader = slot.loader().map_err(refused)?;
    while let Some(chunk) = chunks.message().await? {
        let Some(Part::Data(data)) = chunk.part else {
            return Err(Status::invalid_argument("a snapshot has one header"));
        };
        let fed;
        (loader, fed) = blocking
            .run(move || {
                let fed = loader.feed(&data);
                (loader, fed)
            })
            .await;
        fed.map_err(refused)?;
    }
    let expected = meta.clone();
    let verified = blocking.run(move || -> storage::Result<_> {
        let loaded = loader.finish()?;
        let wrong = verify(&loaded, &expected, &slot)?;
        Ok((loaded, wrong))
    });
    match verified.await.map_err(refused)? {
        (loaded, None) => Ok(loaded),
        (_, Some(wrong)) => Err(invalid(wrong)),
    }
}

/// Describes the fault of the state in a loaded archive, if it has one. Blocks.
fn verify(
    loaded: &archive::Loaded,
    expected: &SnapshotMeta,
    slot: &StateSlot,
) -> storage::Result<Option<&'static str>> {
    let view = loaded.view()?;
    let found = StateMeta::read(&view)?;
    if found.applied != expected.last_log_id {
        return Ok(Some("the last entry in the snapshot's state differs from its header's"));
    }
    if found.membership != expected.last_membership {
        return Ok(Some("the membership in the snapshot's state differs from its header's"));
    }
    let live = slot.current().view()?;
    let newer = StateMeta::read(&live)?.applied < found.applied;
    // openraft ignores a snapshot that is no newer than the state.
    if newer && !query::continues(&live, &view)? {
        return Ok(Some("the snapshot's state is of another history than this node's"));
    }
    Ok(None)
}

fn foreign(error: lineage::Foreign) -> Status {
    invalid(format!("the snapshot is of another history than this node's: {error}"))
}

/// The sender is at fault for the faults of an archive, this node for its own disk.
fn refused(error: StorageError) -> Status {
    tracing::warn!(%error, "a snapshot could not be received");
    match error {
        StorageError::Damaged { .. } | StorageError::TooNew { .. } => invalid(error),
        other => Fault::new(Reason::Internal, format!("the snapshot could not be received: {other}")).into(),
    }
}
