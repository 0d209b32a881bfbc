//! The one format of snapshot, backup and digest.
//!
//! An archive is a run of frames, little-endian:
//!
//! ```text
//! head     "QRTARCHV" | format u32 | length u32 | header bytes (the caller's own)          | crc32
//! data     1 u8 | raw length u32 | stored length u32 | zstd of pairs, in key order          | crc32   (any number)
//! trailer  2 u8 | pairs u64 | raw bytes u64 | BLAKE3 of all pairs (32)                      | crc32
//! pair     key length u32 | value length u32 | key | value
//! ```
//!
//! Each checksum covers its frame from the first byte. The BLAKE3 hash is over the pairs as in the frames, without
//! regard to where one frame ends and the next begins: it is the digest of the state, the same on every replica (P8).
//! Frames hold up to [`ARCHIVE_FRAME_BYTES`] of pairs, or one larger pair, so that both sides need little memory.

mod loader;
mod writer;

pub use loader::{Loaded, Loader};
pub use writer::Writer;

use std::ops::ControlFlow;

use super::{PAIR_BYTES, Result, kv};
use crate::types::limits::ARCHIVE_FRAME_BYTES;

const MAGIC: &[u8; 8] = b"QRTARCHV";
const FORMAT: u32 = 1;
/// Bytes of the caller's header, at most.
pub const HEADER_BYTES: usize = 1024 * 1024;
/// First byte of a data frame.
const DATA: u8 = 1;
/// First byte of the trailer.
const TRAILER: u8 = 2;
/// Bytes before a head's header, before a data frame's pairs, and of the whole trailer; a checksum's.
const HEAD: usize = 16;
const DATA_HEAD: usize = 9;
const TRAILER_BYTES: usize = 49 + CRC;
const CRC: usize = 4;
/// Bytes of the two lengths before each pair.
const LENGTHS: usize = 8;
/// Raw bytes in a data frame, at most.
const RAW_BYTES: usize =
    if ARCHIVE_FRAME_BYTES > PAIR_BYTES + LENGTHS { ARCHIVE_FRAME_BYTES } else { PAIR_BYTES + LENGTHS };
/// Light enough to keep up with a disk, and half the size for text.
const ZSTD_LEVEL: i32 = 1;

fn push_pair(raw: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    raw.extend_from_slice(&lengths(key, value));
    raw.extend_from_slice(key);
    raw.extend_from_slice(value);
}

fn lengths(key: &[u8], value: &[u8]) -> [u8; LENGTHS] {
    let mut bytes = [0; LENGTHS];
    // A pair is at most PAIR_BYTES long: `put` and the loader hold that.
    bytes[..4].copy_from_slice(&(key.len() as u32).to_le_bytes());
    bytes[4..].copy_from_slice(&(value.len() as u32).to_le_bytes());
    bytes
}

/// The hash of all pairs of a view: equal to that in the trailer of an archive of it. Reads everything.
pub fn digest(view: &dyn kv::Read) -> Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    view.scan(b"", kv::END, &mut |key, value| {
        hasher.update(&lengths(key, value));
        hasher.update(key);
        hasher.update(value);
        ControlFlow::Continue(())
    })?;
    Ok(*hasher.finalize().as_bytes())
}
