//! Snapshots as openraft hands them around, and how one is read as an archive.

use bytes::Bytes;
use futures::{Stream, stream};

use crate::storage::{Blocking, Result, StateSlot, StateView, archive};

/// A snapshot on its way.
pub enum SnapshotData {
    /// Ours, to be read and sent.
    View(StateView),
    /// Received, verified and synced: a state file waiting to replace ours.
    Received(archive::Loaded),
}

impl SnapshotData {
    /// The snapshot as a verified state file for `slot`. Blocks.
    pub(super) fn load(self, slot: &StateSlot) -> Result<archive::Loaded> {
        match self {
            Self::Received(loaded) => Ok(loaded),
            // Only tests install a view. It is copied through an archive that never leaves the process.
            Self::View(view) => {
                let mut writer = archive::Writer::new(view, Bytes::new())?;
                let mut loader = slot.loader()?;
                while let Some(frame) = writer.next_frame()? {
                    loader.feed(&frame)?;
                }
                loader.finish()
            }
        }
    }
}

/// One frame of an archive.
pub struct Frame {
    /// The bytes to send.
    pub data: Bytes,
    /// How many raw bytes of state the archive holds up to the end of this frame.
    pub raw_bytes: u64,
}

/// Reads an archive frame by frame, off the async runtime, each when it is asked for. The stream ends after an error.
pub fn frames(writer: archive::Writer, blocking: Blocking) -> impl Stream<Item = Result<Frame>> + Send {
    stream::try_unfold(writer, move |mut writer| {
        blocking.run(move || {
            let frame = writer.next_frame()?;
            let raw_bytes = writer.raw_bytes();
            Ok(frame.map(|data| (Frame { data, raw_bytes }, writer)))
        })
    })
}
