//! How the stores use redb: opening, formats, checksums, panics.
//!
//! A row as stored is `crc32 (4 bytes, little-endian) | value`. The CRC-32 covers key and value.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use super::{Disk, Result, StorageError};

/// One row: the kind of file, and the format number of its content.
const FORMAT: TableDefinition<'_, &str, u32> = TableDefinition::new("format");
/// One row: what the owner of the file wrote on it. Not part of its content: no snapshot and no digest holds it.
const LABEL: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("label");
const OWNER: &str = "owner";

/// A redb database, its name in messages, and its first error. Cheap to clone.
///
/// Invariant: `failed`, once set, stays as it is, and every later IO error of this file is a copy of it.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    disk: Disk,
    db: Arc<Database>,
    /// The first disk error. redb returns `PreviousIo` from then on, which does not say why.
    failed: Arc<OnceLock<StorageError>>,
}

/// The kind of file that a store expects.
pub(super) struct Kind {
    /// The kind's name, as it stands in the file.
    pub name: &'static str,
    /// The newest format that this program reads, and the one it writes.
    pub format: u32,
    /// Bytes of pages that redb may cache.
    pub cache_bytes: usize,
}

impl Engine {
    /// Opens `disk`, or creates a database on an empty one, and verifies the checksums of all its pages. A plain open
    /// of redb would trust a file that was closed cleanly. Takes about a second per GiB.
    pub(super) fn open(disk: Disk, kind: &Kind) -> Result<Self> {
        let (backend, name) = (disk.clone(), disk.name().to_owned());
        let db = guard(disk.name(), || {
            Builder::new()
                .set_cache_size(kind.cache_bytes)
                .set_check_integrity_on_open(true)
                .set_repair_callback(move |session| {
                    // redb reports progress 0.3 when it has found the last commit torn and goes back to the one before.
                    if (0.2..0.5).contains(&session.progress()) {
                        tracing::warn!(file = name, "rolled back the last commit, which a crash left unfinished");
                    }
                })
                .create_with_backend(backend)
                .map_err(|e| StorageError::engine(disk.name(), e.into()))
        })?;
        let engine = Self { disk: disk.clone(), db: Arc::new(db), failed: Arc::default() };
        guard(disk.name(), || engine.check_format(kind))?;
        Ok(engine)
    }

    /// Writes the format of a new file; refuses a file of another kind or of a newer format.
    fn check_format(&self, kind: &Kind) -> Result<()> {
        let read = self.db.begin_read().map_err(|e| self.err(e))?;
        let found = match read.open_table(FORMAT) {
            Ok(table) => table.first().map_err(|e| self.err(e))?.map(|(k, v)| (k.value().to_owned(), v.value())),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(e) => return Err(self.err(e)),
        };
        match found {
            None => {
                let write = self.db.begin_write().map_err(|e| self.err(e))?;
                write
                    .open_table(FORMAT)
                    .map_err(|e| self.err(e))?
                    .insert(kind.name, kind.format)
                    .map_err(|e| self.err(e))?;
                write.commit().map_err(|e| self.err(e))
            }
            Some((name, _)) if name != kind.name => {
                Err(StorageError::damaged(self.name(), format!("it holds a {name}, not a {}", kind.name)))
            }
            Some((_, found)) if found > kind.format => {
                Err(StorageError::TooNew { what: self.name().into(), found, known: kind.format })
            }
            Some(_) => Ok(()),
        }
    }

    /// The label of the file; none if none was written.
    pub(super) fn label(&self) -> Result<Option<Bytes>> {
        self.guard(|| {
            let read = self.db.begin_read().map_err(|e| self.err(e))?;
            let table = match read.open_table(LABEL) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(e) => return Err(self.err(e)),
            };
            let Some(stored) = table.get(OWNER).map_err(|e| self.err(e))? else { return Ok(None) };
            unseal(self.name(), OWNER.as_bytes(), stored.value()).map(Bytes::copy_from_slice).map(Some)
        })
    }

    /// Writes the label, durably. The caller excludes other writers.
    pub(super) fn set_label(&self, label: &[u8]) -> Result<()> {
        self.guard(|| {
            let write = self.db.begin_write().map_err(|e| self.err(e))?;
            let stored = [seal(OWNER.as_bytes(), label).as_slice(), label].concat();
            write
                .open_table(LABEL)
                .map_err(|e| self.err(e))?
                .insert(OWNER, stored.as_slice())
                .map_err(|e| self.err(e))?;
            write.commit().map_err(|e| self.err(e))
        })
    }

    pub(super) fn db(&self) -> &Database {
        &self.db
    }

    pub(super) fn name(&self) -> &str {
        self.disk.name()
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.disk.size_bytes()
    }

    /// Converts an error of redb. Once the disk has failed, returns the first error again.
    pub(super) fn err(&self, error: impl Into<redb::Error>) -> StorageError {
        let error = error.into();
        let again = matches!(error, redb::Error::PreviousIo);
        let error = StorageError::engine(self.name(), error);
        match error {
            StorageError::Io { .. } if again => self.failed.get().cloned().unwrap_or(error),
            StorageError::Io { .. } | StorageError::DiskFull { .. } => self.failed.get_or_init(|| error).clone(),
            other => other,
        }
    }

    /// Runs code that touches pages. A panic of redb becomes `Damaged`.
    pub(super) fn guard<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        guard(self.name(), f)
    }
}

/// redb may panic over a file that was altered behind its back. That is damage like any other. The error stops the
/// store, so nothing that the panic left half done is used afterwards.
fn guard<T>(what: &str, f: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let detail = panic
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "the storage engine panicked".to_owned());
        Err(StorageError::damaged(what, detail))
    })
}

/// Bytes of the checksum before a stored value.
pub(super) const SEAL_BYTES: usize = 4;

/// The checksum of a row. It covers the key too, so a value that ends up under another key is found.
pub(super) fn seal(key: &[u8], value: &[u8]) -> [u8; SEAL_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}

/// The value of a stored row, if its checksum matches.
pub(super) fn unseal<'a>(what: &str, key: &[u8], stored: &'a [u8]) -> Result<&'a [u8]> {
    match stored.split_first_chunk::<SEAL_BYTES>() {
        Some((sum, value)) if *sum == seal(key, value) => Ok(value),
        _ => Err(StorageError::damaged(what, format!("the row {} fails its checksum", hex(key)))),
    }
}

fn hex(key: &[u8]) -> String {
    key.iter().take(32).map(|byte| format!("{byte:02x}")).collect()
}
