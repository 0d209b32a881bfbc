//! The witness: it remembers, outside a redb file, the last commit that was durable in it.
//!
//! redb commits in one phase. A last commit whose pages do not match their checksums is taken for torn by a crash, and
//! is rolled back. But a bit that flips in those pages *after* the commit was synced looks the same, and an
//! acknowledged commit would vanish without an error (P7). So every commit has a number, and once it is durable the
//! number is written here, without a sync of its own. A file that comes back with a smaller number than its witness has
//! lost a durable commit, which is damage.
//!
//! ```text
//! bytes  0            8            16          20
//!        "QRTWITNS"   | number u64 | crc32 u32 |      little-endian; the CRC-32 covers the first 16 bytes
//! ```
//!
//! | the crash comes | after it |
//! |---|---|
//! | before the commit is durable | number and commit are the old ones |
//! | between the commit and the write here | the witness lags behind: it proves less, and refuses nothing |
//! | a power cut after the write | the write may be lost, as it is not synced: the witness lags behind |
//!
//! The witness is never ahead, because it is written after the commit was synced. Two-phase commits would prove more,
//! but cost a second sync for every commit.

use redb::StorageBackend;

use super::{Disk, Result, StorageError};

const MAGIC: &[u8; 8] = b"QRTWITNS";
/// Magic, number, checksum. They lie in one sector, so a torn write leaves the old bytes or the new ones.
const BYTES: usize = 20;

/// The open witness. It has one owner, the log's writer, which notes ascending numbers.
///
/// Invariant: `noted` is the number in the file, and is at most the number of the last durable commit.
#[derive(Debug)]
pub(super) struct Witness {
    disk: Disk,
    noted: u64,
}

impl Witness {
    /// Opens the witness, or creates one on an empty disk.
    pub(super) fn open(disk: Disk) -> Result<Self> {
        let io = |error| StorageError::io(disk.name(), error);
        let length = disk.len().map_err(io)?;
        if length == 0 {
            disk.set_len(BYTES as u64).map_err(io)?;
            disk.write(0, &content(0)).map_err(io)?;
            disk.sync_data().map_err(io)?;
            return Ok(Self { disk, noted: 0 });
        }
        let mut bytes = [0; BYTES];
        if length < BYTES as u64 {
            return Err(StorageError::damaged(disk.name(), "it is shorter than it was made"));
        }
        disk.read(0, &mut bytes).map_err(io)?;
        let noted = read(&bytes).ok_or_else(|| StorageError::damaged(disk.name(), "its checksum does not match"))?;
        Ok(Self { disk, noted })
    }

    /// Compares `found`, the last commit in the file `name`, with the last one known to be durable.
    pub(super) fn check(&self, name: &str, found: u64) -> Result<()> {
        if found >= self.noted {
            return Ok(());
        }
        let detail = format!("it ends at commit {found}, though commit {} had been made durable", self.noted);
        Err(StorageError::damaged(name, detail))
    }

    /// Notes that commit `number` is durable.
    pub(super) fn note(&mut self, number: u64) -> Result<()> {
        self.disk.write(0, &content(number)).map_err(|error| StorageError::io(self.disk.name(), error))?;
        self.noted = number;
        Ok(())
    }
}

fn content(number: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..16]);
    bytes[16..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn read(bytes: &[u8; BYTES]) -> Option<u64> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let (magic, number) = body.split_first_chunk::<8>()?;
    let sound = magic == MAGIC && crc32fast::hash(body) == u32::from_le_bytes(*crc);
    number.try_into().ok().map(u64::from_le_bytes).filter(|_| sound)
}
