//! The model that the stores are compared with: the log as it was written, and the state that committed entries lead to.

use std::{collections::BTreeMap, io, ops::ControlFlow, sync::Arc};

use openraft::{RaftLogReader, storage::RaftLogStorage};
use prost::Message;

use super::now;
use crate::{
    raft::{
        LogStore, replay,
        types::{Entry, LogId, Member, Membership, Vote},
    },
    storage::{
        DataDir, Durable, Open, StateSlot, StateView, archive,
        kv::{self, MemoryKv, Read, Write},
        testing::SimDisks,
    },
    types::RequestId,
    wire::store::{self, command::Verb},
};

/// The content of a log. Counts start at 1: the entry at index `n` is the last of `n + 1` entries.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Log {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) entries: Vec<Entry>,
}

pub(super) fn count(last: Option<LogId>) -> u64 {
    last.map_or(0, |id| id.index() + 1)
}

impl Log {
    pub(super) fn read(store: &mut LogStore) -> io::Result<Self> {
        let state = now(store.get_log_state())?;
        let (vote, committed) = (now(store.read_vote())?, now(store.read_committed())?);
        let entries = now(store.try_get_log_entries(0..u64::MAX))?;
        let found = Self { vote, committed, purged: state.last_purged_log_id, entries };
        assert_eq!(state.last_log_id, found.last());
        let places = found.entries.iter().map(|entry| entry.log_id.index());
        assert!(places.eq(count(found.purged)..found.count()), "a hole: {found:?}");
        Ok(found)
    }

    pub(super) fn last(&self) -> Option<LogId> {
        self.entries.last().map(|entry| entry.log_id).or(self.purged)
    }

    pub(super) fn count(&self) -> u64 {
        count(self.last())
    }

    pub(super) fn get(&self, index: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.checked_sub(count(self.purged))?).unwrap())
    }

    pub(super) fn purge(&mut self, upto: LogId) {
        self.purged = Some(upto);
        self.entries.retain(|entry| entry.log_id.index() > upto.index());
    }
}

/// The entries that the cluster has committed, and the state that they lead to.
#[derive(Default)]
pub(super) struct Truth {
    pub(super) entries: Vec<Entry>,
    pub(super) kv: MemoryKv,
    /// The digest of the state after the first `n` entries, for each `n`.
    pub(super) digests: Vec<[u8; 32]>,
}

impl Truth {
    pub(super) fn new() -> Self {
        let kv = MemoryKv::default();
        Self { entries: Vec::new(), digests: vec![archive::digest(&kv).unwrap()], kv }
    }

    pub(super) fn count(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn decide(&mut self, entry: Entry) {
        assert_eq!(entry.log_id.index(), self.count());
        replay(&mut self.kv, &entry).unwrap();
        self.digests.push(archive::digest(&self.kv).unwrap());
        self.entries.push(entry);
    }

    pub(super) fn some(&self, start: u64, end: u64) -> &[Entry] {
        &self.entries[start as usize..end as usize]
    }

    /// The id of the last of the first `count` entries.
    pub(super) fn id(&self, count: u64) -> Option<LogId> {
        count.checked_sub(1).map(|index| self.entries[index as usize].log_id)
    }

    /// The whole state, on a disk of the leader.
    pub(super) fn view(&self) -> StateView {
        let dir = DataDir::on(Arc::new(SimDisks::new(0)));
        let slot = StateSlot::open(&dir, "state.redb", Open::Fresh).unwrap();
        let mut batch = slot.current().begin().unwrap();
        let put = &mut |key: &[u8], value: &[u8]| {
            batch.put(key, value).unwrap();
            ControlFlow::Continue(())
        };
        self.kv.scan(b"", kv::END, put).unwrap();
        batch.commit(Durable::No).unwrap();
        slot.current().view().unwrap()
    }
}

pub(super) fn membership(number: u64) -> Membership {
    let member = Member { name: format!("n{number}"), address: "n:7400".into(), zone: String::new() };
    Membership::new(vec![[1].into()], BTreeMap::from([(1, member)])).unwrap()
}

pub(super) fn account(number: u64, ballast: usize) -> bytes::Bytes {
    let password_hash = format!("$hash {}", "x".repeat(ballast));
    let verb = Verb::CreateAccount(store::CreateAccount { username: format!("user{number}"), password_hash });
    let mut random = [0; 10];
    random[..8].copy_from_slice(&number.to_be_bytes());
    let request_id = RequestId::new(1_700_000_000_000 + number, random).as_bytes().to_vec().into();
    let command = store::Command { request_id, verb: Some(verb), ..Default::default() };
    store::CommandBatch { time_ms: 1_700_000_000_000 + number, commands: vec![command] }.encode_to_vec().into()
}
