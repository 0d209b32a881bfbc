//! Snapshots on demand, digests and backups of a running member.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::mpsc;

use crate::{
    node::{
        Node,
        consensus::{applied_index, metrics::index_of, unreadable_state},
    },
    raft::{self, NoView},
    storage::{self, archive},
    types::Consistency,
    wire::{Fault, Reason, admin::GetStateDigestResponse},
};

/// Frames of a backup that may wait for the caller.
const FRAMES_IN_FLIGHT: usize = 4;
/// How long a snapshot may take, or reaching an index.
const TIMEOUT: Duration = Duration::from_secs(30);

fn no_view(index: u64, why: &NoView) -> Fault {
    match why {
        NoView::Passed(applied) => {
            Fault::new(Reason::EtagMismatch, format!("this node is past index {index} already, at {applied} or beyond"))
                .next("ask for an index that no replica has reached yet")
        }
        NoView::Full => {
            Fault::new(Reason::Overloaded, "too many digests are being prepared").retry_after(Duration::from_secs(1))
        }
        NoView::Storage(error) => unreadable_state(error),
    }
}

impl Node {
    /// Takes a snapshot now and compacts the log. Returns the index that the snapshot covers.
    pub async fn trigger_snapshot(&self) -> Result<u64, Fault> {
        let replica = self.replica()?;
        let target = index_of(replica.leadership.metrics().last_applied.as_ref());
        replica.raft.trigger().snapshot().await.map_err(raft::stopped)?;
        let mut metrics = replica.raft.metrics();
        let taken = async {
            loop {
                let snapshot = index_of(metrics.borrow_watched().snapshot.as_ref());
                if snapshot >= target || metrics.changed().await.is_err() {
                    return snapshot;
                }
            }
        };
        tokio::time::timeout(TIMEOUT, taken)
            .await
            .map_err(|_| Fault::new(Reason::Timeout, "the snapshot was not taken in time").next("see this node's log"))
    }

    /// The digest of the whole state, at an index of at least `at_least`.
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

    /// The digest of the whole state right after the entry at `index`.
    ///
    /// The entry must be the last one applied, or still to come. Under load a replica passes any index at once, so ask
    /// for one that is a little ahead.
    pub async fn state_digest_at(&self, index: u64) -> Result<GetStateDigestResponse, Fault> {
        let replica = self.replica()?;
        let (views, slot, blocking) = (replica.views.clone(), replica.slot.clone(), self.settings().blocking);
        let asked = blocking.run(move || views.at(index, &slot)).await.map_err(|why| no_view(index, &why))?;
        let view = tokio::time::timeout(TIMEOUT, asked).await.map_err(|_| {
            Fault::new(Reason::Timeout, format!("this node did not reach index {index} in time"))
                .next("ask for a nearer index, or for a minimum instead of an exact one")
        })?;
        // The sender is dropped only when a snapshot skips the index.
        let view = view.map_err(|_| no_view(index, &NoView::Passed(index)))?;
        let digest = blocking.run(move || archive::digest(&view)).await.map_err(|error| unreadable_state(&error))?;
        let digest = Bytes::copy_from_slice(&digest);
        Ok(GetStateDigestResponse { node: replica.identity.name.clone(), index, digest })
    }

    /// The state as a checksummed archive, frame by frame. It holds everything that was acknowledged before the call.
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
        let (writer, index) = blocking.run(open).await.map_err(|error| unreadable_state(&error))?;
        tracing::info!(node = replica.identity.node_id, index, "backup begun");
        let (sender, receiver) = mpsc::channel(FRAMES_IN_FLIGHT);
        tokio::spawn(async move {
            let mut frames = pin!(raft::frames(writer, blocking));
            while let Some(frame) = frames.next().await {
                let item = frame.map(|frame| frame.data).map_err(|error| unreadable_state(&error));
                if sender.send(item).await.is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }
}
