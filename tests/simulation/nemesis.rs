//! What goes wrong, and when: all of it follows from the seed.

use std::time::Duration;

use quorate::{storage::testing::Fault, wire::cluster::Role};

use crate::{cluster::Cluster, rng::Rng, world::State};

/// Every kind of harm, as it is counted.
pub const FAULTS: [&str; 15] = [
    "kills",
    "power cuts",
    "power cuts at a step",
    "power cuts at a step of a newcomer",
    "all killed at once",
    "partitions",
    "isolations",
    "one-way cuts",
    "slow links",
    "freezes",
    "lost connections",
    "disk errors",
    "full disks",
    "clock jumps",
    "graceful stops",
];

/// Does harm to a cluster, and ends it again after a while.
pub struct Nemesis {
    rng: Rng,
    next_ms: u64,
    /// What is to be ended, and when.
    debts: Vec<(u64, Debt)>,
}

enum Debt {
    Restart(String),
    Links,
    Clock(String),
    Disks(String),
}

impl Nemesis {
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::of(seed, "nemesis"), next_ms: 0, debts: Vec::new() }
    }

    /// Does what is due now.
    pub fn act(&mut self, cluster: &mut Cluster) {
        let now = cluster.world.elapsed_ms();
        self.notice_lost_power(cluster, now);
        while let Some(at) = self.debts.iter().position(|(due, _)| *due <= now) {
            match self.debts.swap_remove(at).1 {
                Debt::Restart(name) => {
                    if !cluster.world.machine(&name).is_running() {
                        cluster.restart(&name);
                    }
                }
                Debt::Links => cluster.mend_links(),
                Debt::Clock(name) => cluster.world.machine(&name).set_skew_ms(0),
                Debt::Disks(name) => cluster.world.machine(&name).heal_disks(),
            }
        }
        if now >= self.next_ms {
            self.harm(cluster, now);
            self.next_ms = now + self.rng.within(100..3_000);
        }
    }

    /// A machine whose power went at a chosen step dies there; one that was removed, or stopped, comes back.
    fn notice_lost_power(&mut self, cluster: &mut Cluster, now: u64) {
        for name in cluster.world.names() {
            let machine = cluster.world.machine(&name);
            let dead = !machine.disks().is_powered() && machine.is_running();
            let state = machine.state.borrow().clone();
            if dead {
                cluster.crash(&name, true);
                self.restart_later(&name, now);
            } else if state != State::Running && !self.is_owed(&name) {
                self.restart_later(&name, now);
            }
        }
    }

    fn is_owed(&self, name: &str) -> bool {
        self.debts.iter().any(|(_, debt)| matches!(debt, Debt::Restart(owed) if owed == name))
    }

    fn restart_later(&mut self, name: &str, now: u64) {
        // Some are back before the others miss them.
        let away = if self.rng.chance(15) { self.rng.within(0..150) } else { self.rng.within(50..6_000) };
        let due = now + away;
        self.debts.push((due, Debt::Restart(name.to_owned())));
    }

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

    fn harm(&mut self, cluster: &mut Cluster, now: u64) {
        let Some(victim) = self.victim(cluster) else { return };
        let end = now + self.rng.within(200..8_000);
        match self.rng.within(0..100) {
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
            38..50 => self.split(cluster, end),
            50..58 => self.isolate(cluster, &victim, end),
            58..62 => self.hold_up_a_newcomer(cluster, end),
            62..72 => self.cut_one_way(cluster, &victim, end),
            72..79 => self.slow_down(cluster, &victim, end),
            79..84 => self.freeze(cluster, &victim, end),
            84..90 => self.hurt_the_disks(cluster, victim, end),
            90..94 => {
                cluster.world.count("fault:clock jumps");
                let size = *self.rng.pick(&[50, 3_000, 60_000, 3_500_000]).unwrap_or(&50);
                let skew = if self.rng.chance(50) { size } else { -size };
                cluster.world.machine(&victim).set_skew_ms(skew);
                self.debts.push((end, Debt::Clock(victim)));
            }
            94..97 => self.lose_connections(cluster),
            _ => {
                cluster.world.count("fault:graceful stops");
                cluster.world.machine(&victim).stop.notify_one();
            }
        }
    }

    /// Connections end in the middle of whatever they carry; every one of them can be dialled again at once.
    fn lose_connections(&mut self, cluster: &Cluster) {
        cluster.world.count("fault:lost connections");
        let share = *self.rng.pick(&[5, 30, 100]).unwrap_or(&100);
        tracing::info!(target: "simulation", share, "connections are lost");
        cluster.world.wires.lose(|| self.rng.chance(share));
    }

    /// A learner, or a machine that is to become one, is cut off, dies or loses its power at one of its next steps.
    fn hold_up_a_newcomer(&mut self, cluster: &mut Cluster, end: u64) {
        let voters = cluster.named(Role::Voter);
        let running = |name: &String| !voters.contains(name) && cluster.world.machine(name).is_running();
        let newcomers: Vec<String> = cluster.world.names().into_iter().filter(running).collect();
        let Some(name) = self.rng.pick(&newcomers).cloned() else { return };
        if self.rng.chance(50) {
            return self.isolate(cluster, &name, end);
        }
        cluster.world.count("fault:power cuts at a step of a newcomer");
        cluster.world.machine(&name).disks().power_off_after(self.rng.within(1..30));
    }

    /// Nothing arrives or leaves for a while; then all of it does, late.
    fn freeze(&mut self, cluster: &Cluster, victim: &str, end: u64) {
        cluster.world.count("fault:freezes");
        tracing::info!(target: "simulation", victim, "frozen");
        cluster.freeze(victim);
        self.debts.push((end, Debt::Links));
    }

    fn hurt_the_disks(&mut self, cluster: &Cluster, victim: String, end: u64) {
        let machine = cluster.world.machine(&victim);
        let fault = if self.rng.chance(70) { self.rng.pick(&Fault::ALL).copied() } else { None };
        tracing::info!(target: "simulation", victim, ?fault, "its disks fail");
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
        self.debts.push((end, Debt::Disks(victim)));
    }

    fn crash(&mut self, cluster: &mut Cluster, name: &str, now: u64) {
        let power = self.rng.chance(60);
        cluster.world.count(if power { "fault:power cuts" } else { "fault:kills" });
        cluster.crash(name, power);
        self.restart_later(name, now);
    }

    fn split(&mut self, cluster: &Cluster, end: u64) {
        cluster.world.count("fault:partitions");
        let (left, right): (Vec<_>, Vec<_>) = cluster.hosts().into_iter().partition(|_| self.rng.chance(50));
        tracing::info!(target: "simulation", ?left, ?right, "split");
        for a in &left {
            right.iter().for_each(|b| cluster.cut_both(a, b));
        }
        self.debts.push((end, Debt::Links));
    }

    fn isolate(&mut self, cluster: &Cluster, victim: &str, end: u64) {
        cluster.world.count("fault:isolations");
        tracing::info!(target: "simulation", victim, "isolated");
        // From the other machines: its users still reach it.
        for other in cluster.world.names().iter().filter(|other| *other != victim) {
            cluster.cut_both(victim, other);
        }
        self.debts.push((end, Debt::Links));
    }

    fn cut_one_way(&mut self, cluster: &Cluster, victim: &str, end: u64) {
        cluster.world.count("fault:one-way cuts");
        let (mute, all) = (self.rng.chance(50), self.rng.chance(50));
        tracing::info!(target: "simulation", victim, mute, all, "cut one way");
        for other in cluster.world.names().iter().filter(|other| *other != victim) {
            if all || self.rng.chance(40) {
                if mute { cluster.cut(victim, other) } else { cluster.cut(other, victim) }
            }
        }
        self.debts.push((end, Debt::Links));
    }

    fn slow_down(&mut self, cluster: &Cluster, victim: &str, end: u64) {
        cluster.world.count("fault:slow links");
        let slowest = Duration::from_millis(self.rng.within(50..800));
        for other in cluster.world.names().iter().filter(|other| *other != victim) {
            cluster.slow_down(victim, other, slowest);
        }
        self.debts.push((end, Debt::Links));
    }
}
