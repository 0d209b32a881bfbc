//! Archives: the one format for snapshots and backups, and the digest of a state.
//!
//! An archive is a sequence of frames. Numbers are little-endian, sizes in bytes:
//!
//! ```text
//! head     "QRTARCHV" | format u32 | length u32 | header bytes (the caller's own)          | crc32
//! data     1 u8 | raw length u32 | stored length u32 | zstd of pairs, in key order          | crc32   (any number)
//! trailer  2 u8 | pairs u64 | raw bytes u64 | BLAKE3 of all pairs (32)                      | crc32
//! pair     key length u32 | value length u32 | key | value
//! ```
//!
//! - Each CRC-32 covers its frame from the first byte.
//! - The BLAKE3 hash covers the pairs as in the frames, regardless of where frames end. It is the digest of the state
//!   and the same on every replica (P8).
//! - Keys are in strictly ascending order over all frames.
//! - A frame holds up to [`ARCHIVE_FRAME_BYTES`] of pairs, or one larger pair, so that both sides need little memory.
//! - Nothing may follow the trailer, and an archive without one is damaged: a stream that was cut off is found.

mod loader;
mod writer;

pub use loader::{Loaded, Loader};
pub use writer::Writer;

use std::ops::ControlFlow;

use super::{PAIR_BYTES, Result, kv};
use crate::types::limits::ARCHIVE_FRAME_BYTES;

const MAGIC: &[u8; 8] = b"QRTARCHV";
const FORMAT: u32 = 1;
/// The most bytes in the caller's header.
pub const HEADER_BYTES: usize = 1024 * 1024;
/// First byte of a data frame.
const DATA: u8 = 1;
/// First byte of the trailer.
const TRAILER: u8 = 2;
/// Bytes before the header in the head frame.
const HEAD: usize = 16;
/// Bytes before the pairs in a data frame.
const DATA_HEAD: usize = 9;
/// Bytes in the whole trailer.
const TRAILER_BYTES: usize = 49 + CRC;
/// Bytes in a checksum.
const CRC: usize = 4;
/// Bytes of the two lengths before each pair.
const LENGTHS: usize = 8;
/// The most raw bytes in a data frame.
const RAW_BYTES: usize =
    if ARCHIVE_FRAME_BYTES > PAIR_BYTES + LENGTHS { ARCHIVE_FRAME_BYTES } else { PAIR_BYTES + LENGTHS };
/// Fast enough to keep up with a disk, and halves the size of text.
const ZSTD_LEVEL: i32 = 1;

fn push_pair(raw: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    raw.extend_from_slice(&lengths(key, value));
    raw.extend_from_slice(key);
    raw.extend_from_slice(value);
}

fn lengths(key: &[u8], value: &[u8]) -> [u8; LENGTHS] {
    let mut bytes = [0; LENGTHS];
    // A pair is at most PAIR_BYTES long: `put` and the loader enforce it.
    bytes[..4].copy_from_slice(&(key.len() as u32).to_le_bytes());
    bytes[4..].copy_from_slice(&(value.len() as u32).to_le_bytes());
    bytes
}

/// The digest of a view: the hash in the trailer of its archive. Reads everything.
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
