//! A cluster under turmoil: machines, users, operators and the judge on one network, one thread and one clock.
//!
//! It knows how to hurt and how to heal; when to do so is decided by the nemesis ([`crate::nemesis`]) or by a scenario.

use std::{
    fs,
    future::{Future, pending},
    rc::Rc,
    sync::Mutex,
    time::Duration,
};

use futures::future::join_all;
use quorate::config::SnapshotPolicy;
use tokio::time::sleep;

use crate::{
    judge::judge,
    libc_hooks,
    notes::Notes,
    operator::{Operator, serve},
    operator_tasks::TaskQueue,
    replica,
    rng::Rng,
    users::User,
    world::{State, World},
};

/// Step of simulated time, in scenarios. Messages arrive only at multiples of it.
const TICK: Duration = Duration::from_millis(2);
/// Bounds of a message's latency while no fault slows its link down.
const MIN_LATENCY: Duration = Duration::from_millis(1);
const MAX_LATENCY: Duration = Duration::from_millis(12);
/// Upper bound of the age of a node's report: nodes are asked every 20 ms, at their own ticks.
pub const REPORT_AGE: Duration = Duration::from_millis(50);
/// Interval at which the judge looks whether all users have finished.
const POLL: Duration = Duration::from_millis(50);
/// Segments that may be under way on one connection. With turmoil's default, 64, a link that holds messages back would
/// soon block its writers.
const TCP_CAPACITY: usize = 4096;
/// Far more than any run takes; turmoil wants a bound.
const MAX_SIMULATED: Duration = Duration::from_secs(100_000);

/// Panics of this process. tokio catches the panic of a task, so without this nobody would notice it.
pub static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The size and the settings of a simulated cluster.
#[derive(Debug, Clone)]
pub struct Plan {
    /// All machines, the spare ones included.
    pub machines: usize,
    /// Members of the cluster when the faults start.
    pub nodes: usize,
    pub users: usize,
    /// Operators who change the membership at random all the time.
    pub random_operators: usize,
    pub snapshots: SnapshotPolicy,
    /// Step of simulated time. A long tick is cheaper, and lets more happen at the same moment.
    pub tick: Duration,
}

impl Plan {
    /// A cluster for scenarios: `nodes` voters, `spare` further machines, and no operator who acts unasked.
    pub fn of(nodes: usize, spare: usize) -> Self {
        let snapshots = SnapshotPolicy { entries: 60, keep: 10 };
        Self { machines: nodes + spare, nodes, users: 3, random_operators: 0, snapshots, tick: TICK }
    }

    /// The same plan with a snapshot every `entries` entries, and no log kept behind it.
    pub fn snapshots(mut self, entries: u64) -> Self {
        self.snapshots = SnapshotPolicy { entries, keep: 0 };
        self
    }

    /// A random plan: three nodes or five, one operator or two, snapshots seldom or all the time, a short tick or a
    /// long one.
    pub fn random(seed: u64) -> Self {
        let mut rng = Rng::of(seed, "plan");
        let nodes = if rng.chance(30) { 3 } else { 5 };
        let (entries, keep) = *rng.pick(&[(60, 10), (60, 10), (20, 0), (400, 50)]).expect("not empty");
        let random_operators = if rng.chance(30) { 2 } else { 1 };
        let snapshots = SnapshotPolicy { entries, keep };
        let tick = Duration::from_millis(*rng.pick(&[2, 4, 4, 4]).expect("not empty"));
        Self { machines: nodes + 2, nodes, users: 3, random_operators, snapshots, tick }
    }
}

/// The whole simulation. Time passes only in [`step`](Self::step).
///
/// Invariants:
/// - turmoil's clock, the world's and the one of [`libc_hooks`] show the same time during a step.
/// - A machine whose host was crashed is not `Running` in the world, and the other way round; only a machine whose
///   power went at a chosen disk step may run on until somebody notices.
/// - No thread starts while the simulation runs: its timing would not follow from the seed.
/// - After the first violation no more simulated time passes than the current step.
pub struct Cluster {
    pub world: Rc<World>,
    pub notes: Rc<Notes>,
    pub users: Vec<String>,
    sim: turmoil::Sim<'static>,
    /// Threads of this process; more are a violation.
    threads: usize,
    /// The faults are over: a process that ends is started again at once.
    is_healing: bool,
    /// Tasks that a scenario gives to operators.
    pub tasks: Rc<TaskQueue>,
}

impl Cluster {
    /// Creates all hosts. Once time passes, the first node founds the cluster, an operator grows it, and users start to
    /// work; see [`wait_until_grown`](Self::wait_until_grown).
    pub fn start(seed: u64, plan: &Plan) -> Self {
        let threads = threads();
        let names: Vec<String> = (1..=plan.machines).map(|at| format!("n{at}")).collect();
        let users: Vec<String> = ["alice", "bob", "carol", "dave", "erin"].map(String::from)[..plan.users].to_vec();
        let world = World::new(seed, &names, plan.snapshots);
        let notes = Rc::new(Notes::default());
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .epoch(std::time::UNIX_EPOCH + Duration::from_nanos(libc_hooks::EPOCH_NS))
            .tick_duration(plan.tick)
            .simulation_duration(MAX_SIMULATED)
            .min_message_latency(MIN_LATENCY)
            .max_message_latency(MAX_LATENCY)
            .tcp_capacity(TCP_CAPACITY)
            .enable_random_order()
            .build();
        let mut cluster = Self { world, notes, users, sim, threads, is_healing: false, tasks: Rc::default() };
        cluster.world.set_elapsed(Duration::ZERO);
        for name in names {
            let world = cluster.world.clone();
            cluster.host(&name.clone(), move || replica::run(world.clone(), name.clone()));
        }
        cluster.add_clients(plan);
        cluster
    }

    /// Adds the hosts of users, judge and operators. The order of hosts is part of what a seed means.
    fn add_clients(&mut self, plan: &Plan) {
        for name in self.users.clone() {
            let (world, notes, users) = (self.world.clone(), self.notes.clone(), self.users.clone());
            self.host(&name.clone(), move || User::new(world.clone(), notes.clone(), &name, &users).run());
        }
        let (world, notes, users) = (self.world.clone(), self.notes.clone(), self.users.clone());
        self.host("judge", move || {
            let (world, notes, users) = (world.clone(), notes.clone(), users.clone());
            async move {
                while notes.done.borrow().len() < users.len() {
                    sleep(POLL).await;
                }
                judge(&world, &notes, &users).await;
                world.is_judged.set(true);
                pending().await
            }
        });
        let (world, plan, tasks) = (self.world.clone(), plan.clone(), self.tasks.clone());
        self.host("operator", move || run_operators(world.clone(), plan.clone(), tasks.clone()));
    }

    /// Adds a host. `software` starts its process, again after each restart.
    fn host<Fut: Future<Output = ()> + 'static>(&mut self, name: &str, software: impl Fn() -> Fut + 'static) {
        self.sim.host(name, move || {
            let running = software();
            async move {
                running.await;
                Ok(())
            }
        });
    }

    /// Lets one tick pass on every host, and checks what holds at any time.
    pub fn step(&mut self) {
        self.world.set_elapsed(self.sim.elapsed());
        if self.is_healing {
            self.restart_what_is_down();
        }
        if let Err(error) = self.sim.step() {
            self.world.violation(format!("the simulation failed: {error}"));
        }
        for panic in PANICS.lock().map(|mut panics| std::mem::take(&mut *panics)).unwrap_or_default() {
            // redb panics on some corrupt pages. The product catches this and ends the process with an error.
            let has_bit_rot = self.world.names().iter().any(|name| self.world.machine(name).has_bit_rot());
            if !(has_bit_rot && panic.contains("redb")) {
                self.world.violation(format!("a task panicked: {panic}"));
            }
        }
        // Once per simulated second is enough, since reading /proc is slow.
        if self.world.elapsed_ms().is_multiple_of(1_000) && threads() > self.threads {
            self.world.violation("a thread was started inside the simulation".into());
            self.threads = threads();
        }
    }

    /// Lets simulated time pass until `fact` holds. Returns false if it does not hold within `bound`, or after a
    /// violation.
    pub fn run_until(&mut self, bound: Duration, mut fact: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.sim.elapsed() + bound;
        while !fact(self) {
            if self.sim.elapsed() >= end || self.is_broken() {
                return false;
            }
            self.step();
        }
        true
    }

    /// Lets simulated time pass.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Like [`run_until`](Self::run_until), but a fact that does not come true in time is a violation. `what` describes
    /// it.
    pub fn expect(&mut self, what: &str, bound: Duration, fact: impl FnMut(&mut Self) -> bool) {
        if !self.run_until(bound, fact) && !self.is_broken() {
            let status = self.status();
            self.world.violation(format!("did not happen within {} s: {what}\n{status}", bound.as_secs()));
        }
    }

    /// Whether there was a violation.
    pub fn is_broken(&self) -> bool {
        !self.world.violations().is_empty()
    }

    pub fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Kills the process on a machine, or (`power`) cuts its power: then unsynced writes are lost, kept or torn, as the
    /// seed decides.
    pub fn crash(&mut self, name: &str, power: bool) {
        tracing::info!(target: "simulation", name, power, "crash");
        let machine = self.world.machine(name);
        if power {
            machine.disks().power_off();
        } else {
            machine.disks().kill();
        }
        *machine.state.borrow_mut() = State::Down;
        *machine.report.borrow_mut() = None;
        self.sim.crash(name);
    }

    /// Starts the process on a machine again, with its disk repaired. A removed node gets an empty disk, and so becomes
    /// a new node.
    pub fn restart(&mut self, name: &str) {
        tracing::info!(target: "simulation", name, "restart");
        if *self.world.machine(name).state.borrow() == State::Removed {
            self.wipe(name);
        }
        self.restart_on_its_disk(name);
    }

    /// Starts the process on a machine again with the disk that it has, even if its node was removed.
    pub fn restart_on_its_disk(&mut self, name: &str) {
        self.world.machine(name).repair_disks();
        self.sim.bounce(name);
    }

    /// Gives a machine a new, empty disk. No process may run on it.
    pub fn wipe(&self, name: &str) {
        let machine = self.world.machine(name);
        machine.disks().kill();
        machine.replace_disks(self.world.seed ^ self.world.elapsed_ms());
    }

    /// Loses everything that is sent from `a` to `b`, until [`repair_links`](Self::repair_links).
    pub fn cut(&self, a: &str, b: &str) {
        self.sim.partition_oneway(a, b);
    }

    /// Loses everything between the two, in both directions, until [`repair_links`](Self::repair_links).
    pub fn cut_both(&self, a: &str, b: &str) {
        self.sim.partition(a, b);
    }

    /// Holds back everything between the two, messages under way included, until [`repair_links`](Self::repair_links).
    pub fn hold(&self, a: &str, b: &str) {
        self.sim.hold(a, b);
    }

    /// Raises the upper bound of the latency between the two.
    pub fn slow_down(&self, a: &str, b: &str, slowest: Duration) {
        self.sim.set_link_max_message_latency(a, b, slowest);
    }

    /// The names of all hosts but the judge, whom no fault reaches.
    pub fn hosts(&self) -> Vec<String> {
        let clients = self.users.iter().cloned().chain(["operator".to_owned()]);
        self.world.names().into_iter().chain(clients).collect()
    }

    /// Makes all links whole and fast again. What was held back arrives now.
    pub fn repair_links(&self) {
        let hosts = self.hosts();
        for (at, a) in hosts.iter().enumerate() {
            for b in &hosts[at + 1..] {
                self.sim.release(a.as_str(), b.as_str());
                self.slow_down(a, b, MAX_LATENCY);
            }
        }
    }

    /// Ends all faults, and checks all promises: the cluster heals within a bound (P2), and the judge finds no
    /// violation.
    pub fn heal_and_judge(&mut self) {
        tracing::info!(target: "simulation", "the faults are over");
        self.is_healing = true;
        self.world.workload_stopped.set(true);
        self.repair_links();
        for name in self.world.names() {
            let machine = self.world.machine(&name);
            machine.set_skew_ms(0);
            machine.disks().keep_power();
            machine.heal_disks();
            // A process that has met a disk fault may be about to end because of it: restart it now.
            let is_sound = machine.disks().is_powered() && machine.disk_problem().is_none();
            if machine.is_running() && !is_sound {
                self.crash(&name, true);
            }
        }
        let has_leader =
            |cluster: &mut Self| cluster.world.newest_leader().is_some_and(|report| report.has_quorum && !report.joint);
        self.expect("one leader with a quorum and a uniform membership", Duration::from_secs(30), has_leader);
        self.world.is_healed.set(true);
        let all = self.users.len();
        let all_done = |cluster: &mut Self| cluster.notes.done.borrow().len() == all;
        self.expect("every user has settled its open calls and written again", Duration::from_secs(60), all_done);
        self.expect("the judge has finished", Duration::from_secs(120), |cluster| cluster.world.is_judged.get());
    }

    /// Starts every process that does not run, also one that was still stopping when the faults ended.
    fn restart_what_is_down(&mut self) {
        for name in self.world.names() {
            if !self.world.machine(&name).is_running() {
                self.restart(&name);
            }
        }
    }

    /// The machine of the running leader with the highest term.
    pub fn leader(&self) -> Option<String> {
        self.world.newest_leader().map(|report| report.answered_by)
    }

    /// Messages acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.notes.acknowledged()
    }

    /// The state of every machine, one line each, for people.
    pub fn status(&self) -> String {
        let line = |name: String| {
            let machine = self.world.machine(&name);
            let state = format!("{:?}", machine.state.borrow());
            let report = machine.report.borrow().as_ref().map(|report| {
                let nodes: Vec<_> = report.nodes.iter().map(|node| format!("{}:{}", node.name, node.role)).collect();
                let (id, term, leader) = (report.answered_by_id, report.term, report.leader_id);
                let (applied, joint) = (report.applied_index, report.joint);
                format!("id {id} term {term} leader {leader} applied {applied} joint {joint} {nodes:?}")
            });
            format!("  {name} {state} {}", report.unwrap_or_default())
        };
        self.world.names().into_iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Waits until the cluster has the size of its plan and every user is at work.
    pub fn wait_until_grown(mut self) -> Self {
        let all = self.users.len();
        let ready = |cluster: &mut Self| cluster.world.is_grown.get() && cluster.notes.present.borrow().len() == all;
        self.expect("the cluster has grown", Duration::from_secs(120), ready);
        // Reports may be older than the end of the growth.
        self.run_for(REPORT_AGE);
        self
    }
}

/// The operators: the first grows the cluster; then the random ones and those of the scenario work at the same time.
async fn run_operators(world: Rc<World>, plan: Plan, tasks: Rc<TaskQueue>) {
    Operator::new(world.clone(), "grower").grow(plan.nodes).await;
    world.is_grown.set(true);
    // The names of random streams: another one would change what seeds do.
    let operator = |number| Operator::new(world.clone(), &format!("meddler {number}"));
    let random = (1..=plan.random_operators).map(|number| operator(number).run_random_tasks());
    tokio::join!(join_all(random), serve(tasks, world.clone()));
}

/// The number of threads of this process.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}
