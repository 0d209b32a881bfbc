//! An append-only indexed log of opaque records and a few named values, in one redb file, with group commit.
//!
//! A change is readable when its call returns, and durable when its [`Done`] is called with `Ok`. One writer thread
//! takes everything that is queued, in order, writes it as one durable transaction, and then calls every callback. So
//! many concurrent appends share one fsync, and a single one never waits for others to join it.
//!
//! # Invariants
//!
//! - **Order.** Operations reach the disk in the order of the calls. Each transaction holds a run of whole operations.
//! - **Tail.** The tail in memory is the end of the log without a hole, and everything that is not durable is in it. So
//!   a read never waits for the writer.
//! - **Fail-stop.** After the first failure every later operation fails with the same error. The log does not retry a
//!   failed fsync: the kernel may have dropped the dirty pages, so a second fsync could succeed without the data being
//!   on disk ("Can Applications Recover from fsync Failures?", USENIX ATC 2020).
//! - **Purge.** Rows up to the purge point may still be on disk. They are removed in bounded portions and never read.
//!
//! # Locks
//!
//! One mutex guards [`State`]. Nobody holds it across a commit or a callback: the writer takes the queue, releases the
//! lock, writes, and takes the lock again to publish the result. A read holds it while it opens a view of the file. The
//! lock on the writer's join handle is held only to take it. Only one thread writes: the writer thread, or with
//! [`Blocking::Inline`] the single thread of a simulation.
//!
//! # Crashes
//!
//! | the crash comes | after it |
//! |---|---|
//! | before the transaction commits | the log is as before; no callback was called |
//! | between the commit and the witness's write | the transaction is there, though no callback was called |
//! | after the witness's write | the transaction is there; a log that comes back without it is `Damaged` |
//! | between two portions of a purge | the marker is durable: the rows left are not read, and the next open goes on |

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, mem,
    ops::Range,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use bytes::Bytes;

use super::{
    Blocking, DataDir, Disk, Open, Result, StorageError,
    log_table::{LogTable, Operation, Records},
};
use crate::types::limits::LOG_CACHE_BYTES;

/// Called once with the result of an operation: on the log's writer thread, or before the call returns when the log is
/// inline. It must be short, as the writer waits for it, and must not call the log.
pub type Done = Box<dyn FnOnce(Result<()>) + Send>;

/// The witness has the log's name with this behind it.
const WITNESS: &str = ".witness";

/// While more bytes of records than this are queued, [`LogFile::append`] waits for the writer.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// The log. Cheap to clone; dropping the last clone closes it.
#[derive(Clone)]
pub struct LogFile(Arc<Handle>);

/// Closes the log when the last clone of [`LogFile`] is dropped. The writer thread holds [`Shared`] only, so it does
/// not keep the log open.
struct Handle {
    shared: Arc<Shared>,
    blocking: Blocking,
    writer: Mutex<Option<JoinHandle<()>>>,
}

pub(super) struct Shared {
    name: String,
    state: Mutex<State>,
    /// Wakes the writer: something is queued, or the log is closing.
    work: Condvar,
    /// Wakes appenders that wait for room in the queue.
    room: Condvar,
}

/// The log as callers see it, which is ahead of the disk by the queued operations.
///
/// Invariants, whenever the lock is free:
/// - `tail` is contiguous and ends at the upper bound. It holds every record whose `operation > durable`.
/// - `tail_bytes` counts the bytes of the records in `tail`, `queued_bytes` those of all appends queued.
/// - `durable <= queued`. Operations in `queue` have the numbers up to `queued`; those taken out by the writer and not
///   committed yet lie between `durable` and the first of them.
/// - `failed`, once set, stays as it is.
pub(super) struct State {
    /// `None` once the log is closed.
    pub(super) table: Option<LogTable>,
    /// First and last index, both inclusive; `None` while the log is empty.
    bounds: Option<(u64, u64)>,
    /// The last records.
    tail: VecDeque<Cached>,
    tail_bytes: usize,
    /// Every named value, durable or not.
    values: BTreeMap<String, Bytes>,
    /// Named values that wait for the next transaction.
    lazy: BTreeMap<&'static str, Bytes>,
    queue: Vec<Queued>,
    queued_bytes: usize,
    /// Number of the operation queued last; the first is 1.
    queued: u64,
    /// Number of the last operation that is durable.
    durable: u64,
    /// Whether purged rows are left on disk.
    purging: bool,
    /// The first failure.
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

impl LogFile {
    /// Opens the log `name` of a directory and its witness. A log that lost a durable commit is `Damaged`.
    pub fn open(dir: &DataDir, name: &str, how: Open, blocking: Blocking) -> Result<Self> {
        let witness = dir.disk(&format!("{name}{WITNESS}"), how)?;
        Self::on(dir.disk(name, how)?, Some(witness), blocking)
    }

    /// Opens the log, or creates it on an empty disk, and verifies it: page checksums, and that no index is missing.
    /// With [`Blocking::Pool`] it starts the writer thread. With [`Blocking::Inline`] there is none, and every
    /// operation is durable before its call returns.
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

    /// Appends records. Their indexes must follow the last one without a gap; an empty log may start at any index.
    ///
    /// They are readable when this returns, and durable when `done` is called with `Ok`. Waits for the writer while
    /// more than 64 MiB are queued, so that a disk that stalls makes its replica stall instead of filling the memory.
    pub fn append(&self, records: Vec<(u64, Bytes)>, done: Done) {
        if let Err((error, done)) = self.shared().queue_append(records, done) {
            return done(Err(error));
        }
        self.wake_writer();
    }

    /// Sets a named value, durable when `done` is called with `Ok`.
    pub fn set(&self, name: &'static str, value: Bytes, done: Done) {
        self.queue(Operation::Set(name, value.clone()), done, |state| {
            state.lazy.remove(name);
            state.values.insert(name.to_owned(), value);
        });
    }

    /// Sets a named value without a sync of its own: it is written with the next operation, or at the close. Until then
    /// a crash may lose it.
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

    /// Removes every record up to and including `index`, which may lie beyond the last one, and sets the value `marker`
    /// in the same transaction. Once `done` is called, no crash brings the records back. Their space on disk is freed
    /// in portions, so that appends never wait for a large purge.
    pub fn purge_to(&self, index: u64, marker: (&'static str, Bytes), done: Done) {
        self.queue(Operation::PurgeTo(index, marker.clone()), done, |state| {
            state.lazy.remove(marker.0);
            state.values.insert(marker.0.to_owned(), marker.1);
            state.purge_to(index);
        });
    }

    /// The records of `range` that lie within [`bounds`](Self::bounds). A hole, or a record that fails its checksum, is
    /// `Damaged`. Recent records come from memory without copying. Older ones are read from disk, which blocks; the
    /// caller bounds the range.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<(u64, Bytes)>> {
        self.shared().read(range, usize::MAX)
    }

    /// Like [`read`](Self::read), but stops before the record that would make it more than `max_bytes`. Always returns
    /// the first record.
    pub fn read_some(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<(u64, Bytes)>> {
        self.shared().read(range, max_bytes)
    }

    /// First and last index, both inclusive; `None` while the log is empty.
    pub fn bounds(&self) -> Option<(u64, u64)> {
        self.shared().lock().bounds
    }

    /// Writes everything that is queued or lazy, stops the writer thread, waits for it and closes the file. Returns the
    /// first error that the log ever had. Later operations fail; a second call does nothing more.
    pub fn close(&self) -> Result<()> {
        self.0.close()
    }

    #[cfg(test)]
    pub(super) fn cached_bytes(&self) -> usize {
        self.shared().lock().tail_bytes
    }

    pub(super) fn shared(&self) -> &Shared {
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
        self.wake_writer();
    }

    /// Wakes the writer thread, or runs it inline.
    fn wake_writer(&self) {
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
        // Drops this share of the file. It closes once reads in progress have dropped theirs.
        state.table = None;
        state.failed.clone().map_or(Ok(()), Err)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Call `close` to learn about write errors; `Drop` ignores them.
        let _ = self.close();
    }
}

impl Shared {
    /// Ignores poisoning: no code under this lock panics half way, except when memory runs out.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an append. On an error it returns the callback, which must be called without the lock.
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
        // Take the view and the tail under one lock, so that no truncation comes between them. Records before the tail
        // are durable, and nothing queued changes them: a truncation would have shortened `bounds` already.
        let view = match &state.table {
            Some(table) => table.view()?,
            None => return Err(closed(&self.name)),
        };
        let mut recent = Records::up_to(max_bytes);
        state.read_tail(tail_start..end, &mut recent);
        drop(state);
        view.read(start..end.min(tail_start), &mut records)?;
        // Only now it is known how many bytes the older records left for the recent ones.
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

    /// Writes until nothing is left to write. A log that is closing leaves the rest of a purge to the next open.
    fn write_all(&self) {
        while self.write_once() {}
    }

    /// Writes everything queued as one durable transaction, or a portion of a purge. Returns whether more is to be
    /// written.
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
    /// Refuses every operation after a failure, and after the close.
    pub(super) fn usable(&self) -> Result<()> {
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

    /// Refuses records that leave a gap after the last one.
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

    /// Reads records of the tail; `range` starts in it.
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

    /// Drops the oldest records of the tail while it is over its limit, but none that is not durable.
    fn evict(&mut self) {
        while self.tail_bytes > LOG_CACHE_BYTES
            && self.tail.front().is_some_and(|cached| cached.operation <= self.durable)
        {
            self.tail_bytes -= self.tail.pop_front().map_or(0, |cached| cached.record.len());
        }
    }
}

pub(super) fn closed(name: &str) -> StorageError {
    StorageError::Io { what: name.to_owned(), source: std::io::Error::other("it is closed") }
}
