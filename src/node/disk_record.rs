//! The record `disk`: what tells the files of this directory from a copy of them, and whether the disk is trusted.
//!
//! A copy of a directory cannot keep the birth times of its files, and a restored directory is a copy. So a node that finds
//! other marks than at its last start may have forgotten what it promised since the copy was made. `docs/adr/0050` says
//! what becomes of it.
//!
//! Only the log is looked at: it holds votes and acknowledged entries. The state is replaced by every snapshot, and is
//! derived from the log.

use super::{Identity, Settings};
use crate::{
    storage::{DataDir, FileMark, Result, StorageError},
    wire::store::{self, DiskRecord},
};

/// The record's file name.
pub const FILE: &str = "disk";
/// The file name of the log.
pub const LOG: &str = "log.redb";
const WITNESS: &str = "log.redb.witness";

/// What a start found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Start {
    /// The number of this start.
    pub number: u64,
    /// The start at which the others last vouched for the disk; 0: never.
    pub recovered: u64,
    /// Why the disk is not trusted.
    pub suspicion: Option<String>,
    /// An operator has taken the responsibility.
    pub trusted_by_operator: bool,
}

/// Begins the record of a directory that has just been made, or taken over from an older program.
pub fn create(dir: &DataDir, identity: &Identity) -> Result<()> {
    let record =
        DiskRecord { directory_id: identity.directory_id.clone(), files: marks(dir)?, ..DiskRecord::default() };
    dir.write_record(FILE, &record)
}

/// Compares the directory with its record, and writes this start down.
pub fn begin(dir: &DataDir, settings: &Settings, identity: &Identity) -> Result<Start> {
    let found: Option<DiskRecord> = dir.read_record(FILE)?;
    let files = marks(dir)?;
    let suspicion = suspicion(dir, found.as_ref(), identity, &files)?;
    let mut record = DiskRecord { directory_id: identity.directory_id.clone(), ..found.unwrap_or_default() };
    record.starts += 1;
    record.files = files;
    record.suspicion = suspicion.unwrap_or_default();
    let trusted_by_operator = settings.trust_this_disk;
    if trusted_by_operator {
        // Whatever the others remember of earlier starts counts no more.
        record.recovered = record.starts;
        (record.trusted_time_ms, record.trusted_epoch) = (settings.clock.now_ms(), identity.epoch);
        let why = std::mem::take(&mut record.suspicion);
        tracing::warn!(
            epoch = identity.epoch,
            why,
            "trusting this disk by the word of an operator (--trust-this-disk): what it may have forgotten is lost"
        );
    }
    dir.write_record(FILE, &record)?;
    let suspicion = Some(record.suspicion).filter(|why| !why.is_empty());
    Ok(Start { number: record.starts, recovered: record.recovered, suspicion, trusted_by_operator })
}

/// Writes down why the disk is not trusted, or that it is (`None`).
pub fn update(dir: &DataDir, start: u64, recovered: u64, suspicion: Option<&str>) -> Result<()> {
    let known: DiskRecord = dir.read_record(FILE)?.unwrap_or_default();
    let suspicion = suspicion.unwrap_or_default().to_owned();
    let record = DiskRecord { starts: start, recovered, suspicion, ..known };
    dir.write_record(FILE, &record)
}

fn marks(dir: &DataDir) -> Result<Vec<store::FileMark>> {
    let mark = |name: &str| {
        let FileMark { inode, birth_ns } = dir.disks().mark(name)?;
        Ok(store::FileMark { name: name.to_owned(), inode, birth_ns })
    };
    [LOG, WITNESS].into_iter().map(mark).collect()
}

fn suspicion(
    dir: &DataDir,
    found: Option<&DiskRecord>,
    identity: &Identity,
    files: &[store::FileMark],
) -> Result<Option<String>> {
    let Some(record) = found else { return Ok(Some("its record `disk` is missing".to_owned())) };
    if record.directory_id != identity.directory_id {
        let file = dir.path(FILE).display().to_string();
        return Err(StorageError::foreign(file, format!("it is from another data directory than {}'s", identity.name)));
    }
    if !record.suspicion.is_empty() {
        return Ok(Some(record.suspicion.clone()));
    }
    let mark = |file: &store::FileMark| FileMark { inode: file.inode, birth_ns: file.birth_ns };
    let replaced = files
        .iter()
        .find(|file| record.files.iter().any(|before| before.name == file.name && !mark(before).may_be(mark(file))));
    Ok(replaced
        .map(|file| format!("it was copied, moved or restored ({} is another file than at the last start)", file.name)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        config::NodeConfig,
        storage::{
            Open,
            testing::{GoBack, SimDisks},
        },
    };

    /// A directory that has just been made.
    fn made() -> (SimDisks, DataDir) {
        let disks = SimDisks::new(1);
        let dir = DataDir::on(Arc::new(disks.clone()));
        for file in [LOG, WITNESS] {
            dir.disk(file, Open::Fresh).unwrap();
        }
        create(&dir, &Identity::default()).unwrap();
        (disks, dir)
    }

    fn start(dir: &DataDir, trust_this_disk: bool) -> Start {
        let settings = Settings { trust_this_disk, ..Settings::production(NodeConfig::defaults("d")) };
        begin(dir, &settings, &Identity::default()).unwrap()
    }

    #[test]
    fn a_nodes_own_disk_is_trusted_and_a_copy_of_it_is_not_until_it_is_cleared() {
        let (disks, dir) = made();
        assert_eq!(start(&dir, false), Start { number: 1, ..Start::default() });
        let image = disks.image();
        assert_eq!(start(&dir, false), Start { number: 2, ..Start::default() });
        disks.go_back(&image, GoBack::Copy);
        for number in 2..4 {
            let start = start(&dir, false);
            assert_eq!(start.number, number);
            assert!(start.suspicion.is_some_and(|why| why.contains("log.redb")), "it lasts beyond a restart");
        }
        update(&dir, 9, 9, None).unwrap();
        assert_eq!(start(&dir, false), Start { number: 10, recovered: 9, ..Start::default() });
    }

    #[test]
    fn an_operator_may_trust_a_copy() {
        let (disks, dir) = made();
        disks.go_back(&disks.image(), GoBack::Copy);
        let trusted = Start { number: 1, recovered: 1, suspicion: None, trusted_by_operator: true };
        assert_eq!(start(&dir, true), trusted);
        assert_eq!(start(&dir, false).suspicion, None, "for good");
    }

    #[test]
    fn a_record_that_is_missing_or_of_another_directory_is_noticed() {
        let (disks, dir) = made();
        let other = Identity { directory_id: bytes::Bytes::from_static(b"other"), ..Identity::default() };
        let settings = Settings::production(NodeConfig::defaults("d"));
        assert!(matches!(begin(&dir, &settings, &other), Err(StorageError::Foreign { .. })));
        crate::storage::Disks::remove(&disks, FILE).unwrap();
        assert!(start(&dir, false).suspicion.is_some_and(|why| why.contains("missing")));
    }

    #[test]
    fn a_device_that_was_reset_repeats_the_number_of_a_start() {
        let (disks, dir) = made();
        let image = disks.image();
        assert_eq!(start(&dir, false).number, 1);
        disks.go_back(&image, GoBack::Device);
        assert_eq!(start(&dir, false), Start { number: 1, ..Start::default() }, "which the peers know");
    }
}
