//! The log in its redb file. Every transaction here is durable.
//!
//! | table | key | value |
//! |---|---|---|
//! | `records` | index, u64 | `crc32 (4 bytes, little-endian) \| record` |
//! | `values` | name, text | `crc32 (4 bytes, little-endian) \| value` |
//!
//! Each checksum covers key and value. Two of the named values belong to the log itself, and their leading dot keeps
//! them apart from callers' names. Both are u64, little-endian:
//!
//! - `.purged`: the highest purged index. Rows up to it may still be in `records`.
//! - `.commit`: counts the transactions, for the [`Witness`].

use std::{
    collections::BTreeMap,
    ops::{ControlFlow, Range},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use redb::{
    AccessGuard, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition,
};

use super::{
    Disk, Result, StorageError,
    engine::{Engine, Kind, SEAL_BYTES, seal, unseal},
    witness::Witness,
};
use crate::fault_injection::{self, Bug};

const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
const VALUES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");
const KIND: Kind = Kind { name: "log", format: 1, cache_bytes: 8 * 1024 * 1024 };
const PURGED: &str = ".purged";
const COMMIT: &str = ".commit";
/// The most purged rows that one transaction removes.
const PURGE_ROWS: usize = 2_048;

/// The open file. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct LogTable {
    engine: Engine,
    commits: Arc<Mutex<Commits>>,
}

/// The number of the last transaction, and the witness that remembers it.
///
/// Invariant: the witness's number is at most that of the last durable transaction. Both are changed under one lock, by
/// the only writer, after the transaction has committed.
#[derive(Debug)]
struct Commits {
    last: u64,
    witness: Option<Witness>,
}

/// One step of a transaction.
pub(super) enum Operation {
    /// Adds records, by ascending index.
    Append(Vec<(u64, Bytes)>),
    /// Sets a named value.
    Set(&'static str, Bytes),
    /// Removes every record from this index on.
    TruncateFrom(u64),
    /// Marks every record up to and including this index as purged, and sets a named value.
    PurgeTo(u64, (&'static str, Bytes)),
}

/// Records read so far, with a limit on their bytes.
pub(super) struct Records {
    pub(super) found: Vec<(u64, Bytes)>,
    bytes_left: usize,
    full: bool,
}

impl Records {
    pub(super) fn up_to(max_bytes: usize) -> Self {
        Self { found: Vec::new(), bytes_left: max_bytes, full: false }
    }

    /// Adds a record. Breaks at the first one that does not fit and at every one after it, so that `found` has no hole.
    /// The first record always fits.
    pub(super) fn push(&mut self, index: u64, record: Bytes) -> ControlFlow<()> {
        self.full |= record.len() > self.bytes_left && !self.found.is_empty();
        if self.full {
            return ControlFlow::Break(());
        }
        self.bytes_left = self.bytes_left.saturating_sub(record.len());
        self.found.push((index, record));
        ControlFlow::Continue(())
    }
}

/// The contents of the file when it was opened, apart from the records.
pub(super) struct Found {
    pub bounds: Option<(u64, u64)>,
    pub values: BTreeMap<String, Bytes>,
    pub purging: bool,
}

/// The records as of one transaction. Holding it keeps the pages that it needs from being reused.
pub(super) struct LogView {
    rows: ReadOnlyTable<u64, &'static [u8]>,
    engine: Engine,
}

impl LogTable {
    /// Opens and checks the file. A witness that knows of a later transaction than the file is damage.
    pub(super) fn open(disk: Disk, witness: Option<Disk>) -> Result<(Self, Found)> {
        let engine = Engine::open(disk, &KIND)?;
        let witness = witness.map(Witness::open).transpose()?;
        let table = Self { engine, commits: Arc::new(Mutex::new(Commits { last: 0, witness: None })) };
        let (found, commit) = table.engine.guard(|| table.recover())?;
        if let Some(witness) = &witness {
            witness.check_label(table.engine.name(), table.engine.label()?.as_deref())?;
            witness.check(table.engine.name(), commit)?;
        }
        *table.commits.lock().unwrap_or_else(PoisonError::into_inner) = Commits { last: commit, witness };
        Ok((table, found))
    }

    /// The label of the file.
    pub(super) fn label(&self) -> Result<Option<Bytes>> {
        self.engine.label()
    }

    /// Labels the witness, then the file, durably. A crash in between leaves a log without a label, which any label suits.
    pub(super) fn set_label(&self, label: &[u8]) -> Result<()> {
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(witness) = &mut commits.witness {
            witness.set_label(label)?;
        }
        self.engine.set_label(label)
    }

    /// Reads and checks the file. Also returns the number of its last transaction.
    fn recover(&self) -> Result<(Found, u64)> {
        let engine = &self.engine;
        let write = engine.db().begin_write().map_err(|e| engine.err(e))?;
        let found = {
            let records = write.open_table(RECORDS).map_err(|e| engine.err(e))?;
            let rows = write.open_table(VALUES).map_err(|e| engine.err(e))?;
            let mut values = BTreeMap::new();
            for row in rows.iter().map_err(|e| engine.err(e))? {
                let (name, stored) = row.map_err(|e| engine.err(e))?;
                let value = unseal(engine.name(), name.value().as_bytes(), stored.value())?;
                values.insert(name.value().to_owned(), Bytes::copy_from_slice(value));
            }
            let mut own = |name| values.remove(name).map(|value| self.number(&value)).transpose();
            let (purged, commit) = (own(PURGED)?, own(COMMIT)?);
            let (bounds, purging) = self.bounds(&records, purged)?;
            (Found { bounds, values, purging }, commit.unwrap_or(0))
        };
        write.commit().map_err(|e| engine.err(e))?;
        Ok(found)
    }

    /// The bounds of the records that are not purged, and whether purged rows are left. A missing index is damage.
    fn bounds(
        &self,
        records: &Table<'_, u64, &'static [u8]>,
        purged: Option<u64>,
    ) -> Result<(Option<(u64, u64)>, bool)> {
        let engine = &self.engine;
        let first = key(records.first().map_err(|e| engine.err(e))?);
        let last = key(records.last().map_err(|e| engine.err(e))?);
        let (Some(first), Some(last)) = (first, last) else { return Ok((None, false)) };
        let start = purged.map_or(first, |purged| first.max(purged.saturating_add(1)));
        let purging = first < start;
        if last < start {
            return Ok((None, purging));
        }
        let present = if purging {
            let mut count = 0;
            for row in records.range(start..).map_err(|e| engine.err(e))? {
                row.map_err(|e| engine.err(e))?;
                count += 1;
            }
            count
        } else {
            records.len().map_err(|e| engine.err(e))?
        };
        if present != last - start + 1 {
            let detail = format!("of the records {start} to {last} only {present} are there");
            return Err(StorageError::damaged(engine.name(), detail));
        }
        Ok((Some((start, last)), purging))
    }

    fn number(&self, value: &[u8]) -> Result<u64> {
        let damaged = |_| StorageError::damaged(self.engine.name(), "one of its own numbers is not eight bytes long");
        let bytes = value.try_into().map_err(damaged)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(super) fn view(&self) -> Result<LogView> {
        let engine = &self.engine;
        let rows = engine.guard(|| {
            let read = engine.db().begin_read().map_err(|e| engine.err(e))?;
            read.open_table(RECORDS).map_err(|e| engine.err(e))
        })?;
        Ok(LogView { rows, engine: engine.clone() })
    }

    /// Makes the operations durable in one transaction, which also removes a portion of the purged rows. Returns
    /// whether purged rows are left.
    pub(super) fn write(&self, operations: &[Operation], lazy: &BTreeMap<&'static str, Bytes>) -> Result<bool> {
        let engine = &self.engine;
        // The log has one writer, so nobody ever waits for this lock.
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        let number = commits.last + 1;
        let purging = engine.guard(|| {
            let mut write = engine.db().begin_write().map_err(|e| engine.err(e))?;
            write.set_durability(durability(operations)).map_err(|e| engine.err(e))?;
            let purging = {
                let mut records = write.open_table(RECORDS).map_err(|e| engine.err(e))?;
                let mut values = write.open_table(VALUES).map_err(|e| engine.err(e))?;
                for operation in operations {
                    self.apply(operation, &mut records, &mut values)?;
                }
                for (name, value) in lazy {
                    self.set(&mut values, name, value)?;
                }
                self.set(&mut values, COMMIT, &number.to_le_bytes())?;
                self.purge_some(&mut records, &values)?
            };
            write.commit().map_err(|e| engine.err(e))?;
            Ok(purging)
        })?;
        // After the commit, so that the witness is never ahead of the file.
        commits.last = number;
        if let Some(witness) = &mut commits.witness {
            witness.note(number)?;
        }
        Ok(purging)
    }

    fn apply(
        &self,
        operation: &Operation,
        records: &mut Table<'_, u64, &'static [u8]>,
        values: &mut Table<'_, &'static str, &'static [u8]>,
    ) -> Result<()> {
        match operation {
            Operation::Append(appended) => {
                appended.iter().try_for_each(|(index, record)| self.insert(records, *index, record))
            }
            Operation::Set(name, value) => self.set(values, name, value),
            Operation::TruncateFrom(index) => self.truncate_from(records, *index),
            Operation::PurgeTo(index, (name, value)) => {
                let purged = self.purged(values)?.map_or(*index, |purged| purged.max(*index));
                self.set(values, PURGED, &purged.to_le_bytes())?;
                self.set(values, name, value)
            }
        }
    }

    fn insert(&self, records: &mut Table<'_, u64, &'static [u8]>, index: u64, record: &[u8]) -> Result<()> {
        let mut stored = records.insert_reserve(index, SEAL_BYTES + record.len()).map_err(|e| self.engine.err(e))?;
        let (sum, payload) = stored.as_mut().split_at_mut(SEAL_BYTES);
        sum.copy_from_slice(&seal(&index.to_le_bytes(), record));
        payload.copy_from_slice(record);
        Ok(())
    }

    fn set(&self, values: &mut Table<'_, &'static str, &'static [u8]>, name: &str, value: &[u8]) -> Result<()> {
        let mut stored = Vec::with_capacity(SEAL_BYTES + value.len());
        stored.extend_from_slice(&seal(name.as_bytes(), value));
        stored.extend_from_slice(value);
        values.insert(name, stored.as_slice()).map_err(|e| self.engine.err(e))?;
        Ok(())
    }

    /// Removes all of it in one transaction. After a crash between two portions, the rest would look like part of the
    /// log.
    fn truncate_from(&self, records: &mut Table<'_, u64, &'static [u8]>, index: u64) -> Result<()> {
        while key(records.last().map_err(|e| self.engine.err(e))?).is_some_and(|last| last >= index) {
            records.pop_last().map_err(|e| self.engine.err(e))?;
        }
        Ok(())
    }

    /// The highest purged index.
    fn purged(&self, values: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Option<u64>> {
        let Some(stored) = values.get(PURGED).map_err(|e| self.engine.err(e))? else { return Ok(None) };
        let value = unseal(self.engine.name(), PURGED.as_bytes(), stored.value())?;
        self.number(value).map(Some)
    }

    /// Removes a portion of the purged rows. Returns whether some are left.
    fn purge_some(
        &self,
        records: &mut Table<'_, u64, &'static [u8]>,
        values: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<bool> {
        let engine = &self.engine;
        let Some(purged) = self.purged(values)? else { return Ok(false) };
        for _ in 0..PURGE_ROWS {
            if key(records.first().map_err(|e| engine.err(e))?).is_none_or(|first| first > purged) {
                return Ok(false);
            }
            records.pop_first().map_err(|e| engine.err(e))?;
        }
        Ok(true)
    }
}

/// Every transaction is durable, except under the injected bug.
fn durability(operations: &[Operation]) -> Durability {
    let appends_only = || operations.iter().all(|operation| matches!(operation, Operation::Append(_)));
    if fault_injection::enabled(Bug::AckBeforeFsync) && appends_only() {
        Durability::None
    } else {
        Durability::Immediate
    }
}

type Row<'a> = (AccessGuard<'a, u64>, AccessGuard<'a, &'static [u8]>);

fn key(row: Option<Row<'_>>) -> Option<u64> {
    row.map(|(key, _)| key.value())
}

impl LogView {
    /// Adds the records of `range` to `records` until these are full. A missing one is damage.
    pub(super) fn read(&self, range: Range<u64>, records: &mut Records) -> Result<()> {
        let engine = &self.engine;
        engine.guard(|| {
            let mut expected = range.start;
            for row in self.rows.range(range.clone()).map_err(|e| engine.err(e))? {
                let (index, stored) = row.map_err(|e| engine.err(e))?;
                let index = index.value();
                if index != expected {
                    break;
                }
                let record = unseal(engine.name(), &index.to_le_bytes(), stored.value())?;
                if records.push(index, Bytes::copy_from_slice(record)).is_break() {
                    return Ok(());
                }
                expected += 1;
            }
            if expected == range.end {
                return Ok(());
            }
            Err(StorageError::damaged(engine.name(), format!("record {expected} is missing")))
        })
    }
}
