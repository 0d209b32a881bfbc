//! What goes wrong, and when: all of it follows from the seed.

use std::time::Duration;

use crate::{cluster::Cluster, rng::Rng, world::State};

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
        let due = now + self.rng.within(50..6_000);
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
            0..20 => self.crash(cluster, &victim, now),
            20..40 => {
                cluster.world.count("power cuts at a step");
                cluster.world.machine(&victim).disks().power_off_after(self.rng.within(1..60));
            }
            40..45 => {
                for name in cluster.world.names() {
                    if cluster.world.machine(&name).is_running() {
                        self.crash(cluster, &name, now);
                    }
                }
            }
            45..60 => self.split(cluster, end),
            60..70 => self.isolate(cluster, &victim, end),
            70..80 => self.cut_one_way(cluster, &victim, end),
            80..88 => self.slow_down(cluster, &victim, end),
            88..94 => {
                cluster.world.count("clock jumps");
                let size = *self.rng.pick(&[50, 3_000, 60_000, 3_500_000]).unwrap_or(&50);
                let skew = if self.rng.chance(50) { size } else { -size };
                cluster.world.machine(&victim).set_skew_ms(skew);
                self.debts.push((end, Debt::Clock(victim)));
            }
            _ => {
                cluster.world.count("graceful stops");
                cluster.world.machine(&victim).stop.notify_one();
            }
        }
    }

    fn crash(&mut self, cluster: &mut Cluster, name: &str, now: u64) {
        let power = self.rng.chance(60);
        cluster.world.count(if power { "power cuts" } else { "kills" });
        cluster.crash(name, power);
        self.restart_later(name, now);
    }

    fn split(&mut self, cluster: &Cluster, end: u64) {
        cluster.world.count("partitions");
        let (left, right): (Vec<_>, Vec<_>) = cluster.hosts().into_iter().partition(|_| self.rng.chance(50));
        tracing::info!(target: "simulation", ?left, ?right, "split");
        for a in &left {
            right.iter().for_each(|b| cluster.cut_both(a, b));
        }
        self.debts.push((end, Debt::Links));
    }

    fn isolate(&mut self, cluster: &Cluster, victim: &str, end: u64) {
        cluster.world.count("isolations");
        tracing::info!(target: "simulation", victim, "isolated");
        // From the other machines: its users still reach it.
        for other in cluster.world.names().iter().filter(|other| *other != victim) {
            cluster.cut_both(victim, other);
        }
        self.debts.push((end, Debt::Links));
    }

    fn cut_one_way(&mut self, cluster: &Cluster, victim: &str, end: u64) {
        cluster.world.count("one-way cuts");
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
        cluster.world.count("slow links");
        let slowest = Duration::from_millis(self.rng.within(50..800));
        for other in cluster.world.names().iter().filter(|other| *other != victim) {
            cluster.slow_down(victim, other, slowest);
        }
        self.debts.push((end, Debt::Links));
    }
}
