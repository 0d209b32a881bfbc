//! The part of a simulation that outlives every process in it: disks, clocks, connections, and the record of what nodes
//! reported, against which their later reports are checked.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use quorate::{
    config::SnapshotPolicy,
    storage::testing::{Fault, Image, SimDisks},
    types::{Clock, Entropy},
    wire::{Address, cluster::GetMembershipResponse},
};
use tokio::sync::Notify;

use crate::{
    libc_hooks,
    network::{Connections, PORT},
    promises::Promises,
    rng::Rng,
};

/// Shared by all hosts, the nemesis and the judge, which run on one thread: cells instead of locks. The few atomics and
/// locks are there because the product wants its clock, entropy and dialer to be `Sync`.
///
/// Invariants:
/// - The set of machines never changes; a spare machine exists from the start.
/// - `leaders`, `ids`, `digests` and `violations` only grow. The first report about a term, id or index stands, and
///   every later one is compared with it.
/// - `is_founded`, `is_grown`, `workload_stopped`, `is_healed` and `is_judged` become true in this order, once each,
///   and never false again.
/// - No borrow of a cell lives across an `await`.
pub struct World {
    pub seed: u64,
    /// When every node takes a snapshot of its state.
    pub snapshots: SnapshotPolicy,
    /// Time since the start, the same as the clock of [`libc_hooks`].
    elapsed_ms: Arc<AtomicU64>,
    machines: BTreeMap<String, Machine>,
    /// For each term, the node id that reported itself as leader, and the number of its machine's start.
    leaders: RefCell<BTreeMap<u64, (u64, u64)>>,
    /// For each node id, the disk on which it was first seen: machine and generation.
    ids: RefCell<BTreeMap<u64, (String, u64)>>,
    pub promises: Arc<Promises>,
    pub connections: Arc<Connections>,
    /// For each log index, the first node that reported a state digest there, and the digest.
    digests: RefCell<BTreeMap<u64, (String, [u8; 32])>>,
    violations: RefCell<Vec<String>>,
    counts: RefCell<BTreeMap<&'static str, u64>>,
    /// The cluster was founded: no node may found a second one.
    pub is_founded: Cell<bool>,
    /// The cluster has the size of its plan.
    pub is_grown: Cell<bool>,
    /// Users and operators start no new operations.
    pub workload_stopped: Cell<bool>,
    /// The cluster has a leader again after the last fault: users check what they left open.
    pub is_healed: Cell<bool>,
    /// The judge has finished.
    pub is_judged: Cell<bool>,
}

/// A machine that a node may run on.
///
/// Invariants: `state` is `Running` from the start of a process to its end. `report` is `None` whenever no process
/// runs, so a report is never older than its process. `disk_problem` covers the time since the process was last
/// started; `has_bit_rot` holds until the disk is replaced.
pub struct Machine {
    disks: RefCell<SimDisks>,
    /// Counts the disks that this machine has had.
    generation: Cell<u64>,
    /// How far the machine's own clock is ahead of true time.
    skew_ms: Arc<AtomicI64>,
    /// Counts the starts of its process.
    starts: Cell<u64>,
    disk_problem: Cell<Option<DiskProblem>>,
    /// Whether bits of its disk have flipped. A process may end because of that until the machine gets a new disk.
    has_bit_rot: Cell<bool>,
    /// Asks the process to shut down gracefully.
    pub stop: Rc<Notify>,
    pub state: RefCell<State>,
    /// The node's latest report about itself and its cluster.
    pub report: RefCell<Option<GetMembershipResponse>>,
}

/// A fault of a disk that may end the process on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskProblem {
    Full,
    /// Reads, writes or syncs fail.
    Failing,
}

/// The state of the process on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Running,
    /// It was killed or stopped, or never started.
    Down,
    /// It ended by itself because the cluster removed it.
    Removed,
    /// It ended by itself because of an error, which a disk fault may explain.
    Failed(String),
}

impl World {
    pub fn new(seed: u64, names: &[String], snapshots: SnapshotPolicy) -> Rc<Self> {
        let machine = |name: &String| {
            let machine = Machine {
                disks: RefCell::new(SimDisks::new(Rng::of(seed, name).next())),
                generation: Cell::new(0),
                skew_ms: Arc::default(),
                starts: Cell::new(0),
                disk_problem: Cell::default(),
                has_bit_rot: Cell::default(),
                stop: Rc::default(),
                state: RefCell::new(State::Down),
                report: RefCell::default(),
            };
            (name.clone(), machine)
        };
        Rc::new(Self {
            seed,
            snapshots,
            elapsed_ms: Arc::default(),
            machines: names.iter().map(machine).collect(),
            leaders: RefCell::default(),
            ids: RefCell::default(),
            promises: Arc::default(),
            connections: Arc::default(),
            digests: RefCell::default(),
            violations: RefCell::default(),
            counts: RefCell::default(),
            is_founded: Cell::new(false),
            is_grown: Cell::new(false),
            workload_stopped: Cell::new(false),
            is_healed: Cell::new(false),
            is_judged: Cell::new(false),
        })
    }

    pub fn names(&self) -> Vec<String> {
        self.machines.keys().cloned().collect()
    }

    pub fn machine(&self, name: &str) -> &Machine {
        &self.machines[name]
    }

    pub fn addresses(&self) -> Vec<Address> {
        self.machines.keys().map(|name| address(name)).collect()
    }

    /// Moves all clocks to `elapsed` after the start. turmoil keeps the time; this passes it on.
    pub fn set_elapsed(&self, elapsed: std::time::Duration) {
        self.elapsed_ms.store(elapsed.as_millis() as u64, Relaxed);
        libc_hooks::set_elapsed(elapsed.as_nanos() as u64);
    }

    pub fn elapsed_ms(&self) -> u64 {
        self.elapsed_ms.load(Relaxed)
    }

    /// The wall clock of `name`. Users and operators, who are no machines, get the true time.
    pub fn clock(&self, name: &str) -> Clock {
        let elapsed = self.elapsed_ms.clone();
        let skew = self.machines.get(name).map(|machine| machine.skew_ms.clone()).unwrap_or_default();
        Clock::new(move || {
            let now = libc_hooks::EPOCH_NS / 1_000_000 + elapsed.load(Relaxed);
            now.saturating_add_signed(skew.load(Relaxed))
        })
    }

    /// Randomness for `name`: for a machine, a new generator at each start of its process.
    pub fn entropy(&self, name: &str) -> Entropy {
        let start = self.machines.get(name).map_or(0, |machine| machine.starts.replace(machine.starts.get() + 1));
        let rng = Mutex::new(Rng::of(self.seed, &format!("{name} {start}")));
        Entropy::new(move |bytes| rng.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes))
    }

    /// Records that a node reports itself as the leader of `term`, and checks two rules: a term has one leader, for
    /// ever; and leadership ends with the process. (Figure 2 of the Raft paper does not list leadership among the
    /// persistent state. A leader that led on after a restart might lack entries which it acknowledged earlier in the
    /// same term.)
    pub fn record_leader(&self, name: &str, term: u64, id: u64) {
        let start = self.machine(name).starts.get();
        let (first, began) = *self.leaders.borrow_mut().entry(term).or_insert((id, start));
        if first != id {
            self.violation(format!("nodes {first} and {id} both led in term {term}"));
        } else if began != start {
            self.violation(format!("{name} restarted and still leads term {term} without a new election"));
        }
    }

    /// Records the node id that runs on a machine, and checks that an id belongs to one disk, for ever (P6).
    pub fn record_id(&self, name: &str, id: u64) {
        let disk = (name.to_owned(), self.machine(name).generation.get());
        let first = self.ids.borrow_mut().entry(id).or_insert_with(|| disk.clone()).clone();
        self.promises.node_runs_on(id, name);
        if first != disk {
            self.violation(format!("node id {id} belonged to disk {first:?} and is now used on disk {disk:?}"));
        }
    }

    /// Records the digest of a node's state, and checks that replicas at one log index have the same state (P8).
    pub fn record_digest(&self, name: &str, index: u64, digest: [u8; 32]) {
        let mut digests = self.digests.borrow_mut();
        let (first, known) = digests.entry(index).or_insert_with(|| (name.to_owned(), digest));
        if *known != digest {
            self.violation(format!("the states of {first} and {name} differ at index {index}"));
        }
    }

    /// The number of terms that had a leader.
    pub fn terms_led(&self) -> usize {
        self.leaders.borrow().len()
    }

    /// Records a violation: a promise was broken. One is enough for the seed to fail.
    pub fn violation(&self, what: String) {
        tracing::error!(target: "simulation", "VIOLATION {what}");
        self.violations.borrow_mut().push(what);
    }

    /// All violations so far, those of [`Promises`] included.
    pub fn violations(&self) -> Vec<String> {
        for what in self.promises.take_violations() {
            self.violation(what);
        }
        self.violations.borrow().clone()
    }

    /// Counts something for the report. `fault:` and `change:` at the start name the group.
    pub fn count(&self, what: &'static str) {
        *self.counts.borrow_mut().entry(what).or_default() += 1;
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.borrow().clone()
    }

    /// The names of all members, as the newest leader reports them.
    pub fn members(&self) -> BTreeSet<String> {
        let report = self.newest_leader();
        report.map(|report| report.nodes.into_iter().map(|node| node.name).collect()).unwrap_or_default()
    }

    /// The report of the running leader with the highest term. A deposed leader that has not noticed it yet may still
    /// report itself, but in a lower term.
    pub fn newest_leader(&self) -> Option<GetMembershipResponse> {
        let running = self.machines.values().filter(|machine| *machine.state.borrow() == State::Running);
        let reports = running.filter_map(|machine| machine.report.borrow().clone());
        reports.filter(leads).max_by_key(|report| report.term)
    }
}

/// Whether the node that sent this report is the leader, by its own account.
pub fn leads(report: &GetMembershipResponse) -> bool {
    report.leader_id != 0 && report.leader_id == report.answered_by_id
}

impl Machine {
    /// A handle to the present disk: clones share the files.
    pub fn disks(&self) -> SimDisks {
        self.disks.borrow().clone()
    }

    /// Replaces the disk by a new, empty one.
    pub fn replace_disks(&self, seed: u64) {
        *self.disks.borrow_mut() = SimDisks::new(seed);
        self.generation.set(self.generation.get() + 1);
        self.has_bit_rot.set(false);
    }

    /// A copy of the present disk, and which disk that is.
    pub fn backup(&self) -> (u64, Image) {
        (self.generation.get(), self.disks().image())
    }

    /// Whether a copy is of the present disk.
    pub fn can_restore(&self, backup: &(u64, Image)) -> bool {
        backup.0 == self.generation.get() && !self.has_bit_rot()
    }

    /// Whether the node runs and trusts its disk, by its own account.
    pub fn is_trusted(&self) -> bool {
        let report = self.report.borrow();
        let own = report.as_ref().and_then(|said| said.nodes.iter().find(|node| node.node_id == said.answered_by_id));
        self.is_running() && own.is_some_and(|own| own.condition.is_empty())
    }

    /// Flips `bits` random bits of a file. The process must not run: a running one may hold the page in its cache.
    pub fn flip_bits(&self, file: &str, bits: u64, rng: &mut Rng) {
        self.has_bit_rot.set(true);
        self.disks().corrupt(file, |bytes| {
            for _ in 0..bits {
                let at = rng.within(0..bytes.len() as u64) as usize;
                bytes[at] ^= 1 << rng.within(0..8);
            }
        });
    }

    pub fn has_bit_rot(&self) -> bool {
        self.has_bit_rot.get()
    }

    /// Makes disk operations fail with `fault` until [`heal_disks`](Self::heal_disks).
    pub fn break_disks(&self, fault: Fault) {
        self.disk_problem.set(Some(DiskProblem::Failing));
        self.disks().fail(Some(fault));
    }

    /// Leaves `room` bytes free on the disk until [`heal_disks`](Self::heal_disks).
    pub fn fill_disks(&self, room: u64) {
        self.disk_problem.set(Some(DiskProblem::Full));
        let used = self.disks().used_bytes();
        self.disks().set_capacity(Some(used + room));
    }

    /// Ends the faults of the disk. The process may have met one already, so the problem stays on record.
    pub fn heal_disks(&self) {
        self.disks().fail(None);
        self.disks().set_capacity(None);
    }

    /// The fault that the disk has had since the process started, healed or not. It may explain why the process ends.
    pub fn disk_problem(&self) -> Option<DiskProblem> {
        self.disk_problem.get()
    }

    /// Repairs the disk for a process that is about to start: no disk fault explains its end from now on. After a
    /// hardware error the machine reboots, because until then reads may come from the page cache and show bytes which
    /// the disk does not hold (the fsync problem that PostgreSQL met in 2018).
    pub fn repair_disks(&self) {
        if self.disk_problem.take() == Some(DiskProblem::Failing) && self.disks().is_powered() {
            self.disks().power_off();
        }
        self.heal_disks();
        if !self.disks().is_powered() {
            self.disks().power_on();
        }
    }

    pub fn set_skew_ms(&self, ms: i64) {
        self.skew_ms.store(ms, Relaxed);
    }

    pub fn is_running(&self) -> bool {
        *self.state.borrow() == State::Running
    }
}

/// The address under which the node on machine `name` listens.
pub fn address(name: &str) -> Address {
    format!("{name}:{PORT}").parse().expect("a host name and a port")
}
