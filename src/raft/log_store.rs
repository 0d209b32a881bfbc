//! openraft's log over [`LogFile`].

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
};

use bytes::Bytes;
use openraft::{
    OptionalSend, RaftLogReader,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use prost::Message;
use tokio::sync::oneshot;

use super::{
    convert,
    types::{Entry, LogId, TypeConfig, Vote},
};
use crate::{
    storage::{Done, LogFile, StorageError},
    wire::raft as pb,
};

const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";

/// Bytes that one read hands to a follower's replication, at most (but at least one entry).
const READ_BYTES: usize = 4 * 1024 * 1024;

/// Vote, log and commit mark of one node. Cheap to clone; all clones are the same log.
///
/// Appends answer at once and are readable from then on; openraft hears of their durability through the callback, which
/// fires only after the fsync that covers them. The vote waits for its own fsync. Both go through one queue, so their
/// order on disk is the order in which openraft asked (its `docs::protocol::io_ordering`).
#[derive(Clone)]
pub struct LogStore {
    file: LogFile,
}

impl LogStore {
    /// The log in this file.
    pub fn new(file: LogFile) -> Self {
        Self { file }
    }

    /// The vote on disk, for inspection.
    pub fn vote(&self) -> io::Result<Option<Vote>> {
        Ok(self.value::<pb::Vote>(VOTE)?.map(convert::read_vote))
    }

    /// The last purged and the last log id.
    pub fn bounds(&self) -> io::Result<LogState<TypeConfig>> {
        let last_purged_log_id = self.value::<pb::LogId>(PURGED)?.map(convert::read_log_id);
        let last_log_id = match self.file.bounds() {
            Some((_, last)) => Some(self.entry_at(last)?.log_id),
            None => last_purged_log_id,
        };
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    fn entry_at(&self, index: u64) -> io::Result<Entry> {
        let found = self.read(index..index + 1)?.pop();
        found.ok_or_else(|| damaged(format!("log entry {index}"), "it is missing"))
    }

    fn value<M: Message + Default>(&self, name: &'static str) -> io::Result<Option<M>> {
        let Some(bytes) = self.file.get(name).map_err(io::Error::other)? else { return Ok(None) };
        M::decode(bytes).map(Some).map_err(|error| damaged(format!("the log's {name}"), error))
    }

    fn read(&self, range: std::ops::Range<u64>) -> io::Result<Vec<Entry>> {
        let records = self.file.read(range).map_err(io::Error::other)?;
        records.into_iter().map(|(index, record)| decode(index, record)).collect()
    }
}

fn decode(index: u64, record: Bytes) -> io::Result<Entry> {
    convert::decode_entry(record).map_err(|error| damaged(format!("log entry {index}"), error))
}

fn damaged(what: impl Into<String>, detail: impl std::fmt::Display) -> io::Error {
    io::Error::other(StorageError::damaged(what, detail))
}

/// Waits for an operation of the writer, off its thread.
async fn durable(submit: impl FnOnce(Done)) -> io::Result<()> {
    let (sender, receiver) = oneshot::channel();
    submit(Box::new(move |result| {
        let _ = sender.send(result);
    }));
    receiver.await.map_err(|_| io::Error::other("the log writer stopped"))?.map_err(io::Error::other)
}

fn bounds_of(range: &impl RangeBounds<u64>) -> std::ops::Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(bounds_of(&range))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.vote()
    }

    /// Bounded by bytes, so that one message to a follower stays within its limit.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let records = self.file.read_some(start..end, READ_BYTES).map_err(io::Error::other)?;
        records.into_iter().map(|(index, record)| decode(index, record)).collect()
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        self.bounds()
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let value = Bytes::from(convert::vote(vote).encode_to_vec());
        durable(|done| self.file.set(VOTE, value, done)).await
    }

    /// Written along with the next append: it only lets a restart apply at once what was known as committed.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.file.set_lazily(COMMITTED, convert::log_id(&committed).encode_to_vec().into());
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.value::<pb::LogId>(COMMITTED)?.map(convert::read_log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries.into_iter().map(|entry| (entry.log_id.index(), convert::encode_entry(&entry))).collect();
        self.file.append(records, Box::new(move |result| callback.io_completed(result.map_err(io::Error::other))));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let first_removed = last_log_id.map_or(0, |id| id.index() + 1);
        durable(|done| self.file.truncate_from(first_removed, done)).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let marker = convert::log_id(&log_id).encode_to_vec().into();
        durable(|done| self.file.purge_to(log_id.index(), (PURGED, marker), done)).await
    }
}
