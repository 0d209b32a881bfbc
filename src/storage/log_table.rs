//! The log as it lies in its redb file. Every transaction here is durable.
//!
//! Tables: `records` index (u64) to `crc32 | record`; `values` name to `crc32 | value`. Two values are its own, their
//! leading dot keeps them apart from the callers' names: `.purged` is the highest purged index, `.commit` counts the
//! transactions, for the [`Witness`] (both u64, little-endian).

use std::{
    collections::BTreeMap,
    ops::Range,
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
    log::{Operation, Records},
    witness::Witness,
};
use crate::fault_injection::{self, Bug};

const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
const VALUES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");
const KIND: Kind = Kind { name: "log", format: 1, cache_bytes: 8 * 1024 * 1024 };
const PURGED: &str = ".purged";
const COMMIT: &str = ".commit";
/// Purged rows that one transaction removes, at most.
const PURGE_ROWS: usize = 2_048;

/// The file. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct LogTable {
    engine: Engine,
    commits: Arc<Mutex<Commits>>,
}

/// How many transactions there were, and who remembers it.
#[derive(Debug)]
struct Commits {
    last: u64,
    witness: Option<Witness>,
}

/// What was in the file.
pub(super) struct Found {
    pub bounds: Option<(u64, u64)>,
    pub values: BTreeMap<String, Bytes>,
    pub purging: bool,
}

/// The records as of one transaction.
pub(super) struct LogView {
    rows: ReadOnlyTable<u64, &'static [u8]>,
    engine: Engine,
}

impl LogTable {
    pub(super) fn open(disk: Disk, witness: Option<Disk>) -> Result<(Self, Found)> {
        let engine = Engine::open(disk, &KIND)?;
        let witness = witness.map(Witness::open).transpose()?;
        let table = Self { engine, commits: Arc::new(Mutex::new(Commits { last: 0, witness: None })) };
        let (found, commit) = table.engine.guard(|| table.recover())?;
        if let Some(witness) = &witness {
            witness.check(table.engine.name(), commit)?;
        }
        *table.commits.lock().unwrap_or_else(PoisonError::into_inner) = Commits { last: commit, witness };
        Ok((table, found))
    }

    /// What is in the file, and the number of its last transaction.
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

    /// The bounds of what is not purged, and whether purged rows are left. A missing index is damage.
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
        let damaged = |_| StorageError::damaged(self.engine.name(), "a number of its own has not eight bytes");
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

    /// Makes the operations durable in one transaction, with a portion of the purging that is due. Answers whether
    /// purged rows are left.
    pub(super) fn write(&self, operations: &[Operation], lazy: &BTreeMap<&'static str, Bytes>) -> Result<bool> {
        let engine = &self.engine;
        // The log has one writer; the lock is never waited for.
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

    /// Not in portions: a record that a crash brought back would be taken for a part of the log.
    fn truncate_from(&self, records: &mut Table<'_, u64, &'static [u8]>, index: u64) -> Result<()> {
        while key(records.last().map_err(|e| self.engine.err(e))?).is_some_and(|last| last >= index) {
            records.pop_last().map_err(|e| self.engine.err(e))?;
        }
        Ok(())
    }

    fn purged(&self, values: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Option<u64>> {
        let Some(stored) = values.get(PURGED).map_err(|e| self.engine.err(e))? else { return Ok(None) };
        let value = unseal(self.engine.name(), PURGED.as_bytes(), stored.value())?;
        self.number(value).map(Some)
    }

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
    /// The records in `range`, all of which must be there, as far as there is room.
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
