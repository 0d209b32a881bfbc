//! The nemesis (a word of Jepsen's): it injects faults of all kinds at random, and ends each after a while. What it
//! does and when follows from the seed.

use std::{collections::BTreeMap, time::Duration};

use quorate::{
    storage::testing::{Fault, GoBack, Image},
    wire::cluster::Role,
};

use crate::{cluster::Cluster, rng::Rng, world::State};

/// Every kind of fault, as it is counted in reports.
pub const FAULTS: [&str; 16] = [
    // SIGKILL: the process dies, the page cache survives.
    "kills",
    // The machine dies: unsynced writes are lost, kept or torn.
    "power cuts",
    // The power goes in the middle of a write or sync, not between two events.
    "power cuts at a step",
    "power cuts at a step of a newcomer",
    "all killed at once",
    "partitions",
    "isolations",
    "one-way cuts",
    "slow links",
    // Like a process under SIGSTOP: all its messages arrive, much later.
    "freezes",
    // Single connections end, while hosts and links live.
    "lost connections",
    "disk errors",
    "full disks",
    // A machine comes back on an earlier copy of its disk: it has forgotten what it promised since.
    "restored disks",
    "clock jumps",
    // Like SIGTERM: the node transfers leadership and stops cleanly.
    "graceful stops",
];

/// Upper bound of the duration of a fault.
const MAX_FAULT_MS: u64 = 8_000;
const DAY_MS: i64 = 86_400_000;
/// Upper bound of the pause between two faults.
const MAX_PAUSE_MS: u64 = 3_000;

/// Injects faults into a cluster.
///
/// Invariant: for every fault that does not end by itself there is a recovery in `recoveries`, so that at most
/// [`MAX_FAULT_MS`] pass until it ends. Faults may overlap, and one recovery of links ends all faults of links.
pub struct Nemesis {
    rng: Rng,
    /// When the next fault is due.
    next_ms: u64,
    /// What ends a fault, and when it is due.
    recoveries: Vec<(u64, Recovery)>,
    /// Copies of disks, by machine.
    backups: BTreeMap<String, (u64, Image)>,
    /// The machine that runs on a copy and is not trusted yet: one at a time, which any three voters must survive.
    restored: Option<String>,
}

/// Ends a fault.
enum Recovery {
    Restart(String),
    RepairLinks,
    ResetClock(String),
    HealDisks(String),
}

impl Nemesis {
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::of(seed, "nemesis"),
            next_ms: 0,
            recoveries: Vec::new(),
            backups: BTreeMap::new(),
            restored: None,
        }
    }

    /// Ends and injects the faults that are due now. To be called at every tick.
    pub fn step(&mut self, cluster: &mut Cluster) {
        let now = cluster.world.elapsed_ms();
        self.schedule_restarts(cluster, now);
        while let Some(at) = self.recoveries.iter().position(|(due, _)| *due <= now) {
            match self.recoveries.swap_remove(at).1 {
                Recovery::Restart(name) => {
                    if !cluster.world.machine(&name).is_running() {
                        cluster.restart(&name);
                    }
                }
                Recovery::RepairLinks => cluster.repair_links(),
                Recovery::ResetClock(name) => cluster.world.machine(&name).set_skew_ms(0),
                Recovery::HealDisks(name) => cluster.world.machine(&name).heal_disks(),
            }
        }
        if now >= self.next_ms {
            self.inject(cluster, now);
            self.next_ms = now + self.rng.within(100..MAX_PAUSE_MS);
        }
    }

    /// Crashes machines whose power went at a chosen disk step, and schedules the restart of everything that is down:
    /// also of nodes that were stopped, removed or failed.
    fn schedule_restarts(&mut self, cluster: &mut Cluster, now: u64) {
        for name in cluster.world.names() {
            let machine = cluster.world.machine(&name);
            let lost_power = !machine.disks().is_powered() && machine.is_running();
            let state = machine.state.borrow().clone();
            if lost_power {
                cluster.crash(&name, true);
                self.restart_later(&name, now);
            } else if state != State::Running && !self.is_restart_scheduled(&name) {
                self.restart_later(&name, now);
            }
        }
    }

    fn is_restart_scheduled(&self, name: &str) -> bool {
        self.recoveries
            .iter()
            .any(|(_, recovery)| matches!(recovery, Recovery::Restart(scheduled) if scheduled == name))
    }

    fn restart_later(&mut self, name: &str, now: u64) {
        // Some are back before the others notice that they were away.
        let away = if self.rng.chance(15) { self.rng.within(0..150) } else { self.rng.within(50..6_000) };
        let due = now + away;
        self.recoveries.push((due, Recovery::Restart(name.to_owned())));
    }

    /// Picks a running machine. The leader is picked often, because most that can go wrong starts there.
    fn victim(&mut self, cluster: &Cluster) -> Option<String> {
        if self.rng.chance(40)
            && let Some(leader) = cluster.leader()
        {
            return Some(leader);
        }
        let running: Vec<String> =
            cluster.world.names().into_iter().filter(|name| cluster.world.machine(name).is_running()).collect();
        self.rng.pick(&running).cloned()
    }

    /// Injects one fault. Power cuts and partitions come most often.
    fn inject(&mut self, cluster: &mut Cluster, now: u64) {
        let Some(victim) = self.victim(cluster) else { return };
        let end = now + self.rng.within(200..MAX_FAULT_MS);
        if self.rng.chance(60) {
            self.backups.insert(victim.clone(), cluster.world.machine(&victim).backup());
        }
        match self.rng.within(0..112) {
            100.. => self.restore_a_backup(cluster, now),
            0..16 => self.crash(cluster, &victim, now),
            16..34 => {
                cluster.world.count("fault:power cuts at a step");
                cluster.world.machine(&victim).disks().power_off_after(self.rng.within(1..60));
            }
            34..38 => {
                cluster.world.count("fault:all killed at once");
                for name in cluster.world.names() {
                    if cluster.world.machine(&name).is_running() {
                        self.crash(cluster, &name, now);
                    }
                }
            }
            38..50 => self.partition(cluster, end),
            50..58 => self.isolate(cluster, &victim, end),
            58..62 => self.disturb_newcomer(cluster, end),
            62..72 => self.cut_one_way(cluster, &victim, end),
            72..79 => self.slow_down(cluster, &victim, end),
            79..84 => self.freeze(cluster, &victim, end),
            84..90 => self.fail_disks(cluster, victim, end),
            90..94 => {
                cluster.world.count("fault:clock jumps");
                // Days, but only one clock at a time: a majority of wrong clocks makes log time wrong, which is no bug.
                let alone = !self.recoveries.iter().any(|(_, recovery)| matches!(recovery, Recovery::ResetClock(_)));
                let days = alone && self.rng.chance(50);
                let sizes = if days { [2 * DAY_MS, 40 * DAY_MS] } else { [3_000, 3_500_000] };
                let victim = cluster.leader().filter(|_| days).unwrap_or(victim);
                let size = *self.rng.pick(&sizes).unwrap_or(&50);
                let skew = if self.rng.chance(50) { size } else { -size };
                cluster.world.machine(&victim).set_skew_ms(skew);
                self.recoveries.push((end, Recovery::ResetClock(victim)));
            }
            94..97 => self.reset_connections(cluster),
            _ => {
                cluster.world.count("fault:graceful stops");
                cluster.world.machine(&victim).stop.notify_one();
            }
        }
    }

    /// Lets a machine come back on an earlier copy of its disk; in half of the cases soon, and without the leader, so that
    /// the others need its vote.
    fn restore_a_backup(&mut self, cluster: &mut Cluster, now: u64) {
        self.restored = self.restored.take().filter(|name| !cluster.world.machine(name).is_trusted());
        let Some(report) = cluster.world.newest_leader().filter(|report| !report.joint) else { return };
        let voters: Vec<String> =
            report.nodes.iter().filter(|node| node.role() == Role::Voter).map(|node| node.name.clone()).collect();
        let usable = |(name, backup): &(&String, &(u64, Image))| voters.contains(name) && backup.1.holds("identity");
        let candidates: Vec<String> = self.backups.iter().filter(usable).map(|(name, _)| name.clone()).collect();
        let Some(name) = self.rng.pick(&candidates).cloned() else { return };
        if voters.len() < 3 || self.restored.is_some() {
            return;
        }
        if cluster.world.machine(&name).is_running() {
            self.crash(cluster, &name, now);
        }
        let disks = cluster.world.machine(&name).disks();
        if !cluster.world.machine(&name).can_restore(&self.backups[&name]) {
            return;
        }
        cluster.world.promises.forget(&name, &disks);
        disks.go_back(&self.backups[&name].1, GoBack::Copy);
        cluster.world.count("fault:restored disks");
        tracing::info!(target: "simulation", name, "its disk is restored from a copy");
        self.restored = Some(name.clone());
        if !self.rng.chance(50) {
            return;
        }
        let due = now + self.rng.within(0..300);
        self.recoveries.retain(|(_, recovery)| !matches!(recovery, Recovery::Restart(other) if *other == name));
        self.recoveries.push((due, Recovery::Restart(name)));
        if let Some(leader) = cluster.leader() {
            self.crash(cluster, &leader, now);
        }
    }

    /// Resets connections in the middle of what they carry. Each can be dialled again at once.
    fn reset_connections(&mut self, cluster: &Cluster) {
        cluster.world.count("fault:lost connections");
        let share = *self.rng.pick(&[5, 30, 100]).unwrap_or(&100);
        tracing::info!(target: "simulation", share, "connections reset");
        cluster.world.connections.reset(|| self.rng.chance(share));
    }

    /// Isolates a learner, or a machine that is about to become one, or cuts its power at one of its next disk steps.
    fn disturb_newcomer(&mut self, cluster: &mut Cluster, end: u64) {
        let voters = cluster.names_with_role(Role::Voter);
        let running = |name: &String| !voters.contains(name) && cluster.world.machine(name).is_running();
        let newcomers: Vec<String> = cluster.world.names().into_iter().filter(running).collect();
        let Some(name) = self.rng.pick(&newcomers).cloned() else { return };
        if self.rng.chance(50) {
            return self.isolate(cluster, &name, end);
        }
        cluster.world.count("fault:power cuts at a step of a newcomer");
        cluster.world.machine(&name).disks().power_off_after(self.rng.within(1..30));
    }

    /// Holds back all messages to and from a machine for a while; then all of them arrive, late.
    fn freeze(&mut self, cluster: &Cluster, victim: &str, end: u64) {
        cluster.world.count("fault:freezes");
        tracing::info!(target: "simulation", victim, "frozen");
        cluster.freeze(victim);
        self.recoveries.push((end, Recovery::RepairLinks));
    }

    /// Makes disk operations fail, or fills the disk. Three in ten are full, the others fail in one of the ways of
    /// [`Fault`]. A full disk may still take some writes first.
    fn fail_disks(&mut self, cluster: &Cluster, victim: String, end: u64) {
        let machine = cluster.world.machine(&victim);
        let fault = if self.rng.chance(70) { self.rng.pick(&Fault::ALL).copied() } else { None };
        tracing::info!(target: "simulation", victim, ?fault, "disk fault");
        match fault {
            Some(fault) => {
                cluster.world.count("fault:disk errors");
                machine.break_disks(fault);
            }
            None => {
                cluster.world.count("fault:full disks");
                machine.fill_disks(self.rng.within(0..200_000));
            }
        }
        self.recoveries.push((end, Recovery::HealDisks(victim)));
    }

    /// Kills a process or cuts its power.
    fn crash(&mut self, cluster: &mut Cluster, name: &str, now: u64) {
        let power = self.rng.chance(60);
        cluster.world.count(if power { "fault:power cuts" } else { "fault:kills" });
        cluster.crash(name, power);
        self.restart_later(name, now);
    }

    /// Splits all hosts into two random groups that cannot reach each other.
    fn partition(&mut self, cluster: &Cluster, end: u64) {
        cluster.world.count("fault:partitions");
        let (left, right): (Vec<_>, Vec<_>) = cluster.hosts().into_iter().partition(|_| self.rng.chance(50));
        tracing::info!(target: "simulation", ?left, ?right, "partition");
        for a in &left {
            right.iter().for_each(|b| cluster.cut_both(a, b));
        }
        self.recoveries.push((end, Recovery::RepairLinks));
    }

    /// Cuts a machine off from all other machines. Its users still reach it.
    fn isolate(&mut self, cluster: &Cluster, victim: &str, end: u64) {
        cluster.world.count("fault:isolations");
        tracing::info!(target: "simulation", victim, "isolated");
        for other in cluster.world.names().iter().filter(|other| *other != victim) {
            cluster.cut_both(victim, other);
        }
        self.recoveries.push((end, Recovery::RepairLinks));
    }

    /// Cuts the links of a machine in one direction: it cannot send (`mute`), or cannot receive.
    fn cut_one_way(&mut self, cluster: &Cluster, victim: &str, end: u64) {
        cluster.world.count("fault:one-way cuts");
        let (mute, all) = (self.rng.chance(50), self.rng.chance(50));
        tracing::info!(target: "simulation", victim, mute, all, "cut one way");
        for other in cluster.world.names().iter().filter(|other| *other != victim) {
            if all || self.rng.chance(40) {
                if mute { cluster.cut(victim, other) } else { cluster.cut(other, victim) }
            }
        }
        self.recoveries.push((end, Recovery::RepairLinks));
    }

    /// Raises the latency of all links of a machine.
    fn slow_down(&mut self, cluster: &Cluster, victim: &str, end: u64) {
        cluster.world.count("fault:slow links");
        let slowest = Duration::from_millis(self.rng.within(50..800));
        for other in cluster.world.names().iter().filter(|other| *other != victim) {
            cluster.slow_down(victim, other, slowest);
        }
        self.recoveries.push((end, Recovery::RepairLinks));
    }
}
