//! A small record in its own file: one protobuf message, framed so that damage is found.
//!
//! ```text
//! bytes  0         8            12           16         16 + length
//!        "QRTRECRD" | format u32 | length u32 | payload  | crc32 u32
//! ```
//!
//! Numbers are little-endian. The CRC-32 covers everything before it. A file that is longer than [`BYTES`] is damaged.

use super::{Result, StorageError};

const MAGIC: &[u8; 8] = b"QRTRECRD";
const FORMAT: u32 = 1;
/// Bytes before the payload.
const HEAD: usize = 16;
/// The most bytes in a record file.
pub(super) const BYTES: usize = 1024 * 1024;

/// The bytes of the file for `message`.
pub(super) fn encode<M: prost::Message>(message: &M) -> Vec<u8> {
    let payload = message.encode_to_vec();
    let length = u32::try_from(payload.len()).expect("a record is a few hundred bytes");
    let mut bytes = Vec::with_capacity(HEAD + payload.len() + 4);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&payload);
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads the message from the bytes of a file; `what` names the file in errors.
pub(super) fn decode<M: prost::Message + Default>(what: &str, bytes: &[u8]) -> Result<M> {
    let damaged = |detail: &str| StorageError::damaged(what, detail);
    if bytes.len() > BYTES {
        return Err(damaged("it is longer than any record"));
    }
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| damaged("it ends too early"))?;
    let (magic, rest) = body.split_first_chunk::<8>().ok_or_else(|| damaged("it ends too early"))?;
    if magic != MAGIC {
        return Err(damaged("it is not a record of this program"));
    }
    let (format, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it ends too early"))?;
    let (length, payload) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it ends too early"))?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Err(damaged("its checksum does not match"));
    }
    let found = u32::from_le_bytes(*format);
    if found > FORMAT {
        return Err(StorageError::TooNew { what: what.into(), found, known: FORMAT });
    }
    if u32::from_le_bytes(*length) as usize != payload.len() {
        return Err(damaged("its length does not match"));
    }
    M::decode(payload).map_err(|e| StorageError::damaged(what, e))
}
