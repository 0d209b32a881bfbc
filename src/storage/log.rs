//! An append-only indexed log of opaque records and a few named values, in one redb file, with group commit.
//!
//! What a call changes is readable when the call returns; it is durable when its [`Done`] is called. One writer
//! thread drains all that is queued, in order, into one durable transaction, and then fires every callback: many
//! concurrent appends share one fsync, and a lone one never waits for company.
//!
//! Invariants
//! - Operations reach the disk in the order of the calls; each transaction holds a run of whole operations.
//! - The tail in memory is the end of the log without a hole, and whatever is not durable yet is in it.
//! - After the first failure every later operation fails with the same error. A failed fsync is not tried again: the
//!   kernel may have dropped the dirty pages, so a second one could succeed without the data being safe.
//! - Rows up to the purge point may still be on disk; they are removed in bounded portions and never read.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, mem,
    ops::{ControlFlow, Range},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use bytes::Bytes;

use super::{Blocking, DataDir, Disk, Open, Result, StorageError, log_table::LogTable};
use crate::types::limits::LOG_CACHE_BYTES;

/// Called once, with what became of an operation: on the log's writer thread, or before the call returns when the log
/// is inline. It must be short and must not call the log.
pub type Done = Box<dyn FnOnce(Result<()>) + Send>;

/// Behind the log's name in the name of its witness.
const WITNESS: &str = ".witness";

/// Bytes of records queued for the writer, above which [`LogFile::append`] waits for it.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// The log. Cheap to clone; the last clone dropped closes it.
#[derive(Clone)]
pub struct LogFile(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    blocking: Blocking,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    name: String,
    state: Mutex<State>,
    /// Rings the writer: something is queued, or the log is closing.
    work: Condvar,
    /// Rings appenders that wait for room in the queue.
    room: Condvar,
}

struct State {
    /// None once closed.
    table: Option<LogTable>,
    /// First and last present index.
    bounds: Option<(u64, u64)>,
    tail: VecDeque<Cached>,
    tail_bytes: usize,
    /// Everything set, durable or not.
    values: BTreeMap<String, Bytes>,
    /// Set, and to be written along with the next transaction.
    lazy: BTreeMap<&'static str, Bytes>,
    queue: Vec<Queued>,
    queued_bytes: usize,
    /// Number of the operation queued last; the first is 1.
    queued: u64,
    /// Number of the last operation that is durable.
    durable: u64,
    /// Rows below the purge point are still on disk.
    purging: bool,
    failed: Option<StorageError>,
    closing: bool,
}

/// One record of the tail.
struct Cached {
    index: u64,
    record: Bytes,
    /// Number of the operation that appended it.
    operation: u64,
}

struct Queued {
    operation: Operation,
    done: Done,
}

/// Records read, up to a number of bytes.
pub(super) struct Records {
    found: Vec<(u64, Bytes)>,
    room: usize,
    full: bool,
}

impl Records {
    fn up_to(max_bytes: usize) -> Self {
        Self { found: Vec::new(), room: max_bytes, full: false }
    }

    /// Takes a record, or breaks when there is no room for it and so for none after it; the first one always has room.
    pub(super) fn push(&mut self, index: u64, record: Bytes) -> ControlFlow<()> {
        self.full |= record.len() > self.room && !self.found.is_empty();
        if self.full {
            return ControlFlow::Break(());
        }
        self.room = self.room.saturating_sub(record.len());
        self.found.push((index, record));
        ControlFlow::Continue(())
    }
}

/// One step of a transaction.
pub(super) enum Operation {
    Append(Vec<(u64, Bytes)>),
    Set(&'static str, Bytes),
    TruncateFrom(u64),
    PurgeTo(u64, (&'static str, Bytes)),
}

impl LogFile {
    /// Opens the log `name` of a directory, and its witness beside it: a log that lost a commit which had been durable
    /// is `Damaged`.
    pub fn open(dir: &DataDir, name: &str, how: Open, blocking: Blocking) -> Result<Self> {
        let witness = dir.disk(&format!("{name}{WITNESS}"), how)?;
        Self::on(dir.disk(name, how)?, Some(witness), blocking)
    }

    /// Opens the log, or makes a new one on an empty disk, and verifies it: page checksums, and that no index is
    /// missing. With [`Blocking::Pool`] it starts the writer thread; with [`Blocking::Inline`] there is none, and
    /// every operation is done before its call returns.
    pub fn on(disk: Disk, witness: Option<Disk>, blocking: Blocking) -> Result<Self> {
        let name = disk.name().to_owned();
        let (table, found) = LogTable::open(disk, witness)?;
        let state = State {
            table: Some(table),
            bounds: found.bounds,
            tail: VecDeque::new(),
            tail_bytes: 0,
            values: found.values,
            lazy: BTreeMap::new(),
            queue: Vec::new(),
            queued_bytes: 0,
            queued: 0,
            durable: 0,
            purging: found.purging,
            failed: None,
            closing: false,
        };
        let shared = Arc::new(Shared { name, state: Mutex::new(state), work: Condvar::new(), room: Condvar::new() });
        let writer = match blocking {
            Blocking::Inline => None,
            Blocking::Pool => {
                let shared = shared.clone();
                let thread =
                    thread::Builder::new().name("log-writer".into()).spawn(move || shared.write_until_closed());
                Some(thread.map_err(|e| StorageError::io("starting the log writer", e))?)
            }
        };
        Ok(Self(Arc::new(Handle { shared, blocking, writer: Mutex::new(writer) })))
    }

    /// Appends records whose indexes go on from the last one without a gap (any index may start an empty log).
    ///
    /// They are readable when this returns and durable when `done` is called with `Ok`. Waits for the writer while
    /// more than 64 MiB are queued: a disk that stalls stalls its replica rather than filling the memory.
    pub fn append(&self, records: Vec<(u64, Bytes)>, done: Done) {
        if let Err((error, done)) = self.shared().queue_append(records, done) {
            return done(Err(error));
        }
        self.operate();
    }

    /// Sets a named value, durable when `done` is called with `Ok`.
    pub fn set(&self, name: &'static str, value: Bytes, done: Done) {
        self.queue(Operation::Set(name, value.clone()), done, |state| {
            state.lazy.remove(name);
            state.values.insert(name.to_owned(), value);
        });
    }

    /// Sets a named value that is written along with the next operation, or at the close; never with a sync of its
    /// own. Until then a crash may lose it.
    pub fn set_lazily(&self, name: &'static str, value: Bytes) {
        let mut state = self.shared().lock();
        state.values.insert(name.to_owned(), value.clone());
        state.lazy.insert(name, value);
    }

    /// The value last set under `name`, durable or not.
    pub fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let state = self.shared().lock();
        state.usable()?;
        Ok(state.values.get(name).cloned())
    }

    /// Removes every record from `index` on, in one transaction.
    pub fn truncate_from(&self, index: u64, done: Done) {
        self.queue(Operation::TruncateFrom(index), done, |state| state.truncate_from(index));
    }

    /// Removes every record up to and including `index`, which may lie beyond the last one, and sets the value
    /// `marker` in the same transaction. When `done` is called, no crash brings the records back; their space on disk
    /// is freed bit by bit, so that appends never wait for a large purge.
    pub fn purge_to(&self, index: u64, marker: (&'static str, Bytes), done: Done) {
        self.queue(Operation::PurgeTo(index, marker.clone()), done, |state| {
            state.lazy.remove(marker.0);
            state.values.insert(marker.0.to_owned(), marker.1);
            state.purge_to(index);
        });
    }

    /// The records in `range`, as far as they lie within [`bounds`](Self::bounds). A hole, or a record that fails
    /// its checksum, is `Damaged`. The recent ones come from memory without copying; older ones are read from disk,
    /// which blocks. The caller bounds the range.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<(u64, Bytes)>> {
        self.shared().read(range, usize::MAX)
    }

    /// Like [`read`](Self::read), but stops before the record that would exceed `max_bytes` in all; the first one
    /// always comes.
    pub fn read_some(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<(u64, Bytes)>> {
        self.shared().read(range, max_bytes)
    }

    /// First and last present index.
    pub fn bounds(&self) -> Option<(u64, u64)> {
        self.shared().lock().bounds
    }

    /// Writes all that is queued or lazy, stops the writer thread and closes the file. Waits for it. Later operations
    /// fail; calling it again does nothing. Answers with what went wrong, now or before.
    pub fn close(&self) -> Result<()> {
        self.0.close()
    }

    #[cfg(test)]
    pub(super) fn cached_bytes(&self) -> usize {
        self.shared().lock().tail_bytes
    }

    fn shared(&self) -> &Shared {
        &self.0.shared
    }

    fn queue(&self, operation: Operation, done: Done, change: impl FnOnce(&mut State)) {
        let mut state = self.shared().lock();
        if let Err(error) = state.usable() {
            drop(state);
            return done(Err(error));
        }
        change(&mut state);
        state.push(operation, done);
        drop(state);
        self.operate();
    }

    /// Lets the writer work: the thread, or this one.
    fn operate(&self) {
        match self.0.blocking {
            Blocking::Pool => self.shared().work.notify_one(),
            Blocking::Inline => self.shared().write_all(),
        }
    }
}

impl fmt::Debug for LogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogFile").field("name", &self.shared().name).field("bounds", &self.bounds()).finish()
    }
}

impl Handle {
    fn close(&self) -> Result<()> {
        self.shared.lock().closing = true;
        self.shared.work.notify_all();
        self.shared.room.notify_all();
        match self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(writer) => drop(writer.join()),
            None if self.blocking == Blocking::Inline => self.shared.write_all(),
            None => {}
        }
        let mut state = self.shared.lock();
        // Closes the file: readers that still hold a share of it finish first.
        state.table = None;
        state.failed.clone().map_or(Ok(()), Err)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Whoever wants to know what went wrong calls `close`.
        let _ = self.close();
    }
}

impl Shared {
    /// Nothing under this lock can be left half done by a panic, which only memory exhaustion could cause.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an append, or gives its callback back with the refusal, to be called without the lock.
    fn queue_append(&self, records: Vec<(u64, Bytes)>, done: Done) -> Result<(), (StorageError, Done)> {
        let mut state = self.lock();
        while state.queued_bytes > QUEUE_BYTES && state.usable().is_ok() {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Err(error) = state.usable().and_then(|()| state.follows(&self.name, &records)) {
            return Err((error, done));
        }
        let operation = state.queued + 1;
        for (index, record) in &records {
            state.tail_bytes += record.len();
            state.queued_bytes += record.len();
            state.tail.push_back(Cached { index: *index, record: record.clone(), operation });
            state.bounds = Some((state.bounds.map_or(*index, |(first, _)| first), *index));
        }
        state.push(Operation::Append(records), done);
        Ok(())
    }

    fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<(u64, Bytes)>> {
        let mut records = Records::up_to(max_bytes);
        let state = self.lock();
        state.usable()?;
        let Some((first, last)) = state.bounds else { return Ok(records.found) };
        let (start, end) = (range.start.max(first), range.end.min(last.saturating_add(1)));
        if start >= end {
            return Ok(records.found);
        }
        let tail_start = state.tail.front().map_or(last.saturating_add(1), |cached| cached.index);
        if start >= tail_start {
            state.read_tail(start..end, &mut records);
            return Ok(records.found);
        }
        // The view and the tail are taken under one lock, so that no truncation comes between them. What lies before
        // the tail is durable and unchanged by anything queued: a truncation would have shortened `bounds` already.
        let view = match &state.table {
            Some(table) => table.view()?,
            None => return Err(closed(&self.name)),
        };
        let mut recent = Records::up_to(max_bytes);
        state.read_tail(tail_start..end, &mut recent);
        drop(state);
        view.read(start..end.min(tail_start), &mut records)?;
        // Whether the older ones left room for the recent ones shows only now.
        for (index, record) in recent.found {
            if records.push(index, record).is_break() {
                break;
            }
        }
        Ok(records.found)
    }

    fn write_until_closed(&self) {
        loop {
            let mut state = self.lock();
            while !state.has_work() && !state.closing {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let closing = state.closing && state.queue.is_empty();
            drop(state);
            if closing {
                return self.write_all();
            }
            self.write_once();
        }
    }

    /// Writes until nothing but purging is left.
    fn write_all(&self) {
        while self.write_once() {}
    }

    /// Writes what is queued as one durable transaction, and answers whether more is to be written.
    fn write_once(&self) -> bool {
        let mut state = self.lock();
        if !state.has_work() && (state.lazy.is_empty() || !state.closing) {
            return false;
        }
        let (operations, dones): (Vec<_>, Vec<_>) =
            mem::take(&mut state.queue).into_iter().map(|queued| (queued.operation, queued.done)).unzip();
        let lazy = mem::take(&mut state.lazy);
        let last = state.queued;
        state.queued_bytes = 0;
        self.room.notify_all();
        let table = match (&state.failed, &state.table) {
            (Some(error), _) => Err(error.clone()),
            (None, None) => Err(closed(&self.name)),
            (None, Some(table)) => Ok(table.clone()),
        };
        // On every path, or the next lock would wait for this one for ever.
        drop(state);
        let result = table.and_then(|table| table.write(&operations, &lazy));
        let mut state = self.lock();
        let result = match result {
            Ok(purging) => {
                state.durable = last;
                state.purging = purging;
                state.evict();
                Ok(())
            }
            Err(error) => {
                state.purging = false;
                Err(state.failed.get_or_insert(error).clone())
            }
        };
        let more = state.has_work() && !(state.queue.is_empty() && state.closing);
        drop(state);
        for done in dones {
            done(result.clone());
        }
        more
    }
}

impl State {
    fn usable(&self) -> Result<()> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if self.closing => Err(closed("the log")),
            None => Ok(()),
        }
    }

    fn has_work(&self) -> bool {
        !self.queue.is_empty() || self.purging
    }

    fn push(&mut self, operation: Operation, done: Done) {
        self.queued += 1;
        self.queue.push(Queued { operation, done });
    }

    /// Whether `records` go on from the last one.
    fn follows(&self, name: &str, records: &[(u64, Bytes)]) -> Result<()> {
        let mut expected = self.bounds.map(|(_, last)| last.saturating_add(1));
        for (index, _) in records {
            if expected.is_some_and(|expected| expected != *index) {
                let detail = format!("record {index} does not follow the last one");
                return Err(StorageError::invalid(name, detail));
            }
            expected = Some(index.saturating_add(1));
        }
        Ok(())
    }

    fn read_tail(&self, range: Range<u64>, records: &mut Records) {
        let tail_start = self.tail.front().map_or(range.start, |cached| cached.index);
        let skip = usize::try_from(range.start - tail_start).unwrap_or(usize::MAX);
        for cached in self.tail.iter().skip(skip).take_while(|cached| cached.index < range.end) {
            if records.push(cached.index, cached.record.clone()).is_break() {
                return;
            }
        }
    }

    fn truncate_from(&mut self, index: u64) {
        while self.tail.back().is_some_and(|cached| cached.index >= index) {
            self.tail_bytes -= self.tail.pop_back().map_or(0, |cached| cached.record.len());
        }
        self.bounds = self
            .bounds
            .filter(|(first, _)| *first < index)
            .map(|(first, last)| (first, last.min(index.saturating_sub(1))));
    }

    fn purge_to(&mut self, index: u64) {
        while self.tail.front().is_some_and(|cached| cached.index <= index) {
            self.tail_bytes -= self.tail.pop_front().map_or(0, |cached| cached.record.len());
        }
        self.bounds = self
            .bounds
            .filter(|(_, last)| *last > index)
            .map(|(first, last)| (first.max(index.saturating_add(1)), last));
    }

    /// Lets go of the oldest of the tail while it is over its limit, but of nothing that is not durable.
    fn evict(&mut self) {
        while self.tail_bytes > LOG_CACHE_BYTES
            && self.tail.front().is_some_and(|cached| cached.operation <= self.durable)
        {
            self.tail_bytes -= self.tail.pop_front().map_or(0, |cached| cached.record.len());
        }
    }
}

fn closed(name: &str) -> StorageError {
    StorageError::Io { what: name.to_owned(), source: std::io::Error::other("it is closed") }
}
