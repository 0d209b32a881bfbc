//! The witness: it remembers, outside a redb file, the last commit that was durable in it.
//!
//! redb commits in one phase. A last commit whose pages do not match their checksums is taken for torn by a crash, and
//! is rolled back. But a bit that flips in those pages *after* the commit was synced looks the same, and an
//! acknowledged commit would vanish without an error (P7). So every commit has a number, and once it is durable the
//! number is written here, without a sync of its own. A file that comes back with a smaller number than its witness has
//! lost a durable commit, which is damage.
//!
//! ```text
//! bytes  0            8            16          20          24          28
//!        "QRTWITNS"   | number u64 | crc32 u32 | label u32 | crc32 u32 |      little-endian
//! ```
//!
//! The first CRC-32 covers the first 16 bytes. `label` is the CRC-32 of the log's label, and the last four bytes are its own
//! CRC-32: a witness of another log is recognised by it. A witness of a log without a label ends after 20 bytes.
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
/// The label's checksum and its own, behind the number.
const TAG_BYTES: usize = 8;

/// The open witness. It has one owner, the log's writer, which notes ascending numbers.
///
/// Invariant: `noted` is the number in the file, and is at most the number of the last durable commit.
#[derive(Debug)]
pub(super) struct Witness {
    disk: Disk,
    noted: u64,
    tag: Option<u32>,
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
            return Ok(Self { disk, noted: 0, tag: None });
        }
        let mut bytes = [0; BYTES];
        if length < BYTES as u64 {
            return Err(StorageError::damaged(disk.name(), "it is shorter than it was made"));
        }
        disk.read(0, &mut bytes).map_err(io)?;
        let noted = read(&bytes).ok_or_else(|| StorageError::damaged(disk.name(), "its checksum does not match"))?;
        let tag = read_tag(&disk, length)?;
        Ok(Self { disk, noted, tag })
    }

    /// Refuses a witness that belongs to a log with another label.
    pub(super) fn check_label(&self, name: &str, label: Option<&[u8]>) -> Result<()> {
        let expected = label.map(crc32fast::hash);
        // A tag without a label is left by a crash in `set_label`, which tags the witness first.
        if expected.is_none() || expected == self.tag {
            return Ok(());
        }
        Err(StorageError::foreign(self.disk.name(), format!("it is the witness of another log than {name}")))
    }

    /// Ties the witness to the log with this label, durably.
    pub(super) fn set_label(&mut self, label: &[u8]) -> Result<()> {
        let tag = crc32fast::hash(label);
        let io = |error| StorageError::io(self.disk.name(), error);
        if self.disk.len().map_err(io)? < (BYTES + TAG_BYTES) as u64 {
            self.disk.set_len((BYTES + TAG_BYTES) as u64).map_err(io)?;
        }
        let bytes = [tag.to_le_bytes(), crc32fast::hash(&tag.to_le_bytes()).to_le_bytes()].concat();
        self.disk.write(BYTES as u64, &bytes).map_err(io)?;
        self.disk.sync_data().map_err(io)?;
        self.tag = Some(tag);
        Ok(())
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

/// The tag; none if there is none yet, or if a crash left it torn.
fn read_tag(disk: &Disk, length: u64) -> Result<Option<u32>> {
    if length < (BYTES + TAG_BYTES) as u64 {
        return Ok(None);
    }
    let mut bytes = [0; TAG_BYTES];
    disk.read(BYTES as u64, &mut bytes).map_err(|error| StorageError::io(disk.name(), error))?;
    let (tag, crc) = bytes.split_at(4);
    Ok((crc32fast::hash(tag).to_le_bytes() == crc).then(|| u32::from_le_bytes([tag[0], tag[1], tag[2], tag[3]])))
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
