//! What outlives every host of a simulation: disks, clocks, and the notes from which it is judged.

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
    storage::testing::{Fault, SimDisks},
    types::{Clock, Entropy},
    wire::{Address, cluster::GetMembershipResponse},
};
use tokio::sync::Notify;

use crate::{
    net::{PORT, Wires},
    promises::Promises,
    rng::Rng,
    tame,
};

/// Shared between the hosts, the nemesis and the judge. All on one thread.
pub struct World {
    pub seed: u64,
    /// When every node snapshots its state.
    pub snapshots: SnapshotPolicy,
    elapsed_ms: Arc<AtomicU64>,
    machines: BTreeMap<String, Machine>,
    /// Whoever led in a term, as itself said, and which start of its machine that was.
    leaders: RefCell<BTreeMap<u64, (u64, u64)>>,
    /// The disk on which each node id was first seen.
    ids: RefCell<BTreeMap<u64, (String, u64)>>,
    pub promises: Arc<Promises>,
    pub wires: Arc<Wires>,
    /// The digest at an index, as the first who was looked at there had it.
    digests: RefCell<BTreeMap<u64, (String, [u8; 32])>>,
    violations: RefCell<Vec<String>>,
    counts: RefCell<BTreeMap<&'static str, u64>>,
    /// Whether the cluster was ever founded: no second one may be.
    pub founded: Cell<bool>,
    /// The users stop starting operations.
    pub calm: Cell<bool>,
    /// The cluster has its size.
    pub grown: Cell<bool>,
    /// All that can be judged has been.
    pub judged: Cell<bool>,
    /// Faults are over: everything must heal from here.
    pub healed: Cell<bool>,
}

/// A machine that a node may run on.
pub struct Machine {
    disks: RefCell<SimDisks>,
    /// Counts the disks.
    generation: Cell<u64>,
    skew_ms: Arc<AtomicI64>,
    starts: Cell<u64>,
    ailment: Cell<Option<Ailment>>,
    /// Whether bits of its disk have flipped: whatever runs on it may end by that, until it has a new one.
    rotten: Cell<bool>,
    pub stop: Rc<Notify>,
    pub state: RefCell<State>,
    /// What the node said of itself lately.
    pub said: RefCell<Option<GetMembershipResponse>>,
}

/// What disks suffer from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ailment {
    Full,
    Broken,
}

/// How the process on a machine fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Running,
    Down,
    /// It ended by itself because the cluster removed it.
    Removed,
    /// It ended by itself because of its disk.
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
                ailment: Cell::default(),
                rotten: Cell::default(),
                stop: Rc::default(),
                state: RefCell::new(State::Down),
                said: RefCell::default(),
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
            wires: Arc::default(),
            digests: RefCell::default(),
            violations: RefCell::default(),
            counts: RefCell::default(),
            founded: Cell::new(false),
            calm: Cell::new(false),
            grown: Cell::new(false),
            judged: Cell::new(false),
            healed: Cell::new(false),
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

    pub fn set_elapsed(&self, elapsed: std::time::Duration) {
        self.elapsed_ms.store(elapsed.as_millis() as u64, Relaxed);
        tame::set_elapsed(elapsed.as_nanos() as u64);
    }

    pub fn elapsed_ms(&self) -> u64 {
        self.elapsed_ms.load(Relaxed)
    }

    /// The clock on the wall of `name`: true time for whoever is no machine.
    pub fn clock(&self, name: &str) -> Clock {
        let elapsed = self.elapsed_ms.clone();
        let skew = self.machines.get(name).map(|machine| machine.skew_ms.clone()).unwrap_or_default();
        Clock::new(move || {
            let now = tame::EPOCH_NS / 1_000_000 + elapsed.load(Relaxed);
            now.saturating_add_signed(skew.load(Relaxed))
        })
    }

    /// Randomness for `name`, another at each start.
    pub fn entropy(&self, name: &str) -> Entropy {
        let start = self.machines.get(name).map_or(0, |machine| machine.starts.replace(machine.starts.get() + 1));
        let rng = Mutex::new(Rng::of(self.seed, &format!("{name} {start}")));
        Entropy::new(move |bytes| rng.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes))
    }

    /// A term has one leader, for ever. And that it leads dies with its process (figure 2 of the Raft paper has no
    /// leadership among what is persistent): what it comes back without may have been promised by it in that term.
    pub fn note_leader(&self, name: &str, term: u64, id: u64) {
        let start = self.machine(name).starts.get();
        let (first, began) = *self.leaders.borrow_mut().entry(term).or_insert((id, start));
        if first != id {
            self.violation(format!("nodes {first} and {id} both led in term {term}"));
        } else if began != start {
            self.violation(format!("{name} came back and led on in term {term} without an election"));
        }
    }

    /// An id is given to one disk only, for ever (P6).
    pub fn note_id(&self, name: &str, id: u64) {
        let disk = (name.to_owned(), self.machine(name).generation.get());
        let first = self.ids.borrow_mut().entry(id).or_insert_with(|| disk.clone()).clone();
        self.promises.named(id, name);
        if first != disk {
            self.violation(format!("node id {id} was that of {first:?}, and is that of {disk:?}"));
        }
    }

    /// Replicas at one index have one state (P8).
    pub fn note_digest(&self, name: &str, index: u64, digest: [u8; 32]) {
        let mut digests = self.digests.borrow_mut();
        let (first, known) = digests.entry(index).or_insert_with(|| (name.to_owned(), digest));
        if *known != digest {
            self.violation(format!("{first} and {name} differ at index {index}"));
        }
    }

    pub fn terms_led(&self) -> usize {
        self.leaders.borrow().len()
    }

    pub fn violation(&self, what: String) {
        tracing::error!(target: "simulation", "VIOLATION {what}");
        self.violations.borrow_mut().push(what);
    }

    pub fn violations(&self) -> Vec<String> {
        for broken in self.promises.take_broken() {
            self.violation(broken);
        }
        self.violations.borrow().clone()
    }

    pub fn count(&self, what: &'static str) {
        *self.counts.borrow_mut().entry(what).or_default() += 1;
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.borrow().clone()
    }

    /// The membership as the newest leader that runs has it: names of its nodes.
    pub fn members(&self) -> BTreeSet<String> {
        let said = self.newest_leader();
        said.map(|said| said.nodes.into_iter().map(|node| node.name).collect()).unwrap_or_default()
    }

    /// What the running leader of the newest term says.
    pub fn newest_leader(&self) -> Option<GetMembershipResponse> {
        let running = self.machines.values().filter(|machine| *machine.state.borrow() == State::Running);
        let said = running.filter_map(|machine| machine.said.borrow().clone());
        said.filter(|said| said.leader_id != 0 && said.leader_id == said.answered_by_id).max_by_key(|said| said.term)
    }
}

impl Machine {
    pub fn disks(&self) -> SimDisks {
        self.disks.borrow().clone()
    }

    /// A new, empty disk in place of the old one.
    pub fn new_disks(&self, seed: u64) {
        *self.disks.borrow_mut() = SimDisks::new(seed);
        self.generation.set(self.generation.get() + 1);
        self.rotten.set(false);
    }

    /// Flips `bits` bits of a file, while nobody runs who would notice it.
    pub fn rot(&self, file: &str, bits: u64, rng: &mut Rng) {
        self.rotten.set(true);
        self.disks().corrupt(file, |bytes| {
            for _ in 0..bits {
                let at = rng.within(0..bytes.len() as u64) as usize;
                bytes[at] ^= 1 << rng.within(0..8);
            }
        });
    }

    pub fn is_rotten(&self) -> bool {
        self.rotten.get()
    }

    /// Lets operations on its disks fail until they are healed.
    pub fn break_disks(&self, fault: Fault) {
        self.ailment.set(Some(Ailment::Broken));
        self.disks().fail(Some(fault));
    }

    /// Leaves this much room on its disks until they are healed.
    pub fn fill_disks(&self, room: u64) {
        self.ailment.set(Some(Ailment::Full));
        let used = self.disks().used_bytes();
        self.disks().set_capacity(Some(used + room));
    }

    pub fn heal_disks(&self) {
        self.disks().fail(None);
        self.disks().set_capacity(None);
    }

    /// What its disks have suffered since the process started, healed or not: that may be why it ends.
    pub fn ailment(&self) -> Option<Ailment> {
        self.ailment.get()
    }

    /// Whole disks for a process that is about to start: whatever ends it now is its own. After an error of the
    /// hardware the machine is booted anew, for until then reads may show what the disk does not hold.
    pub fn mend_disks(&self) {
        if self.ailment.take() == Some(Ailment::Broken) && self.disks().is_powered() {
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

pub fn address(name: &str) -> Address {
    format!("{name}:{PORT}").parse().expect("a host name and a port")
}
