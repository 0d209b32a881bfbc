//! Loads the frames of an archive into a new state file.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use super::{CRC, DATA, DATA_HEAD, FORMAT, HEAD, HEADER_BYTES, LENGTHS, MAGIC, RAW_BYTES, TRAILER, TRAILER_BYTES};
use crate::storage::{Disks, Durable, Open, Result, StateFile, StateView, StorageError, kv};

/// Frames between durable commits, which bounds the memory that redb needs for those that are not durable.
const FRAMES_PER_FLUSH: u64 = 4;

/// Loads an archive into a new file and verifies it: checksums, order, and at the end the hash of everything. Blocks:
/// call it through [`Blocking`](crate::storage::Blocking).
///
/// Invariants:
/// - The file holds the pairs of all frames verified so far, and nothing else. `hasher`, `pairs` and `raw_bytes` cover
///   the same pairs.
/// - `header` is set after the head frame, `digest` after the trailer. No frame may follow the trailer.
/// - Nobody reads the file before [`finish`](Self::finish) has verified the whole archive. Until it is installed,
///   dropping it removes it; a crash leaves it, and opening the slot removes it.
pub struct Loader {
    target: Target,
    file: StateFile,
    /// The beginning of a frame whose end has not been fed yet.
    pending: BytesMut,
    header: Option<Bytes>,
    last_key: Option<Vec<u8>>,
    hasher: blake3::Hasher,
    frames: u64,
    pairs: u64,
    raw_bytes: u64,
    digest: Option<[u8; 32]>,
}

/// A state file that is loaded, verified and durable, but not installed yet. Dropping it removes it.
pub struct Loaded {
    /// The header that the writer of the archive gave.
    pub header: Bytes,
    /// The hash of all pairs: [`digest`](super::digest) of the state.
    pub digest: [u8; 32],
    /// How many keys it holds.
    pub pairs: u64,
    file: StateFile,
    target: Target,
}

/// The name of the new file. Dropping it removes the file unless it was kept.
struct Target {
    disks: Arc<dyn Disks>,
    name: String,
    kept: bool,
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.kept {
            // If this fails, the next open of the slot removes the file.
            let _ = self.disks.remove(&self.name);
        }
    }
}

impl Loader {
    pub(in crate::storage) fn new(disks: Arc<dyn Disks>, name: String, label: Option<&[u8]>) -> Result<Self> {
        let file = StateFile::open(disks.open(&name, Open::Fresh)?)?;
        if let Some(label) = label {
            file.set_label(label)?;
        }
        Ok(Self {
            target: Target { disks, name, kept: false },
            file,
            pending: BytesMut::new(),
            header: None,
            last_key: None,
            hasher: blake3::Hasher::new(),
            frames: 0,
            pairs: 0,
            raw_bytes: 0,
            digest: None,
        })
    }

    /// The archive's header, once it has been read.
    pub fn header(&self) -> Option<&Bytes> {
        self.header.as_ref()
    }

    /// Raw bytes of pairs loaded so far.
    pub fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// Takes the next bytes of the archive, cut anywhere. After an error, drop the loader.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        self.pending.extend_from_slice(bytes);
        while let Some(length) = self.frame_length()? {
            if self.pending.len() < length {
                return Ok(());
            }
            let frame = self.pending.split_to(length).freeze();
            self.frame(frame)?;
        }
        Ok(())
    }

    /// Verifies that the archive is complete, and makes the new file durable.
    pub fn finish(self) -> Result<Loaded> {
        let (Some(digest), Some(header)) = (self.digest, self.header) else {
            return Err(damaged("it ends too early"));
        };
        self.file.flush()?;
        Ok(Loaded { header, digest, pairs: self.pairs, file: self.file, target: self.target })
    }

    /// The length of the frame that `pending` begins with; `None` while too little of it is there to tell. The length
    /// is checked against its limit before anything is allocated for it.
    fn frame_length(&self) -> Result<Option<usize>> {
        let pending = &self.pending[..];
        if pending.is_empty() {
            return Ok(None);
        }
        if self.digest.is_some() {
            return Err(damaged("something follows its end"));
        }
        if self.header.is_none() {
            let Some(mut head) = pending.get(..HEAD) else { return Ok(None) };
            if head.copy_to_bytes(MAGIC.len()) != MAGIC[..] {
                return Err(damaged("it does not begin like an archive of this program"));
            }
            let format = head.get_u32_le();
            if format > FORMAT {
                return Err(StorageError::TooNew { what: "archive".into(), found: format, known: FORMAT });
            }
            return bounded(head.get_u32_le(), HEADER_BYTES).map(|length| Some(HEAD + length + CRC));
        }
        match pending[0] {
            TRAILER => Ok(Some(TRAILER_BYTES)),
            DATA => {
                let Some(mut head) = pending.get(1..DATA_HEAD) else { return Ok(None) };
                bounded(head.get_u32_le(), RAW_BYTES)?;
                let stored = bounded(head.get_u32_le(), zstd::zstd_safe::compress_bound(RAW_BYTES))?;
                Ok(Some(DATA_HEAD + stored + CRC))
            }
            kind => Err(damaged(format!("it has a frame of the unknown kind {kind}"))),
        }
    }

    /// Checks one whole frame and takes in its content.
    fn frame(&mut self, frame: Bytes) -> Result<()> {
        let (body, crc) = frame.split_at(frame.len() - CRC);
        if crc32fast::hash(body).to_le_bytes() != crc {
            return Err(damaged(format!("the checksum of frame {} does not match", self.frames)));
        }
        self.frames += 1;
        if self.header.is_none() {
            self.header = Some(frame.slice(HEAD..frame.len() - CRC));
            return Ok(());
        }
        let mut fields = &body[1..];
        if body[0] == TRAILER {
            return self.trailer(fields);
        }
        let raw_length = fields.get_u32_le() as usize;
        let raw = zstd::bulk::decompress(&body[DATA_HEAD..], raw_length)
            .map_err(|e| damaged(format!("frame {} does not decompress: {e}", self.frames)))?;
        if raw.len() != raw_length {
            return Err(damaged(format!("frame {} has another length than it says", self.frames)));
        }
        self.load(&raw)
    }

    /// Writes the pairs of one frame to the file.
    fn load(&mut self, raw: &[u8]) -> Result<()> {
        let durable = if self.frames.is_multiple_of(FRAMES_PER_FLUSH) { Durable::Yes } else { Durable::No };
        let mut pairs = Pairs { rest: raw, last: self.last_key.as_deref(), count: 0 };
        self.file.load(&mut pairs, durable)?;
        let last = pairs.last.map(<[u8]>::to_vec);
        self.pairs += pairs.count;
        self.last_key = last;
        self.hasher.update(raw);
        self.raw_bytes += raw.len() as u64;
        Ok(())
    }

    /// Compares the trailer with everything loaded.
    fn trailer(&mut self, mut fields: &[u8]) -> Result<()> {
        let (pairs, raw_bytes) = (fields.get_u64_le(), fields.get_u64_le());
        if (pairs, raw_bytes) != (self.pairs, self.raw_bytes) {
            return Err(damaged(format!("it holds {} pairs, its end says {pairs}", self.pairs)));
        }
        let digest = *self.hasher.finalize().as_bytes();
        if digest != fields {
            return Err(damaged("its hash does not match"));
        }
        self.digest = Some(digest);
        Ok(())
    }
}

impl Loaded {
    /// A view of what was loaded.
    pub fn view(&self) -> Result<StateView> {
        self.file.view()
    }

    /// Renames the file over `name` and keeps it.
    pub(in crate::storage) fn rename_to(mut self, name: &str) -> Result<StateFile> {
        self.target.disks.rename(&self.target.name, name)?;
        self.target.kept = true;
        Ok(self.file)
    }
}

/// The pairs of one frame. An error if keys do not ascend, counted from the last key of the frame before.
struct Pairs<'a> {
    rest: &'a [u8],
    last: Option<&'a [u8]>,
    count: u64,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.rest.is_empty()).then(|| self.pair())
    }
}

impl<'a> Pairs<'a> {
    fn pair(&mut self) -> Result<(&'a [u8], &'a [u8])> {
        let short = || damaged("a pair is longer than its frame");
        let (mut lengths, rest) = self.rest.split_at_checked(LENGTHS).ok_or_else(short)?;
        let (key, rest) = rest.split_at_checked(lengths.get_u32_le() as usize).ok_or_else(short)?;
        let (value, rest) = rest.split_at_checked(lengths.get_u32_le() as usize).ok_or_else(short)?;
        if self.last.is_some_and(|last| last >= key) || key >= kv::END {
            return Err(damaged("its keys are out of order"));
        }
        self.rest = rest;
        self.last = Some(key);
        self.count += 1;
        Ok((key, value))
    }
}

/// A length that a frame announces, if it is within `limit`.
fn bounded(length: u32, limit: usize) -> Result<usize> {
    match length as usize {
        length if length <= limit => Ok(length),
        length => Err(damaged(format!("a frame claims {length} bytes; the limit is {limit}"))),
    }
}

fn damaged(detail: impl std::fmt::Display) -> StorageError {
    StorageError::damaged("archive", detail)
}
