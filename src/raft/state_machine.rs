//! openraft's state machine over [`StateSlot`] and [`machine`].
//!
//! # Durability
//!
//! A batch of entries is one transaction: the effects of the commands, the applied id and the last membership. It is
//! committed without an fsync, because the log replays what a crash takes back. Three events make the state durable: a
//! timer of the node, the report of a snapshot, and shutdown. openraft purges the log only up to a reported snapshot, and
//! a snapshot is reported only after a durable commit that covers it, so no purged entry is ever needed again.
//!
//! # Snapshots
//!
//! A snapshot is the state file itself, read in one read transaction: building one costs nothing and blocks no writer.
//! None is kept, because an open read transaction prevents the reuse of old pages. Each request gets the current state.

use std::{io, sync::Arc};

use futures::{FutureExt, Stream, StreamExt};
use openraft::{
    EntryPayload as Payload, OptionalSend, RaftSnapshotBuilder,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
};
use prost::Message;
use tokio::sync::watch;

use super::{
    ViewAtIndex, convert,
    snapshot::SnapshotData,
    types::{Decisions, Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig},
};
use crate::{
    fault_injection::{self, Bug},
    machine::{self, Effect},
    storage::{
        Blocking, Durable, StateSlot, StorageError,
        kv::{Read, Write},
    },
    types::{Clock, limits},
    wire::{raft as pb, store},
};

const APPLIED: &[u8] = b"\0applied";
const MEMBERSHIP: &[u8] = b"\0membership";

/// Entries that one transaction applies, at most. Bounds how long the callers of the next transaction wait.
const APPLY_ENTRIES: usize = 256;

/// What consensus keeps in the state file beside the chat state, written in the same transactions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateMeta {
    /// The last entry applied.
    pub applied: Option<LogId>,
    /// The last membership applied.
    pub membership: StoredMembership,
}

impl StateMeta {
    /// Reads both from a view of the state.
    pub fn read(view: &dyn Read) -> Result<Self, StorageError> {
        let damaged = |what: &str, error: &dyn std::fmt::Display| StorageError::damaged(what, error);
        let applied = match view.get(APPLIED)? {
            Some(bytes) => {
                let id = pb::LogId::decode(bytes.as_slice()).map_err(|e| damaged("the state's applied id", &e))?;
                if id.index >= limits::LOG_INDEX || id.term > limits::TERM {
                    return Err(damaged("the state's applied id", &"no log reaches the index or term that it names"));
                }
                Some(convert::read_log_id(id))
            }
            None => None,
        };
        let membership = match view.get(MEMBERSHIP)? {
            Some(bytes) => pb::StoredMembership::decode(bytes.as_slice())
                .map_err(convert::Malformed::from)
                .and_then(convert::read_stored_membership)
                .map_err(|e| damaged("the state's membership", &e))?,
            None => StoredMembership::default(),
        };
        Ok(Self { applied, membership })
    }

    /// Writes the applied id.
    pub fn write_applied(batch: &mut dyn Write, applied: &LogId) -> Result<(), StorageError> {
        batch.put(APPLIED, &convert::log_id(applied).encode_to_vec())
    }

    /// Writes the membership.
    pub fn write_membership(batch: &mut dyn Write, membership: &StoredMembership) -> Result<(), StorageError> {
        batch.put(MEMBERSHIP, &convert::stored_membership(membership).encode_to_vec())
    }

    fn snapshot(self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership }
    }
}

/// A change of the state of this node, published after its commit.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The log index up to which every change is now published.
    pub through: u64,
    /// The parts that changed; `None` for all of them, because a snapshot was installed.
    pub parts: Option<Vec<Effect>>,
}

/// Applies committed entries to the state file and publishes the changes.
///
/// # Invariants
///
/// - Order after each batch: commit, view at an exact index, `applied`, `publish`, answers to callers. So a caller that
///   has its answer can read its own write, and a ring never precedes the state that it announces.
/// - openraft calls `apply` and `install_snapshot` from one task, one after the other, with entries in log order and none
///   twice (`RaftStateMachine`). Nothing here locks against a second writer.
/// - A crash loses at most the batches since the last durable commit, each as a whole. `applied_state` then reports the
///   earlier entry, and openraft applies the rest again from the log. `machine` is deterministic, so the result is the
///   same.
/// - An error ends the node: openraft stops, and `background` reports the exit.
#[derive(Clone)]
pub struct StateMachine {
    slot: StateSlot,
    blocking: Blocking,
    applied: Arc<watch::Sender<u64>>,
    views: ViewAtIndex,
    publish: Arc<dyn Fn(Changed) + Send + Sync>,
}

impl StateMachine {
    /// The state machine on the state in `slot`. It calls `publish` after each commit; `publish` must not block.
    pub fn new(
        slot: StateSlot,
        blocking: Blocking,
        publish: impl Fn(Changed) + Send + Sync + 'static,
    ) -> Result<Self, StorageError> {
        let applied = StateMeta::read(&slot.current().view()?)?.applied.map_or(0, |id| id.index());
        let (watch, views) = (Arc::new(watch::Sender::new(applied)), ViewAtIndex::new(applied));
        Ok(Self { slot, blocking, applied: watch, views, publish: Arc::new(publish) })
    }

    /// The index of the last entry whose effects are readable.
    pub fn watch_applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Hands out views at exact indexes.
    pub fn views(&self) -> ViewAtIndex {
        self.views.clone()
    }

    fn commit(slot: &StateSlot, entries: Vec<Entry>) -> Result<(u64, Vec<Decisions>, Vec<Effect>), StorageError> {
        let mut batch = slot.current().begin()?;
        let mut decisions = Vec::with_capacity(entries.len());
        let mut effects = Vec::new();
        let mut index = 0;
        for entry in entries {
            index = entry.log_id.index();
            let decided = apply_entry(&mut batch, &entry, &mut effects)?;
            if !fault_injection::enabled(Bug::ApplyTwice) || index.is_multiple_of(8) {
                StateMeta::write_applied(&mut batch, &entry.log_id)?;
            }
            decisions.push(Decisions(decided));
        }
        batch.commit(Durable::No)?;
        Ok((index, decisions, effects))
    }
}

/// Applies `entry` to `batch` without a running node, to see what a log leads to.
pub fn replay(batch: &mut dyn Write, entry: &Entry) -> Result<(), StorageError> {
    apply_entry(batch, entry, &mut Vec::new())?;
    StateMeta::write_applied(batch, &entry.log_id)
}

fn apply_entry(
    batch: &mut dyn Write,
    entry: &Entry,
    effects: &mut Vec<Effect>,
) -> Result<Vec<machine::Decided>, StorageError> {
    match &entry.payload {
        Payload::Blank => Ok(Vec::new()),
        Payload::Membership(membership) => {
            let stored = StoredMembership::new(Some(entry.log_id), membership.clone());
            StateMeta::write_membership(batch, &stored)?;
            Ok(Vec::new())
        }
        Payload::Normal(proposal) => {
            let index = entry.log_id.index();
            let mut commands = store::CommandBatch::decode(proposal.0.clone())
                .map_err(|error| StorageError::damaged(format!("the commands of log entry {index}"), error))?;
            if fault_injection::enabled(Bug::LocalClock) {
                commands.time_ms = Clock::system().now_ms();
            }
            let applied = machine::apply(batch, index, &commands)?;
            effects.extend(applied.effects);
            Ok(applied.outcomes)
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    /// Called once at the start. openraft applies the log from the entry after this one.
    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let view = self.slot.current().view().map_err(io::Error::other)?;
        let meta = StateMeta::read(&view).map_err(io::Error::other)?;
        Ok((meta.applied, meta.membership))
    }

    /// Applies a stream of committed entries, in transactions of up to [`APPLY_ENTRIES`], and answers their callers.
    ///
    /// openraft awaits it before it applies more. A returned error is fatal to the node.
    async fn apply<Strm>(&mut self, mut incoming: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(first) = incoming.next().await {
            let (entry, responder) = first?;
            let mut view_wanted = self.views.claim(entry.log_id.index());
            let mut entries = vec![entry];
            let mut responders: Vec<Option<ApplyResponder<TypeConfig>>> = vec![responder];
            // Entries that are ready join this transaction; it does not wait for more.
            while !view_wanted && entries.len() < APPLY_ENTRIES {
                let Some(Some(next)) = incoming.next().now_or_never() else { break };
                let (entry, responder) = next?;
                view_wanted = self.views.claim(entry.log_id.index());
                entries.push(entry);
                responders.push(responder);
            }
            let slot = self.slot.clone();
            let work = move || {
                let committed = Self::commit(&slot, entries)?;
                let view = if view_wanted { Some(slot.current().view()?) } else { None };
                Ok::<_, StorageError>((committed, view))
            };
            let ((index, decisions, effects), view) = self.blocking.run(work).await.map_err(io::Error::other)?;
            self.views.settle(index, view);
            self.applied.send_replace(index);
            (self.publish)(Changed { through: index, parts: Some(effects) });
            for (responder, decisions) in responders.into_iter().zip(decisions) {
                if let Some(responder) = responder {
                    responder.send(decisions);
                }
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    /// Replaces the state with a received one. The receiver verified and synced the file before (`peer_service::receive`),
    /// and the replacement is a rename, so a crash leaves either the old or the new state, never a mix.
    ///
    /// If the old state is left, its log still holds what follows it: openraft purges only after this returns.
    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> Result<(), io::Error> {
        self.views.claim(meta.last_log_id.as_ref().map_or(0, |id| id.index()));
        let slot = self.slot.clone();
        let expected = meta.clone();
        let install = move || -> Result<u64, StorageError> {
            let loaded = snapshot.load(&slot)?;
            // Before it replaces the live state: a node with the wrong state is worse than one that stops.
            if StateMeta::read(&loaded.view()?)?.applied != expected.last_log_id {
                return Err(StorageError::damaged("a snapshot", "its applied id differs from the announced one"));
            }
            slot.install(loaded)?;
            if fault_injection::enabled(Bug::SnapshotWithoutMembership) {
                let mut batch = slot.current().begin()?;
                batch.delete(MEMBERSHIP)?;
                batch.commit(Durable::Yes)?;
            }
            Ok(expected.last_log_id.map_or(0, |id| id.index()))
        };
        let applied = self.blocking.run(install).await.map_err(io::Error::other)?;
        self.views.settle(applied, None);
        self.applied.send_replace(applied);
        (self.publish)(Changed { through: applied, parts: None });
        Ok(())
    }

    /// The snapshot that openraft sends to a follower whose next entry is purged. It is newer than the last reported one,
    /// which openraft allows: a snapshot need only reach the purged entries.
    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let view = self.slot.current().view().map_err(io::Error::other)?;
        let meta = StateMeta::read(&view).map_err(io::Error::other)?;
        if meta.applied.is_none() {
            return Ok(None);
        }
        Ok(Some(Snapshot { meta: meta.snapshot(), snapshot: SnapshotData::View(view) }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;

    /// Makes the state durable and reports it as a snapshot, after which openraft may purge the log up to it.
    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let slot = self.slot.clone();
        let build = move || -> Result<Snapshot, StorageError> {
            // First the view, then the flush, so that everything in the view is durable when it is reported.
            let view = slot.current().view()?;
            let meta = StateMeta::read(&view)?;
            if !fault_injection::enabled(Bug::PurgeUndurable) {
                slot.current().flush()?;
            }
            Ok(Snapshot { meta: meta.snapshot(), snapshot: SnapshotData::View(view) })
        };
        self.blocking.run(build).await.map_err(io::Error::other)
    }
}
