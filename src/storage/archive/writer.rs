//! Writes the frames of an archive of one view.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{
    ARCHIVE_FRAME_BYTES, DATA, DATA_HEAD, FORMAT, HEAD, HEADER_BYTES, LENGTHS, MAGIC, TRAILER, TRAILER_BYTES,
    ZSTD_LEVEL, push_pair,
};
use crate::storage::{
    Result, StateView, StorageError,
    kv::{self, Read},
};

/// Makes the frames of an archive of one view, one at a time. Blocks: call it through
/// [`Blocking`](crate::storage::Blocking).
///
/// Invariant: the frames made so far hold exactly the pairs of the view below `next`, and `hasher`, `pairs` and
/// `raw_bytes` cover the same pairs.
///
/// It holds the view, and so the pages that the view needs, until it is dropped: do not keep it for long.
pub struct Writer {
    view: StateView,
    header: Option<Bytes>,
    /// Every key below this one is in a frame.
    next: Vec<u8>,
    hasher: blake3::Hasher,
    pairs: u64,
    raw_bytes: u64,
    finished: bool,
}

impl Writer {
    /// An archive of `view`. [`Loader::header`](super::Loader) returns `header`, whose content is up to the caller.
    pub fn new(view: StateView, header: Bytes) -> Result<Self> {
        if header.len() > HEADER_BYTES {
            let detail = format!("a header of {} bytes; the limit is {HEADER_BYTES}", header.len());
            return Err(StorageError::invalid("archive", detail));
        }
        let hasher = blake3::Hasher::new();
        Ok(Self { view, header: Some(header), next: Vec::new(), hasher, pairs: 0, raw_bytes: 0, finished: false })
    }

    /// The next frame; `None` after the trailer.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>> {
        if let Some(header) = self.header.take() {
            return Ok(Some(head(&header)));
        }
        if self.finished {
            return Ok(None);
        }
        let raw = self.gather()?;
        if raw.is_empty() {
            self.finished = true;
            return Ok(Some(self.trailer()));
        }
        self.hasher.update(&raw);
        self.raw_bytes += raw.len() as u64;
        data(&raw).map(Some)
    }

    /// Raw bytes of pairs put into frames so far.
    pub fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// The pairs of the next frame.
    fn gather(&mut self) -> Result<Vec<u8>> {
        let mut raw = Vec::with_capacity(ARCHIVE_FRAME_BYTES);
        let (mut last, mut pairs) = (Vec::new(), 0);
        self.view.scan(&self.next, kv::END, &mut |key, value| {
            if !raw.is_empty() && raw.len() + LENGTHS + key.len() + value.len() > ARCHIVE_FRAME_BYTES {
                return ControlFlow::Break(());
            }
            push_pair(&mut raw, key, value);
            last.clear();
            last.extend_from_slice(key);
            pairs += 1;
            ControlFlow::Continue(())
        })?;
        self.pairs += pairs;
        if pairs > 0 {
            // The least key above the last one.
            last.push(0);
            self.next = last;
        }
        Ok(raw)
    }

    fn trailer(&self) -> Bytes {
        let mut frame = Vec::with_capacity(TRAILER_BYTES);
        frame.push(TRAILER);
        frame.extend_from_slice(&self.pairs.to_le_bytes());
        frame.extend_from_slice(&self.raw_bytes.to_le_bytes());
        frame.extend_from_slice(self.hasher.finalize().as_bytes());
        sealed(frame)
    }
}

fn head(header: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(HEAD + header.len() + 4);
    frame.extend_from_slice(MAGIC);
    frame.extend_from_slice(&FORMAT.to_le_bytes());
    // Bounded by HEADER_BYTES.
    frame.extend_from_slice(&(header.len() as u32).to_le_bytes());
    frame.extend_from_slice(header);
    sealed(frame)
}

fn data(raw: &[u8]) -> Result<Bytes> {
    let stored = zstd::bulk::compress(raw, ZSTD_LEVEL).map_err(|e| StorageError::io("compressing", e))?;
    let mut frame = Vec::with_capacity(DATA_HEAD + stored.len() + 4);
    frame.push(DATA);
    // Both are bounded by RAW_BYTES and zstd's small overhead.
    frame.extend_from_slice(&(raw.len() as u32).to_le_bytes());
    frame.extend_from_slice(&(stored.len() as u32).to_le_bytes());
    frame.extend_from_slice(&stored);
    Ok(sealed(frame))
}

fn sealed(mut frame: Vec<u8>) -> Bytes {
    let crc = crc32fast::hash(&frame);
    frame.extend_from_slice(&crc.to_le_bytes());
    frame.into()
}
