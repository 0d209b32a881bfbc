//! Snapshot on demand, digest and backup.

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::mpsc;

use super::{Node, reads::applied_index};
use crate::{
    raft::NoCut,
    storage::{self, StorageError, archive},
    types::Consistency,
    wire::{Fault, Reason, admin::GetStateDigestResponse},
};

/// Frames of a backup that wait to be sent.
const FRAMES_IN_FLIGHT: usize = 4;
/// How long a snapshot, or reaching an index, may take.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

fn unreadable(error: &StorageError) -> Fault {
    Fault::new(Reason::Quarantined, format!("this node's state could not be read: {error}"))
}

fn no_cut(index: u64, why: &NoCut) -> Fault {
    match why {
        NoCut::Passed(applied) => {
            Fault::new(Reason::EtagMismatch, format!("this node is past index {index} already, at {applied} or beyond"))
                .next("ask for an index that no replica has reached yet")
        }
        NoCut::Full => Fault::new(Reason::Overloaded, "too many digests are being prepared")
            .retry_after(std::time::Duration::from_secs(1)),
        NoCut::Storage(error) => unreadable(error),
    }
}

impl Node {
    /// Takes a snapshot now and compacts the log; answers with the index it covers.
    pub async fn trigger_snapshot(&self) -> Result<u64, Fault> {
        let replica = self.replica()?;
        let stopped =
            |error: &dyn std::fmt::Display| Fault::new(Reason::Quarantined, format!("this node has stopped: {error}"));
        let target = replica.leadership.metrics().last_applied.map_or(0, |id| id.index());
        replica.raft.trigger().snapshot().await.map_err(|error| stopped(&error))?;
        let mut metrics = replica.raft.metrics();
        let taken = async {
            loop {
                let snapshot = metrics.borrow_watched().snapshot.map_or(0, |id| id.index());
                if snapshot >= target || metrics.changed().await.is_err() {
                    return snapshot;
                }
            }
        };
        tokio::time::timeout(TIMEOUT, taken)
            .await
            .map_err(|_| Fault::new(Reason::Timeout, "the snapshot was not taken in time").next("see this node's log"))
    }

    /// The digest of the whole state, at an index at least `at_least`.
    pub async fn state_digest(&self, at_least: u64) -> Result<GetStateDigestResponse, Fault> {
        let replica = self.replica()?;
        let digest = replica.reader.query(Consistency::AtLeast(at_least), TIMEOUT, |view| archive::digest(view)).await;
        let (digest, index) = digest?;
        Ok(GetStateDigestResponse {
            node: replica.identity.name.clone(),
            index,
            digest: Bytes::copy_from_slice(&digest),
        })
    }

    /// The digest of the whole state right after the entry at `index`, which must not have been applied yet, or be the
    /// last: a replica under load does not stand still to be looked at, so ask a little ahead.
    pub async fn state_digest_at(&self, index: u64) -> Result<GetStateDigestResponse, Fault> {
        let replica = self.replica()?;
        let (cuts, slot, blocking) = (replica.cuts.clone(), replica.slot.clone(), self.settings().blocking);
        let asked = blocking.run(move || cuts.at(index, &slot)).await.map_err(|why| no_cut(index, &why))?;
        let view = tokio::time::timeout(TIMEOUT, asked).await.map_err(|_| {
            Fault::new(Reason::Timeout, format!("this node did not reach index {index} in time"))
                .next("ask for one that is nearer, or for one at least some index")
        })?;
        // Nothing but a snapshot skips an entry.
        let view = view.map_err(|_| no_cut(index, &NoCut::Passed(index)))?;
        let digest = blocking.run(move || archive::digest(&view)).await.map_err(|error| unreadable(&error))?;
        let digest = Bytes::copy_from_slice(&digest);
        Ok(GetStateDigestResponse { node: replica.identity.name.clone(), index, digest })
    }

    /// The state as a checksummed archive, frame by frame: everything acknowledged before the call is in it.
    pub async fn backup(&self) -> Result<mpsc::Receiver<Result<Bytes, Fault>>, Fault> {
        let replica = self.replica()?;
        replica.reader.query(Consistency::Linearizable, TIMEOUT, |_| Ok(())).await?;
        let (slot, blocking) = (replica.slot.clone(), self.settings().blocking);
        let header = Bytes::from(replica.identity.cluster_id.clone().into_bytes());
        let open = move || -> storage::Result<(archive::Writer, u64)> {
            let view = slot.current().view()?;
            let index = applied_index(&view)?;
            Ok((archive::Writer::new(view, header)?, index))
        };
        let (mut writer, index) = blocking.run(open).await.map_err(|error| unreadable(&error))?;
        tracing::info!(node = replica.identity.node_id, index, "backup begun");
        let (sender, receiver) = mpsc::channel(FRAMES_IN_FLIGHT);
        tokio::spawn(async move {
            loop {
                let frame;
                (writer, frame) = blocking
                    .run(move || {
                        let frame = writer.next_frame();
                        (writer, frame)
                    })
                    .await;
                let (item, last) = match frame {
                    Ok(Some(frame)) => (Ok(frame), false),
                    Ok(None) => return,
                    Err(error) => (Err(unreadable(&error)), true),
                };
                if sender.send(item).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(receiver)
    }
}
