//! A cluster under turmoil: machines, users and an operator on one network, one thread and one clock.

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
    errands::Errands,
    judge::judge,
    notes::Notes,
    operator::Operator,
    replica,
    rng::Rng,
    users::User,
    world::{State, World},
};

/// How far time goes at once, for scenarios. Messages arrive at such moments only.
const TICK: Duration = Duration::from_millis(2);
const FASTEST: Duration = Duration::from_millis(1);
pub const SLOWEST: Duration = Duration::from_millis(12);
/// Within this the world has noted what a node says of itself.
pub const NOTED: Duration = Duration::from_millis(50);

/// Panics of this process: a task that panics ends quietly otherwise.
pub static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Machines, of which some are spare.
    pub machines: usize,
    /// Nodes of the cluster when the faults begin.
    pub nodes: usize,
    pub users: usize,
    /// Operators who change the membership all the while.
    pub meddlers: usize,
    pub snapshots: SnapshotPolicy,
    /// How far time goes at once: a long tick is cheaper, and lets more happen at the same moment.
    pub tick: Duration,
}

impl Plan {
    /// Three voters and spare machines, for scenarios: nobody changes anything unasked.
    pub fn of(nodes: usize, spare: usize) -> Self {
        let snapshots = SnapshotPolicy { entries: 60, keep: 10 };
        Self { machines: nodes + spare, nodes, users: 3, meddlers: 0, snapshots, tick: TICK }
    }

    /// The same with a snapshot every so many entries, and no log kept behind it.
    pub fn snapshots(mut self, entries: u64) -> Self {
        self.snapshots = SnapshotPolicy { entries, keep: 0 };
        self
    }

    /// What a seed plays with: three nodes or five, one operator or two, snapshots seldom or all the time, a short tick
    /// or a long one.
    pub fn drawn(seed: u64) -> Self {
        let mut rng = Rng::of(seed, "plan");
        let nodes = if rng.chance(30) { 3 } else { 5 };
        let (entries, keep) = *rng.pick(&[(60, 10), (60, 10), (20, 0), (400, 50)]).expect("not empty");
        let meddlers = if rng.chance(30) { 2 } else { 1 };
        let snapshots = SnapshotPolicy { entries, keep };
        let tick = Duration::from_millis(*rng.pick(&[2, 4, 4, 4]).expect("not empty"));
        Self { machines: nodes + 2, nodes, users: 3, meddlers, snapshots, tick }
    }
}

pub struct Cluster {
    pub world: Rc<World>,
    pub notes: Rc<Notes>,
    pub users: Vec<String>,
    sim: turmoil::Sim<'static>,
    threads: usize,
    /// The faults are over: whatever process ends is started again.
    mending: bool,
    /// What operators are asked to do, by a scenario.
    pub errands: Rc<Errands>,
}

impl Cluster {
    /// Founds a cluster and grows it to its size, with users at work. No faults yet.
    pub fn start(seed: u64, plan: &Plan) -> Self {
        let threads = threads();
        let names: Vec<String> = (1..=plan.machines).map(|at| format!("n{at}")).collect();
        let users: Vec<String> = ["alice", "bob", "carol", "dave", "erin"].map(String::from)[..plan.users].to_vec();
        let world = World::new(seed, &names, plan.snapshots);
        let notes = Rc::new(Notes::default());
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .epoch(std::time::UNIX_EPOCH + Duration::from_nanos(crate::tame::EPOCH_NS))
            .tick_duration(plan.tick)
            .simulation_duration(Duration::from_secs(100_000))
            .min_message_latency(FASTEST)
            .max_message_latency(SLOWEST)
            .tcp_capacity(4096)
            .enable_random_order()
            .build();
        let mut cluster = Self { world, notes, users, sim, threads, mending: false, errands: Rc::default() };
        cluster.world.set_elapsed(Duration::ZERO);
        for name in names {
            let world = cluster.world.clone();
            cluster.host(&name.clone(), move || replica::run(world.clone(), name.clone()));
        }
        cluster.add_people(plan);
        cluster
    }

    fn add_people(&mut self, plan: &Plan) {
        for name in self.users.clone() {
            let (world, notes, users) = (self.world.clone(), self.notes.clone(), self.users.clone());
            self.host(&name.clone(), move || User::new(world.clone(), notes.clone(), &name, &users).live());
        }
        let (world, notes, users) = (self.world.clone(), self.notes.clone(), self.users.clone());
        self.host("judge", move || {
            let (world, notes, users) = (world.clone(), notes.clone(), users.clone());
            async move {
                while notes.done.borrow().len() < users.len() {
                    sleep(Duration::from_millis(50)).await;
                }
                judge(&world, &notes, &users).await;
                world.judged.set(true);
                pending().await
            }
        });
        let (world, plan, errands) = (self.world.clone(), plan.clone(), self.errands.clone());
        self.host("operator", move || operate(world.clone(), plan.clone(), errands.clone()));
    }

    fn host<Fut: Future<Output = ()> + 'static>(&mut self, name: &str, software: impl Fn() -> Fut + 'static) {
        self.sim.host(name, move || {
            let running = software();
            async move {
                running.await;
                Ok(())
            }
        });
    }

    /// One tick of everything.
    pub fn step(&mut self) {
        self.world.set_elapsed(self.sim.elapsed());
        if self.mending {
            self.revive();
        }
        if let Err(error) = self.sim.step() {
            self.world.violation(format!("the simulation broke: {error}"));
        }
        for panic in PANICS.lock().map(|mut panics| std::mem::take(&mut *panics)).unwrap_or_default() {
            // redb panics at some damage; the product makes an error of that, which ends the process on that machine.
            let rotten = self.world.names().iter().any(|name| self.world.machine(name).is_rotten());
            if !(rotten && panic.contains("redb")) {
                self.world.violation(format!("a panic: {panic}"));
            }
        }
        if self.world.elapsed_ms().is_multiple_of(1_000) && threads() > self.threads {
            self.world.violation("a thread was started inside the simulation".into());
            self.threads = threads();
        }
    }

    /// Lets simulated time pass until `fact` holds; says whether it came to hold within `bound`, unless something is
    /// broken already.
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

    pub fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// As [`run_until`](Self::run_until); that it does not come to hold is a violation.
    pub fn expect(&mut self, what: &str, bound: Duration, fact: impl FnMut(&mut Self) -> bool) {
        if !self.run_until(bound, fact) && !self.is_broken() {
            let status = self.status();
            self.world.violation(format!("not within {} s: {what}\n{status}", bound.as_secs()));
        }
    }

    pub fn is_broken(&self) -> bool {
        !self.world.violations().is_empty()
    }

    pub fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Kills the process on a machine; with `power`, what its disk had not synced is at the seed's mercy.
    pub fn crash(&mut self, name: &str, power: bool) {
        tracing::info!(target: "simulation", name, power, "crash");
        let machine = self.world.machine(name);
        if power {
            machine.disks().power_off();
        } else {
            machine.disks().kill();
        }
        *machine.state.borrow_mut() = State::Down;
        *machine.said.borrow_mut() = None;
        self.sim.crash(name);
    }

    /// Starts the process on a machine again, with its disks mended. One that was removed starts with an empty disk.
    pub fn restart(&mut self, name: &str) {
        tracing::info!(target: "simulation", name, "restart");
        if *self.world.machine(name).state.borrow() == State::Removed {
            self.wipe(name);
        }
        self.restart_on_its_disk(name);
    }

    /// Starts the process on a machine again with the disk that it has, whatever became of it.
    pub fn restart_on_its_disk(&mut self, name: &str) {
        self.world.machine(name).mend_disks();
        self.sim.bounce(name);
    }

    /// Gives a machine on which nothing runs a new, empty disk.
    pub fn wipe(&self, name: &str) {
        let machine = self.world.machine(name);
        machine.disks().kill();
        machine.new_disks(self.world.seed ^ self.world.elapsed_ms());
    }

    /// Whatever is sent from `a` to `b` is lost from now on.
    pub fn cut(&self, a: &str, b: &str) {
        self.sim.partition_oneway(a, b);
    }

    pub fn cut_both(&self, a: &str, b: &str) {
        self.sim.partition(a, b);
    }

    /// Whatever is on its way between the two, and whatever is sent from now on, waits for [`mend`](Self::mend_links).
    pub fn hold(&self, a: &str, b: &str) {
        self.sim.hold(a, b);
    }

    pub fn slow_down(&self, a: &str, b: &str, slowest: Duration) {
        self.sim.set_link_max_message_latency(a, b, slowest);
    }

    pub fn hosts(&self) -> Vec<String> {
        let people = self.users.iter().cloned().chain(["operator".to_owned()]);
        self.world.names().into_iter().chain(people).collect()
    }

    /// All links are whole and fast again; what was held arrives.
    pub fn mend_links(&self) {
        let hosts = self.hosts();
        for (at, a) in hosts.iter().enumerate() {
            for b in &hosts[at + 1..] {
                self.sim.release(a.as_str(), b.as_str());
                self.slow_down(a, b, SLOWEST);
            }
        }
    }

    /// Ends all faults, and holds the cluster to its promises: it heals within a bound, and nothing is wrong.
    pub fn conclude(&mut self) {
        tracing::info!(target: "simulation", "the faults are over");
        self.mending = true;
        self.world.calm.set(true);
        self.mend_links();
        for name in self.world.names() {
            let machine = self.world.machine(&name);
            machine.set_skew_ms(0);
            machine.disks().keep_power();
            machine.heal_disks();
            // A process that has met a fault of its disk may be about to end.
            let sound = machine.disks().is_powered() && machine.ailment().is_none();
            if machine.is_running() && !sound {
                self.crash(&name, true);
            }
        }
        let has_leader =
            |cluster: &mut Self| cluster.world.newest_leader().is_some_and(|said| said.has_quorum && !said.joint);
        self.expect("one leader with a quorum and a uniform membership", Duration::from_secs(30), has_leader);
        self.world.healed.set(true);
        let all = self.users.len();
        let written = |cluster: &mut Self| cluster.notes.done.borrow().len() == all;
        self.expect("every user has written afresh", Duration::from_secs(60), written);
        self.expect("everything is judged", Duration::from_secs(120), |cluster| cluster.world.judged.get());
    }

    /// Starts what does not run, be it that it was still stopping when the faults ended.
    fn revive(&mut self) {
        for name in self.world.names() {
            if !self.world.machine(&name).is_running() {
                self.restart(&name);
            }
        }
    }

    /// The name of the leader of the newest term that runs.
    pub fn leader(&self) -> Option<String> {
        self.world.newest_leader().map(|said| said.answered_by)
    }

    /// Messages acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.notes.acknowledged()
    }

    /// Lines for people about each machine.
    pub fn status(&self) -> String {
        let line = |name: String| {
            let machine = self.world.machine(&name);
            let state = format!("{:?}", machine.state.borrow());
            let said = machine.said.borrow().as_ref().map(|said| {
                let nodes: Vec<_> = said.nodes.iter().map(|node| format!("{}:{}", node.name, node.role)).collect();
                let (id, term, leader, applied) = (said.answered_by_id, said.term, said.leader_id, said.applied_index);
                format!("id {id} term {term} leader {leader} applied {applied} joint {} {nodes:?}", said.joint)
            });
            format!("  {name} {state} {}", said.unwrap_or_default())
        };
        self.world.names().into_iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Waits until the cluster has grown to its size and every user is at work.
    pub fn grown(mut self) -> Self {
        let all = self.users.len();
        let ready = |cluster: &mut Self| cluster.world.grown.get() && cluster.notes.present.borrow().len() == all;
        self.expect("the cluster has grown", Duration::from_secs(120), ready);
        // What its nodes say of themselves is noted now and then.
        self.run_for(NOTED);
        self
    }
}

async fn operate(world: Rc<World>, plan: Plan, errands: Rc<Errands>) {
    Operator::new(world.clone(), "grower").grow(plan.nodes).await;
    world.grown.set(true);
    let meddling = (1..=plan.meddlers).map(|at| Operator::new(world.clone(), &format!("meddler {at}")).meddle());
    tokio::join!(join_all(meddling), errands.serve(world.clone()));
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}
