//! openraft's log store over [`LogFile`].
//!
//! It maps openraft's calls to records of the log file and converts entries and ids to protobuf. `LogFile` owns the
//! order and the durability of writes. Beside the openraft trait there are methods that prepare or read the log of a
//! stopped node, for restore, recovery and inspection.

use std::{
    collections::BTreeMap,
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
    PeerMemory, convert,
    types::{CommittedLeaderId, Entry, EntryPayload, LogId, Member, Membership, TypeConfig, Vote},
};
use crate::{
    fault_injection::{self, Bug},
    storage::{Done, LogFile, StorageError},
    types::{NodeId, limits},
    wire::raft as pb,
};

const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const PEERS: &str = "peers";

/// Bytes that one read returns for replication to a follower, at most (but at least one entry).
const READ_BYTES: usize = 4 * 1024 * 1024;

/// Vote, log and commit mark of one node. Cheap to clone; all clones are the same log.
///
/// # Invariants
///
/// - Indexes are consecutive: from the entry after `purged` to the last one there is no gap.
/// - An append returns at once and is readable from then on. Its callback fires only after the fsync that covers it;
///   before that openraft counts nothing as stored here. The vote, a truncation and a purge wait for their own fsync.
/// - All writes go through one queue, so their order on disk is the order of openraft's calls, as its
///   `docs::protocol::io_ordering` demands. A crash keeps a prefix of them.
/// - The commit mark is only a hint and may be older than the truth: it goes to disk with the next write.
/// - After a write error every later write fails, too, and openraft stops the node.
///
/// The contracts are openraft's `RaftLogStorage` and `RaftLogReader`; its own test suite runs in `tests.rs`, and
/// `crashes.rs` cuts the power at every step.
#[derive(Clone)]
pub struct LogStore {
    file: LogFile,
}

impl LogStore {
    /// The log store on this file.
    pub fn new(file: LogFile) -> Self {
        Self { file }
    }

    /// The vote on disk.
    pub fn vote(&self) -> io::Result<Option<Vote>> {
        Ok(self.value::<pb::Vote>(VOTE)?.map(convert::read_vote))
    }

    /// Makes an empty log continue after `at`, with a vote that lets node `id` stand for election in a later term.
    pub fn start_after(&self, at: &LogId, id: NodeId) -> io::Result<()> {
        let marker = convert::log_id(at).encode_to_vec().into();
        let vote = convert::vote(&Vote::new(at.committed_leader_id().term, id)).encode_to_vec().into();
        wait(|done| self.file.purge_to(at.index(), (PURGED, marker), done))?;
        wait(|done| self.file.set(VOTE, vote, done))
    }

    /// Appends a membership with `voter` as the only member to the log of a stopped node, and lets it stand for election
    /// in a later term. `applied` is the last entry that the state holds, `at` the id of the new entry.
    ///
    /// All entries before it stay; the first election of the sole voter commits them.
    pub fn append_sole_voter(
        &self,
        voter: NodeId,
        member: &Member,
        applied: Option<LogId>,
        at: LogId,
    ) -> io::Result<()> {
        let membership = Membership::new(vec![[voter].into()], BTreeMap::from([(voter, member.clone())]));
        self.append_membership(voter, membership.map_err(io::Error::other)?, applied, at)
    }

    /// The id of an entry that follows the log of a stopped node, of a term above the log's and above `term`. `applied` is
    /// the last entry that the state holds.
    ///
    /// # Errors
    /// Fails if there is none: the log, or `term`, is beyond what any cluster reaches. Changes nothing.
    pub fn next_id(&self, applied: Option<LogId>, term: u64) -> io::Result<LogId> {
        let last = self.bounds()?.last_log_id.max(applied);
        let (logged, index) = last.map_or((0, None), |id| (id.committed_leader_id().term, Some(id.index())));
        let term = logged.max(term).checked_add(1).filter(|term| *term <= limits::TERM);
        let index = index.map_or(Some(0), |index| index.checked_add(1)).filter(|index| *index < limits::LOG_INDEX);
        match term.zip(index) {
            Some((term, index)) => Ok(LogId::new(CommittedLeaderId::new(term), index)),
            None => Err(damaged("the log", format!("its last entry, {last:?}, is beyond what any cluster reaches"))),
        }
    }

    /// Like [`LogStore::append_sole_voter`], with any membership. `candidate` is the node that owns the log, `at` comes from
    /// [`LogStore::next_id`].
    pub fn append_membership(
        &self,
        candidate: NodeId,
        membership: Membership,
        applied: Option<LogId>,
        at: LogId,
    ) -> io::Result<()> {
        let last = self.bounds()?.last_log_id;
        if let Some(applied) = applied.filter(|applied| Some(*applied) > last) {
            // The node crashed after it installed a snapshot and before it purged the log up to there.
            let marker = convert::log_id(&applied).encode_to_vec().into();
            wait(|done| self.file.purge_to(applied.index(), (PURGED, marker), done))?;
        }
        // The vote first: a log must never hold an entry of a term that its node has not seen.
        let vote = convert::vote(&Vote::new(at.committed_leader_id().term, candidate)).encode_to_vec().into();
        wait(|done| self.file.set(VOTE, vote, done))?;
        let entry = Entry { log_id: at, payload: EntryPayload::Membership(membership) };
        wait(|done| self.file.append(vec![(at.index(), convert::encode_entry(&entry))], done))
    }

    /// The commit mark on disk: entries up to it are committed, later ones may be.
    pub fn committed(&self) -> io::Result<Option<LogId>> {
        Ok(self.value::<pb::LogId>(COMMITTED)?.map(convert::read_log_id))
    }

    /// Visits the entries after `applied`, oldest first, and reads them in pieces of bounded size.
    pub fn each_after(
        &self,
        applied: Option<LogId>,
        mut visit: impl FnMut(Entry) -> Result<(), StorageError>,
    ) -> io::Result<()> {
        let mut next = applied.map_or(0, |id| id.index().saturating_add(1));
        let Some((first, last)) = self.file.bounds() else { return Ok(()) };
        if last >= next && first > next {
            return Err(damaged(format!("log entry {next}"), "it is missing between the state and the log"));
        }
        while next <= last {
            let records = self.file.read_some(next..last.saturating_add(1), READ_BYTES).map_err(io::Error::other)?;
            let Some(read_to) = records.last().map(|(index, _)| *index) else {
                return Err(damaged(format!("log entry {next}"), "it is missing"));
            };
            for (index, record) in records {
                visit(decode(index, record)?).map_err(io::Error::other)?;
            }
            next = read_to.saturating_add(1);
        }
        Ok(())
    }

    /// What this node remembers of the promises of the others, as far as it was written down.
    pub fn peer_memory(&self) -> io::Result<PeerMemory> {
        let bytes = self.file.get(PEERS).map_err(io::Error::other)?;
        PeerMemory::decode(bytes, self.committed()?)
            .map_err(|error| damaged("what the log remembers of the peers", error))
    }

    /// Writes it down along with the next write.
    pub fn save_peer_memory(&self, memory: &PeerMemory) {
        if let Some(bytes) = memory.encode_if_changed() {
            self.file.set_lazily(PEERS, bytes);
        }
    }

    /// Returns when all that was appended before is durable.
    pub async fn barrier(&self) -> io::Result<()> {
        let memory = self.file.get(PEERS).map_err(io::Error::other)?.unwrap_or_default();
        durable(|done| self.file.set(PEERS, memory, done)).await
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
        let found = self.read(index..index.saturating_add(1))?.pop();
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

/// Waits for a write without blocking.
async fn durable(submit: impl FnOnce(Done)) -> io::Result<()> {
    let (sender, receiver) = oneshot::channel();
    submit(Box::new(move |result| {
        let _ = sender.send(result);
    }));
    receiver.await.map_err(|_| io::Error::other("the log writer stopped"))?.map_err(io::Error::other)
}

/// Waits for a write, on a thread that may block.
fn wait(submit: impl FnOnce(Done)) -> io::Result<()> {
    let (sender, receiver) = std::sync::mpsc::channel();
    submit(Box::new(move |result| {
        let _ = sender.send(result);
    }));
    receiver.recv().map_err(|_| io::Error::other("the log writer stopped"))?.map_err(io::Error::other)
}

fn bounds_of(range: &impl RangeBounds<u64>) -> std::ops::Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for LogStore {
    /// Reads the entries in `range`, as far as they exist.
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(bounds_of(&range))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        if fault_injection::enabled(Bug::ForgetVote) { Ok(None) } else { self.vote() }
    }

    /// Reads entries, bounded by bytes, so that one message to a follower stays within its limit.
    ///
    /// If the whole range is purged, it returns the first entry of the log instead. openraft 0.10.0-alpha.37 treats an
    /// empty result as a heartbeat and asks for the same range for ever (`replication/stream_state.rs`), while the peer
    /// waits. A request with a gap ends the stream (`PeerNetwork::stream_append`), and the peer gets a snapshot.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let mut records = self.file.read_some(start..end, READ_BYTES).map_err(io::Error::other)?;
        if records.is_empty()
            && let Some((first, _)) = self.file.bounds().filter(|(first, _)| start < end && end <= *first)
        {
            records = self.file.read_some(first..first + 1, READ_BYTES).map_err(io::Error::other)?;
        }
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

    /// Returns after the fsync: openraft answers a candidate only with a vote that a crash cannot take back.
    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let value = Bytes::from(convert::vote(vote).encode_to_vec());
        if fault_injection::enabled(Bug::VoteBeforeFsync) {
            self.file.set_lazily(VOTE, value);
            return Ok(());
        }
        durable(|done| self.file.set(VOTE, value, done)).await
    }

    /// Goes to disk with the next write: its only use is that a restarted node applies these entries at once.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.file.set_lazily(COMMITTED, convert::log_id(&committed).encode_to_vec().into());
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.committed()
    }

    /// Returns before the fsync and calls `callback` after it. Entries are readable at once, as openraft requires.
    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries.into_iter().map(|entry| (entry.log_id.index(), convert::encode_entry(&entry))).collect();
        self.file.append(records, Box::new(move |result| callback.io_completed(result.map_err(io::Error::other))));
        Ok(())
    }

    /// Deletes the entries after `last_log_id`, which conflict with those of the leader. Durable when it returns.
    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let first_removed = last_log_id.map_or(0, |id| id.index().saturating_add(1));
        durable(|done| self.file.truncate_from(first_removed, done)).await
    }

    /// Deletes the entries up to and including `log_id` and records that id, in one transaction. Durable when it returns.
    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let marker = convert::log_id(&log_id).encode_to_vec().into();
        durable(|done| self.file.purge_to(log_id.index(), (PURGED, marker), done)).await
    }
}
