//! How redb is used: opening, formats, checksums, panics.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use super::{Disk, Result, StorageError};

/// Which kind of file it is, and the format of its content.
const FORMAT: TableDefinition<'_, &str, u32> = TableDefinition::new("format");

/// A redb database that knows its name.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    disk: Disk,
    db: Arc<Database>,
    /// The first error of the disk. redb answers `PreviousIo` from then on, which says nothing.
    failed: Arc<OnceLock<StorageError>>,
}

/// What a store expects of its file.
pub(super) struct Kind {
    /// The kind's name, as it stands in the file.
    pub name: &'static str,
    /// The newest format that this program reads, and the one it writes.
    pub format: u32,
    /// Bytes of pages that redb may cache.
    pub cache_bytes: usize,
}

impl Engine {
    /// Opens `disk`, or makes a new database on an empty one, and verifies the checksums of all its pages: a plain
    /// open of redb trusts a file that was closed cleanly. It takes about a second per GiB.
    pub(super) fn open(disk: Disk, kind: &Kind) -> Result<Self> {
        let (backend, name) = (disk.clone(), disk.name().to_owned());
        let db = guard(disk.name(), || {
            Builder::new()
                .set_cache_size(kind.cache_bytes)
                .set_check_integrity_on_open(true)
                .set_repair_callback(move |session| {
                    // redb reports 0.3 between finding the last commit torn and going back to the one before it.
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

    pub(super) fn db(&self) -> &Database {
        &self.db
    }

    pub(super) fn name(&self) -> &str {
        self.disk.name()
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.disk.size_bytes()
    }

    /// This file's error; the first one again, once the disk has failed.
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

    /// Runs what touches pages; a panic of redb becomes `Damaged`.
    pub(super) fn guard<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        guard(self.name(), f)
    }
}

/// redb may panic over a file that was altered behind its back; that is damage like any other. Nothing is used
/// afterwards that a panic could have left half done: the error stops the store.
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

/// Bytes by which a row as stored is longer than its value.
pub(super) const SEAL_BYTES: usize = 4;

/// The checksum of a row, over key and value: a value that strays under another key shows as well.
pub(super) fn seal(key: &[u8], value: &[u8]) -> [u8; SEAL_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}

/// The payload of a row as stored (`seal | value`), if its checksum is right.
pub(super) fn unseal<'a>(what: &str, key: &[u8], stored: &'a [u8]) -> Result<&'a [u8]> {
    match stored.split_first_chunk::<SEAL_BYTES>() {
        Some((sum, value)) if *sum == seal(key, value) => Ok(value),
        _ => Err(StorageError::damaged(what, format!("the row {} fails its checksum", hex(key)))),
    }
}

fn hex(key: &[u8]) -> String {
    key.iter().take(32).map(|byte| format!("{byte:02x}")).collect()
}
