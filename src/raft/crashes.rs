//! Log and state together on one disk, through long histories with repeated power losses and every kind of disk failure
//! (P1).
//!
//! A history is a sequence of calls that openraft may make to its stores: the log grows, loses an uncommitted end, and is
//! purged up to a reported snapshot; votes rise; committed entries are applied; snapshots are built here or come from a
//! leader. The power fails at a disk step that was chosen beforehand, even while the stores are being opened again. An
//! error of the disk ends the process, as it ends a node; then either the machine is rebooted, or only the process is
//! started again, with the contents of the cache. The stores are then compared with a model, and the same history
//! continues after the calls that openraft makes when it starts.

mod model;

use std::{future::Future, io, sync::Arc};

use futures::{FutureExt, stream};
use openraft::{
    RaftLogReader, RaftSnapshotBuilder,
    storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine},
};
use proptest::prelude::*;

use self::model::{Log, Truth, account, count, membership};
use super::{
    LogStore, SnapshotData, StateMachine, StateMeta,
    types::{CommittedLeaderId, Entry, EntryPayload, LogId, Proposal, SnapshotMeta, Vote},
};
use crate::storage::{
    Blocking, DataDir, LogFile, Open, StateSlot, StorageError, archive,
    testing::{Fault, SimDisks},
};

#[derive(Debug, Clone)]
enum Op {
    /// This many entries, each with this many bytes of ballast.
    Append(u64, usize),
    TruncateBy(u64),
    Vote(bool),
    /// The cluster commits this many more.
    Commit(u64),
    Apply(u64),
    Snapshot,
    /// Up to this many entries before the end of the snapshot.
    Purge(u64),
    /// A snapshot of a leader that ends this far beyond our log.
    Install(u64),
    /// The disk fails in this way until a call returns an error.
    Fail(Fault, Recovery),
}

/// How the node comes back after a disk error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recovery {
    Reboot,
    Restart,
}

impl Recovery {
    const ALL: [Self; 2] = [Self::Reboot, Self::Restart];
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (1u64..6, prop_oneof![4 => 0usize..100, 1 => 2_000usize..9_000]).prop_map(|(n, b)| Op::Append(n, b)),
        3 => (1u64..6).prop_map(Op::TruncateBy),
        3 => any::<bool>().prop_map(Op::Vote),
        8 => (1u64..9).prop_map(Op::Commit),
        8 => (1u64..9).prop_map(Op::Apply),
        3 => Just(Op::Snapshot),
        3 => (0u64..5).prop_map(Op::Purge),
        1 => (1u64..5).prop_map(Op::Install),
        2 => (prop::sample::select(&Fault::ALL[..]), prop::sample::select(&Recovery::ALL[..]))
            .prop_map(|(fault, recovery)| Op::Fail(fault, recovery)),
    ]
}

struct Stores {
    log: LogStore,
    state: StateMachine,
    slot: StateSlot,
}

fn open(disks: &SimDisks, how: Open) -> Result<Stores, StorageError> {
    let dir = DataDir::on(Arc::new(disks.clone()));
    let log = LogStore::new(LogFile::open(&dir, "log.redb", how, Blocking::Inline)?);
    let slot = StateSlot::open(&dir, "state.redb", how)?;
    let state = StateMachine::new(slot.clone(), Blocking::Inline, |_| ())?;
    Ok(Stores { log, state, slot })
}

/// The result of a future that is ready at once, as all are with inline blocking.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it is done at once")
}

struct Run {
    disks: SimDisks,
    /// None while the power is off.
    stores: Option<Stores>,
    truth: Truth,
    /// The log as it was acknowledged, and as it is after the write under way.
    log: Log,
    written: Log,
    /// The commit mark that goes to disk with the next write.
    mark: Option<LogId>,
    /// How many entries this node knows to be committed, has applied, and has made durable in the state.
    known: u64,
    applied: u64,
    durable: u64,
    /// The end of the last reported snapshot.
    reported: u64,
    /// The end of a snapshot that is being installed.
    installing: Option<u64>,
    term: u64,
    made: u64,
    /// Disk steps from one power loss to the next.
    gaps: Vec<u64>,
    /// The disk fails, and no call has returned an error yet.
    failing: Option<Recovery>,
}

/// How often a history was interrupted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Harm {
    losses: usize,
    errors: usize,
}

impl Run {
    fn new(seed: u64, gaps: Vec<u64>) -> Self {
        let disks = SimDisks::new(seed);
        let stores = Some(open(&disks, Open::Fresh).unwrap());
        let (log, written) = Default::default();
        let mut run = Self {
            disks,
            stores,
            truth: Truth::new(),
            log,
            written,
            mark: None,
            known: 0,
            applied: 0,
            durable: 0,
            reported: 0,
            installing: None,
            term: 1,
            made: 0,
            gaps,
            failing: None,
        };
        run.arm();
        run
    }

    fn arm(&mut self) {
        if let Some(gap) = self.gaps.pop() {
            self.disks.power_off_after(gap);
        }
    }

    fn stores(&mut self) -> &mut Stores {
        self.stores.as_mut().expect("the power is on")
    }

    /// Runs the whole history.
    fn go(&mut self, ops: &[Op]) -> Harm {
        let mut harm = Harm::default();
        for op in ops {
            let done = self.step(op);
            if !self.disks.is_powered() {
                let vote = Vote::new(u64::MAX, 1);
                assert!(now(self.stores().log.save_vote(&vote)).is_err(), "nothing is acknowledged without power");
                harm.losses += 1 + self.start_again(Recovery::Reboot);
            } else if let Err(error) = done {
                let recovery = self.failing.unwrap_or_else(|| panic!("{op:?}: {error}"));
                harm.errors += 1;
                harm.losses += self.start_again(recovery);
            }
        }
        harm
    }

    /// Ends cleanly and starts again: the stores must hold exactly the last state.
    fn finish(&mut self) {
        self.disks.keep_power();
        self.disks.fail(None);
        self.writing(self.log.clone());
        self.log = self.written.clone();
        self.stores = None;
        self.disks.kill();
        self.start().unwrap();
    }

    /// Opens the stores on a repaired disk, until the power stays for long enough. Returns how often it failed meanwhile.
    fn start_again(&mut self, recovery: Recovery) -> usize {
        self.failing = None;
        self.disks.fail(None);
        for losses in 0.. {
            self.stores = None;
            if recovery == Recovery::Reboot || !self.disks.is_powered() {
                self.disks.power_on();
                self.arm();
            } else {
                self.disks.kill();
            }
            match self.start() {
                Ok(()) => return losses,
                Err(error) => assert!(!self.disks.is_powered(), "the stores do not open: {error}"),
            }
        }
        unreachable!("the gaps have an end")
    }

    /// Compares the stores with the model, then makes the calls that openraft makes when it starts.
    fn start(&mut self) -> io::Result<()> {
        let mut stores = open(&self.disks, Open::Existing).map_err(io::Error::other)?;
        let found = Log::read(&mut stores.log)?;
        let (log, written) = (&self.log, &self.written);
        // A process that ends with a sound log has written its last commit mark.
        let marked = Log { committed: self.mark, ..log.clone() };
        let expected = [log, written, &marked].contains(&&found);
        assert!(expected, "found {found:?}\nacknowledged {log:?}\nwritten {written:?}\nmark {:?}", self.mark);
        let applied = self.found_state(&mut stores)?;
        assert!(count(found.purged) <= applied, "entries up to {:?} are purged, {applied} are applied", found.purged);
        assert!(count(found.committed) <= self.truth.count(), "{:?} was never decided", found.committed);
        (self.log, self.written, self.mark) = (found.clone(), found.clone(), found.committed);
        (self.applied, self.durable, self.reported, self.installing) = (applied, applied, applied, None);
        self.known = applied.max(count(found.committed));
        self.stores = Some(stores);
        self.apply_upto(self.known)?;
        match found.last() < self.truth.id(applied) {
            true => self.purge(applied),
            false => Ok(()),
        }
    }

    /// How many entries the state holds: at least the durable ones, at most the applied ones, each as a whole.
    fn found_state(&self, stores: &mut Stores) -> io::Result<u64> {
        let (last, _) = now(stores.state.applied_state())?;
        let found = count(last);
        let expected = (self.durable..=self.applied).contains(&found) || self.installing == Some(found);
        let (durable, applied, installing) = (self.durable, self.applied, self.installing);
        assert!(expected, "found {found}, durable {durable}, applied {applied}, installing {installing:?}");
        assert_eq!(last, self.truth.id(found));
        let view = stores.slot.current().view().map_err(io::Error::other)?;
        let digest = archive::digest(&view).map_err(io::Error::other)?;
        assert_eq!(digest, self.truth.digests[found as usize], "the state after {found} entries is another");
        Ok(found)
    }

    fn step(&mut self, op: &Op) -> io::Result<()> {
        match *op {
            Op::Append(more, ballast) => self.append(more, ballast),
            Op::TruncateBy(fewer) => self.truncate(self.log.count().saturating_sub(fewer)),
            Op::Vote(committed) => self.vote(committed),
            Op::Commit(more) => self.commit(more),
            Op::Apply(more) => self.apply_upto(self.known.min(self.applied + more)),
            Op::Snapshot => self.snapshot(),
            Op::Purge(keep) => self.purge(self.reported.saturating_sub(keep)),
            Op::Install(beyond) => self.install(beyond),
            Op::Fail(fault, recovery) => {
                self.failing = Some(recovery);
                self.disks.fail(Some(fault));
                Ok(())
            }
        }
    }

    /// Records the log as it will be after the write that follows.
    fn writing(&mut self, after: Log) {
        self.written = Log { committed: self.mark, ..after };
    }

    fn wrote(&mut self, result: io::Result<()>) -> io::Result<()> {
        result.map(|()| self.log = self.written.clone())
    }

    /// How many entries of our log match the committed ones: all, or fewer if the cluster committed others.
    fn matching(&self) -> u64 {
        let end = self.log.count();
        let differs =
            |index: &u64| self.log.get(*index).is_some_and(|ours| *ours != self.truth.entries[*index as usize]);
        (0..end.min(self.truth.count())).find(differs).unwrap_or(end)
    }

    fn append(&mut self, more: u64, ballast: usize) -> io::Result<()> {
        let matching = self.matching();
        if matching < self.log.count() {
            self.truncate(matching)?;
        }
        let (start, decided) = (self.log.count(), self.truth.count());
        let entries: Vec<_> = match start < decided {
            true => self.truth.some(start, decided.min(start + more)).to_vec(),
            false => (start..start + more).map(|index| self.entry(index, ballast)).collect(),
        };
        let mut after = self.log.clone();
        after.entries.extend(entries.clone());
        self.writing(after);
        let result = now(self.stores().log.blocking_append(entries)).map_err(io::Error::other);
        self.wrote(result)
    }

    /// Keeps `keep` entries, and every committed one.
    fn truncate(&mut self, keep: u64) -> io::Result<()> {
        let decided = self.matching().min(self.truth.count());
        let keep = keep.max(decided).max(count(self.log.purged));
        if keep >= self.log.count() {
            return Ok(());
        }
        let mut after = self.log.clone();
        after.entries.retain(|entry| entry.log_id.index() < keep);
        let last = after.last();
        self.writing(after);
        let result = now(self.stores().log.truncate_after(last));
        self.wrote(result)
    }

    fn vote(&mut self, committed: bool) -> io::Result<()> {
        self.term += 1;
        let vote = if committed { Vote::new_committed(self.term, 1) } else { Vote::new(self.term, 1) };
        self.writing(Log { vote: Some(vote), ..self.log.clone() });
        let result = now(self.stores().log.save_vote(&vote));
        self.wrote(result)
    }

    fn commit(&mut self, more: u64) -> io::Result<()> {
        let upto = self.matching().min(self.known + more);
        if upto <= self.known {
            return Ok(());
        }
        for index in self.truth.count()..upto {
            self.truth.decide(self.log.get(index).unwrap().clone());
        }
        self.known = upto;
        self.mark = self.truth.id(upto);
        let mark = self.mark;
        now(self.stores().log.save_committed(mark))
    }

    fn apply_upto(&mut self, upto: u64) -> io::Result<()> {
        let from = self.applied;
        if upto <= from {
            return Ok(());
        }
        let entries = now(self.stores().log.try_get_log_entries(from..upto))?;
        assert_eq!(entries, self.truth.some(from, upto), "what was decided is what the log holds");
        self.applied = upto;
        now(self.stores().state.apply(stream::iter(entries.into_iter().map(|entry| Ok((entry, None))))))
    }

    fn snapshot(&mut self) -> io::Result<()> {
        let snapshot = now(self.stores().state.build_snapshot())?;
        assert_eq!(snapshot.meta.last_log_id, self.truth.id(self.applied));
        (self.durable, self.reported) = (self.applied, self.applied);
        Ok(())
    }

    fn purge(&mut self, upto: u64) -> io::Result<()> {
        let Some(id) = self.truth.id(upto).filter(|id| Some(*id) > self.log.purged) else { return Ok(()) };
        let mut after = self.log.clone();
        after.purge(id);
        self.writing(after);
        let result = now(self.stores().log.purge(id));
        self.wrote(result)
    }

    /// A snapshot from a leader of a later term, which has committed more than we have.
    fn install(&mut self, beyond: u64) -> io::Result<()> {
        self.term += 1;
        let end = self.log.count().max(self.truth.count()) + beyond;
        for index in self.truth.count()..end {
            let entry = self.entry(index, 10);
            self.truth.decide(entry);
        }
        let view = self.truth.view();
        let last_membership = StateMeta::read(&view).unwrap().membership;
        let meta = SnapshotMeta { last_log_id: self.truth.id(end), last_membership };
        self.installing = Some(end);
        now(self.stores().state.install_snapshot(&meta, SnapshotData::View(view)))?;
        (self.known, self.applied, self.durable, self.reported) = (end, end, end, end);
        self.installing = None;
        self.purge(end)
    }

    /// A new entry, different from all others.
    fn entry(&mut self, index: u64, ballast: usize) -> Entry {
        self.made += 1;
        let payload = match self.made % 9 {
            0 => EntryPayload::Blank,
            1 => EntryPayload::Membership(membership(self.made)),
            _ => EntryPayload::Normal(Proposal(account(self.made, ballast))),
        };
        Entry { log_id: LogId::new(CommittedLeaderId::new(self.term), index), payload }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn through_every_loss_of_power_and_error_of_the_disk_the_stores_keep_what_openraft_was_promised(
        ops in prop::collection::vec(op(), 100..200),
        gaps in prop::collection::vec(prop_oneof![1 => 1u64..20, 4 => 1u64..160], 2..16),
        seed: u64,
    ) {
        let mut run = Run::new(seed, gaps);
        let harm = run.go(&ops);
        prop_assert_ne!(harm, Harm::default(), "a hundred operations take more than a few hundred steps");
        run.finish();
    }
}

#[test]
fn an_error_of_the_disk_ends_the_process_and_the_history_goes_on() {
    let writes = [Fault::Write, Fault::Sync, Fault::ShortWrite, Fault::FullSync];
    for (fault, recovery) in writes.into_iter().flat_map(|fault| Recovery::ALL.map(|recovery| (fault, recovery))) {
        let mut run = Run::new(1, Vec::new());
        let work = [Op::Append(3, 50), Op::Commit(2), Op::Apply(2), Op::Snapshot, Op::Purge(1), Op::Vote(true)];
        for op in &work {
            let history = [&work[..], &[Op::Fail(fault, recovery), Op::Append(2, 50), op.clone()], &work].concat();
            assert_eq!(run.go(&history), Harm { losses: 0, errors: 1 }, "{fault:?}, {recovery:?}, {op:?}");
        }
        run.finish();
    }
}
