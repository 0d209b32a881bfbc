//! Many seeds, each in a child process, and the totals of what they did.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    process::Output,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use super::child::{failure_of, replay_command, result_line, run_in_child};

/// Which seeds to run, and for how long.
pub struct SeedRange {
    pub first: u64,
    pub seeds: u64,
    /// Simulated seconds under faults, for each seed.
    pub seconds: u64,
    /// Minutes of wall time after which no further seed starts. Seeds that are running then still finish.
    pub minutes: u64,
    /// Child processes at once.
    pub jobs: u64,
}

/// Totals over many seeds.
///
/// Invariant: every seed that was run counts in `seeds`, failed or not; one that failed also has its report in
/// `failures`. Figures of a run that printed no result line are missing from `sums`.
#[derive(Default)]
pub struct Totals {
    pub seeds: u64,
    pub failures: Vec<String>,
    wall: Duration,
    /// Each numeric figure of the result lines, added up.
    sums: BTreeMap<String, u64>,
}

impl Totals {
    fn add(&mut self, output: &Output, seed: u64, seconds: u64) {
        self.seeds += 1;
        if let Some(failure) = failure_of(output, &replay_command(seed, &format!("--seconds {seconds}"))) {
            println!("seed {seed} failed\n{failure}");
            self.failures.push(failure);
        }
        let figures = result_line(output).unwrap_or_default();
        for (name, value) in figures.split(' ').filter_map(|word| word.split_once('=')) {
            // A seed is no quantity, nor is a hash, even if it should consist of digits only.
            if let ("seed" | "trace", _) | (_, Err(_)) = (name, value.parse::<u64>()) {
                continue;
            }
            *self.sums.entry(name.to_owned()).or_default() += value.parse::<u64>().unwrap_or(0);
        }
    }

    fn sum(&self, name: &str) -> u64 {
        self.sums.get(name).copied().unwrap_or(0)
    }

    /// Which of these kinds of faults never occurred.
    pub fn faults_never_injected(&self, faults: &[&'static str]) -> Vec<&'static str> {
        let count = |fault: &str| self.sum(&format!("fault:{}", fault.replace(' ', "_")));
        faults.iter().copied().filter(|fault| count(fault) == 0).collect()
    }

    fn hours(&self) -> f64 {
        self.sum("simulated_ms") as f64 / 3_600_000.0
    }

    fn progress(&self) -> String {
        let (minutes, failed) = (self.wall.as_secs_f64() / 60.0, self.failures.len());
        format!("{:6.1} min: {} seeds, {:.2} simulated hours, {failed} seeds failed", minutes, self.seeds, self.hours())
    }

    /// A report for people: speed, then the totals by group.
    pub fn report(&self) -> String {
        let minutes = self.wall.as_secs_f64() / 60.0;
        let core_seconds = self.sum("wall_ms") as f64 / 1_000.0;
        let mut lines = format!(
            "{} seeds, {:.2} simulated hours in {minutes:.1} minutes of wall time ({:.2} simulated hours per minute; {:.1} \
             simulated seconds per second in each process)\n",
            self.seeds,
            self.hours(),
            self.hours() / minutes.max(0.001),
            self.sum("simulated_ms") as f64 / 1_000.0 / core_seconds.max(0.001),
        );
        for (title, prefix) in [("faults", "fault:"), ("changes", "change:"), ("operations", "")] {
            let own = |name: &str| if prefix.is_empty() { !name.contains(':') } else { name.starts_with(prefix) };
            let rows = self.sums.iter().filter(|(name, _)| own(name) && !name.ends_with("_ms"));
            let _ = writeln!(lines, "{title}:");
            rows.for_each(|(name, sum)| {
                let name = name.strip_prefix(prefix).unwrap_or(name).replace('_', " ");
                let _ = writeln!(lines, "  {:<34} {sum}", name.trim());
            });
        }
        lines
    }
}

/// Runs seeds from `range.first` on, `range.jobs` at once, until all have run or the time is up.
pub fn run_seeds(range: &SeedRange) -> Totals {
    let began = Instant::now();
    let next = AtomicU64::new(range.first);
    let totals = Mutex::new(Totals::default());
    let end = began + Duration::from_secs(range.minutes * 60);
    let work = || {
        while Instant::now() < end {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= range.first.saturating_add(range.seeds) {
                return;
            }
            let settings = [("SIM_SEED", seed.to_string()), ("SIM_SECONDS", range.seconds.to_string())];
            let output = run_in_child("one_seed", &settings);
            let mut totals = totals.lock().expect("adding up does not panic");
            totals.add(&output, seed, range.seconds);
            totals.wall = began.elapsed();
            println!("{}", totals.progress());
        }
    };
    thread::scope(|scope| (0..range.jobs).for_each(|_| drop(scope.spawn(work))));
    totals.into_inner().expect("adding up does not panic")
}

/// The number of cores: the default number of child processes at once.
pub fn cores() -> u64 {
    thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}
