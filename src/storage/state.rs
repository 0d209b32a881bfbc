//! A file of ordered bytes, changed in batches and read in consistent views.
//!
//! # Invariants
//!
//! - A batch becomes visible as a whole, at its commit. There is one batch at a time: redb's write lock is held from
//!   [`StateFile::begin`] to the commit or the drop.
//! - A view never changes.
//! - A crash may lose commits that were not durable, but only the last ones: a commit survives only with every commit
//!   before it. So the applied index that a batch carries tells how much the state holds after a crash.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    sync::Arc,
};

use bytes::Bytes;
use redb::{Durability, ReadOnlyTable, ReadableDatabase, TableDefinition, WriteTransaction};

use super::{
    Disk, Result, StorageError,
    engine::{Engine, Kind, SEAL_BYTES, seal, unseal},
    kv::{self, Read, Visit},
};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const KIND: Kind = Kind { name: "state", format: 1, cache_bytes: 24 * 1024 * 1024 };
/// The most bytes in one key and its value together. `put` refuses more.
pub const PAIR_BYTES: usize = 4 * 1024 * 1024;

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// A crash may lose it until a later durable commit or [`StateFile::flush`].
    No,
    /// It and every commit before it are on disk when the commit returns.
    Yes,
}

/// One keyspace in one redb file. Cheap to clone. Everything here blocks: call it through
/// [`Blocking`](super::Blocking).
#[derive(Debug, Clone)]
pub struct StateFile {
    engine: Engine,
}

impl StateFile {
    /// Opens the file, or creates it on an empty disk, and verifies all of it.
    pub fn open(disk: Disk) -> Result<Self> {
        let engine = Engine::open(disk, &KIND)?;
        engine.guard(|| {
            let write = engine.db().begin_write().map_err(|e| engine.err(e))?;
            // Creates the table, so that a view of an empty file finds one.
            write.open_table(ROWS).map_err(|e| engine.err(e))?;
            write.commit().map_err(|e| engine.err(e))
        })?;
        Ok(Self { engine })
    }

    /// Begins a batch on the last commit. Waits while another batch is open: there is one writer.
    pub fn begin(&self) -> Result<StateBatch> {
        let transaction = self.engine.guard(|| self.engine.db().begin_write().map_err(|e| self.engine.err(e)))?;
        // The write transaction excludes other writers, so this view is what the batch changes.
        let base = self.view()?;
        Ok(StateBatch { base, transaction, changes: BTreeMap::new() })
    }

    /// The state at the last commit, durable or not. While it is held, the pages that it needs cannot be reused: do not
    /// keep it for long. It stays valid when the file is replaced or removed.
    pub fn view(&self) -> Result<StateView> {
        let engine = &self.engine;
        let rows = engine.guard(|| {
            let read = engine.db().begin_read().map_err(|e| engine.err(e))?;
            read.open_table(ROWS).map_err(|e| engine.err(e))
        })?;
        Ok(StateView(Arc::new(View { rows, engine: engine.clone() })))
    }

    /// Makes everything committed so far durable. Waits while a batch is open.
    pub fn flush(&self) -> Result<()> {
        self.engine.guard(|| {
            let mut write = self.engine.db().begin_write().map_err(|e| self.engine.err(e))?;
            write.set_durability(Durability::Immediate).map_err(|e| self.engine.err(e))?;
            write.commit().map_err(|e| self.engine.err(e))
        })
    }

    /// What its owner wrote on the file. It is no part of the keyspace: archives and digests leave it out.
    pub fn label(&self) -> Result<Option<Bytes>> {
        self.engine.label()
    }

    pub(super) fn set_label(&self, label: &[u8]) -> Result<()> {
        self.engine.set_label(label)
    }

    /// The file's size in bytes, free pages included.
    pub fn size_bytes(&self) -> u64 {
        self.engine.size_bytes()
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        self.engine.name()
    }

    /// Writes many pairs in ascending order in one transaction, without gathering them in a batch first.
    pub(super) fn load<'a>(
        &self,
        pairs: impl Iterator<Item = Result<(&'a [u8], &'a [u8])>>,
        durable: Durable,
    ) -> Result<()> {
        let engine = &self.engine;
        engine.guard(|| {
            let mut write = engine.db().begin_write().map_err(|e| engine.err(e))?;
            set_durability(engine, &mut write, durable)?;
            {
                let mut rows = write.open_table(ROWS).map_err(|e| engine.err(e))?;
                for pair in pairs {
                    let (key, value) = pair?;
                    insert(engine, &mut rows, key, value)?;
                }
            }
            write.commit().map_err(|e| engine.err(e))
        })
    }
}

/// The state at one commit. Cheap to clone. Dropping the last clone frees its pages.
#[derive(Debug, Clone)]
pub struct StateView(Arc<View>);

struct View {
    // Declared, and so dropped, before the engine: a database that is dropped first closes under its transactions.
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
    engine: Engine,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("View").field(&self.engine.name()).finish()
    }
}

type Row = (redb::AccessGuard<'static, &'static [u8]>, redb::AccessGuard<'static, &'static [u8]>);

impl View {
    /// Visits the rows of a range in either direction, and verifies the checksum of each.
    fn visit(&self, start: &[u8], end: &[u8], forward: bool, visit: Visit<'_>) -> Result<()> {
        if start >= end {
            return Ok(());
        }
        let mut range = self.engine.guard(|| self.rows.range::<&[u8]>(start..end).map_err(|e| self.engine.err(e)))?;
        loop {
            let row: Option<Row> = self.engine.guard(|| {
                let row = if forward { range.next() } else { range.next_back() };
                row.transpose().map_err(|e| self.engine.err(e))
            })?;
            let Some((key, stored)) = row else { return Ok(()) };
            let value = unseal(self.engine.name(), key.value(), stored.value())?;
            if visit(key.value(), value).is_break() {
                return Ok(());
            }
        }
    }
}

impl StateView {
    /// The size of its file in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.0.engine.size_bytes()
    }
}

impl Read for StateView {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let View { rows, engine } = &*self.0;
        let stored = engine.guard(|| rows.get(key).map_err(|e| engine.err(e)))?;
        stored.map(|stored| unseal(engine.name(), key, stored.value()).map(<[u8]>::to_vec)).transpose()
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: Visit<'_>) -> Result<()> {
        self.0.visit(start, end, true, visit)
    }

    fn scan_back(&self, start: &[u8], end: &[u8], visit: Visit<'_>) -> Result<()> {
        self.0.visit(start, end, false, visit)
    }
}

/// Changes that become visible together, or not at all if the batch is dropped.
///
/// Invariant: `base` is the state at the last commit, because `transaction` holds the write lock. The state of the
/// batch is `base` overlaid with `changes`.
///
/// The changes gather in an ordered map and reach redb at the commit, in key order. So reads do not borrow from the
/// write transaction, and a key that many commands change is written once. If every key changes once, this is as fast
/// as opening the table for each access (`tests/measures.rs`).
pub struct StateBatch {
    base: StateView,
    transaction: WriteTransaction,
    /// `None` stands for a deleted key.
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl StateBatch {
    /// Makes the changes visible to later views and batches. On an error none of them is visible.
    pub fn commit(self, durable: Durable) -> Result<()> {
        let Self { base, mut transaction, changes } = self;
        let engine = &base.0.engine;
        engine.guard(|| {
            set_durability(engine, &mut transaction, durable)?;
            {
                let mut rows = transaction.open_table(ROWS).map_err(|e| engine.err(e))?;
                for (key, value) in &changes {
                    match value {
                        Some(value) => insert(engine, &mut rows, key, value)?,
                        None => drop(rows.remove(key.as_slice()).map_err(|e| engine.err(e))?),
                    }
                }
            }
            transaction.commit().map_err(|e| engine.err(e))
        })
    }

    /// Visits the rows of a range as the batch sees them: rows of `base` merged with `changes`, in either direction.
    fn merge(&self, start: &[u8], end: &[u8], forward: bool, visit: Visit<'_>) -> Result<()> {
        if start >= end {
            return Ok(());
        }
        let range = (Bound::Included(start), Bound::Excluded(end));
        let mut changes = self.changes.range::<[u8], _>(range);
        let mut next = move || if forward { changes.next() } else { changes.next_back() };
        let mut change = next();
        let mut stopped = false;
        self.base.0.visit(start, end, forward, &mut |key, value| {
            while let Some((changed, new)) = change {
                let first = if forward { changed.as_slice() <= key } else { changed.as_slice() >= key };
                if !first {
                    break;
                }
                let same = changed.as_slice() == key;
                change = next();
                if let Some(new) = new
                    && visit(changed, new).is_break()
                {
                    stopped = true;
                    return ControlFlow::Break(());
                }
                if same {
                    return ControlFlow::Continue(());
                }
            }
            let flow = visit(key, value);
            stopped = flow.is_break();
            flow
        })?;
        while let (false, Some((key, value))) = (stopped, change) {
            if let Some(value) = value {
                stopped = visit(key, value).is_break();
            }
            change = next();
        }
        Ok(())
    }
}

impl Read for StateBatch {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.base.get(key),
        }
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: Visit<'_>) -> Result<()> {
        self.merge(start, end, true, visit)
    }

    fn scan_back(&self, start: &[u8], end: &[u8], visit: Visit<'_>) -> Result<()> {
        self.merge(start, end, false, visit)
    }
}

impl kv::Write for StateBatch {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if key >= kv::END {
            return Err(StorageError::invalid(self.base.0.engine.name(), "keys that begin with 0xff are reserved"));
        }
        if key.len() + value.len() > PAIR_BYTES {
            let detail = format!("a key and value of {} bytes; the limit is {PAIR_BYTES}", key.len() + value.len());
            return Err(StorageError::invalid(self.base.0.engine.name(), detail));
        }
        self.changes.insert(key.to_vec(), Some(value.to_vec()));
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.changes.insert(key.to_vec(), None);
        Ok(())
    }
}

/// Writes one row: the checksum, then the value.
fn insert(
    engine: &Engine,
    rows: &mut redb::Table<'_, &'static [u8], &'static [u8]>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let mut stored = rows.insert_reserve(key, SEAL_BYTES + value.len()).map_err(|e| engine.err(e))?;
    let (sum, payload) = stored.as_mut().split_at_mut(SEAL_BYTES);
    sum.copy_from_slice(&seal(key, value));
    payload.copy_from_slice(value);
    Ok(())
}

fn set_durability(engine: &Engine, write: &mut WriteTransaction, durable: Durable) -> Result<()> {
    let durability = match durable {
        Durable::No => Durability::None,
        Durable::Yes => Durability::Immediate,
    };
    write.set_durability(durability).map_err(|e| engine.err(e))
}
