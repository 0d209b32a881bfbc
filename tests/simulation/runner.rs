//! Many seeds, each in a process of its own: whatever is global begins anew, so that a seed replays exactly.

use std::{
    any::type_name,
    collections::BTreeMap,
    env,
    fmt::Write as _,
    process::{Command, Output, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    cluster::{Cluster, Plan},
    run::{self, VERDICT},
};

/// Says that this process is to run the simulation itself.
const ALONE: &str = "SIM_ALONE";
/// Seeds that a scenario runs with, unless `SEEDS` says more.
const SEEDS_EACH: u64 = 1;

pub fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs `test` in a process of its own with these settings.
pub fn apart(test: &str, settings: &[(&str, String)]) -> Output {
    let program = env::current_exe().expect("this test's own program");
    let mut command = Command::new(program);
    command.args([test, "--exact", "--include-ignored", "--nocapture"]).env(ALONE, "1").stdin(Stdio::null());
    command.envs(settings.iter().map(|(name, value)| (name, value)));
    command.output().expect("this test's own program runs")
}

/// A scenario that the calling test tells: with its seeds, each in a process of its own.
pub fn scenario<F: FnOnce(&mut Cluster) + Send + 'static>(plan: Plan, tell: F) {
    if env::var(ALONE).is_ok() {
        return run::alone(number("SIM_SEED", 1), plan, tell);
    }
    let test = teller::<F>();
    let first = number("SIM_FIRST_SEED", 1);
    for seed in first..first + number("SEEDS", SEEDS_EACH) {
        let output = apart(test, &[("SIM_SEED", seed.to_string())]);
        if let Some(failure) = failure(&output, &replay(seed, &format!("--scenario {test}"))) {
            panic!("{failure}");
        }
    }
}

/// The name of the test in which the closure `F` stands.
fn teller<F>() -> &'static str {
    let name = type_name::<F>();
    let name = name.split_once("::").map_or(name, |(_crate, name)| name);
    name.trim_end_matches("::{{closure}}")
}

/// The command that does the same again, with logs.
fn replay(seed: u64, more: &str) -> String {
    format!("scripts/simulate --replay {seed} {more}")
}

/// What went wrong, and how to see it again. A process without a verdict went wrong, too.
fn failure(output: &Output, replay: &str) -> Option<String> {
    let told = text(output);
    if output.status.success() && told.lines().any(|line| line.starts_with(VERDICT)) {
        return None;
    }
    let from = told.find("\nseed ").map_or(0, |at| at + 1);
    let why: String = told[from..].chars().take(4_000).collect();
    Some(format!("{why}\nreplay: {replay}"))
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A figure from the line with which a run ends.
pub fn figure(output: &Output, name: &str) -> Option<String> {
    let told = text(output);
    let verdict = told.lines().find(|line| line.starts_with(VERDICT))?;
    let prefix = format!("{name}=");
    verdict.split(' ').find_map(|word| word.strip_prefix(&prefix)).map(str::to_owned)
}

/// Which seeds, and for how long.
pub struct Range {
    pub first: u64,
    pub seeds: u64,
    /// Simulated time under faults, of each.
    pub seconds: u64,
    /// No seed is begun after so long.
    pub minutes: u64,
    pub jobs: u64,
}

/// What came of many seeds.
#[derive(Default)]
pub struct Tally {
    pub seeds: u64,
    pub failures: Vec<String>,
    wall: Duration,
    sums: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, output: &Output, seed: u64, seconds: u64) {
        self.seeds += 1;
        if let Some(failure) = failure(output, &replay(seed, &format!("--seconds {seconds}"))) {
            println!("seed {seed}: FAILED\n{failure}");
            self.failures.push(failure);
        }
        let told = text(output);
        let verdict = told.lines().find(|line| line.starts_with(VERDICT)).unwrap_or_default();
        for (name, value) in verdict.split(' ').filter_map(|word| word.split_once('=')) {
            if let ("seed" | "trace", _) | (_, Err(_)) = (name, value.parse::<u64>()) {
                continue;
            }
            *self.sums.entry(name.to_owned()).or_default() += value.parse::<u64>().unwrap_or(0);
        }
    }

    fn sum(&self, name: &str) -> u64 {
        self.sums.get(name).copied().unwrap_or(0)
    }

    /// Which of these faults were never made.
    pub fn never(&self, faults: &[&'static str]) -> Vec<&'static str> {
        let count = |fault: &str| self.sum(&format!("fault:{}", fault.replace(' ', "_")));
        faults.iter().copied().filter(|fault| count(fault) == 0).collect()
    }

    fn hours(&self) -> f64 {
        self.sum("simulated_ms") as f64 / 3_600_000.0
    }

    fn progress(&self) -> String {
        let (minutes, failed) = (self.wall.as_secs_f64() / 60.0, self.failures.len());
        format!("{:6.1} min: {} seeds, {:.2} simulated hours, {failed} failed", minutes, self.seeds, self.hours())
    }

    /// Lines for people.
    pub fn report(&self) -> String {
        let minutes = self.wall.as_secs_f64() / 60.0;
        let core_seconds = self.sum("wall_ms") as f64 / 1_000.0;
        let mut lines = format!(
            "{} seeds, {:.2} simulated hours in {minutes:.1} min of wall time: {:.2} simulated hours per minute, {:.1} \
             simulated seconds per second of each process\n",
            self.seeds,
            self.hours(),
            self.hours() / minutes.max(0.001),
            self.sum("simulated_ms") as f64 / 1_000.0 / core_seconds.max(0.001),
        );
        for (title, prefix) in [("faults", "fault:"), ("changes", "change:"), ("operations", "")] {
            let own = |name: &str| if prefix.is_empty() { !name.contains(':') } else { name.starts_with(prefix) };
            let rows = self.sums.iter().filter(|(name, _)| own(name) && !name.ends_with("_ms"));
            let _ = writeln!(lines, "{title}");
            rows.for_each(|(name, sum)| {
                let name = name.strip_prefix(prefix).unwrap_or(name).replace('_', " ");
                let _ = writeln!(lines, "  {:<34} {sum}", name.trim());
            });
        }
        lines
    }
}

/// Runs seeds from `range.first` on, `jobs` at once, until there were enough or the time is over.
pub fn seeds(range: &Range) -> Tally {
    let began = Instant::now();
    let next = AtomicU64::new(range.first);
    let tally = Mutex::new(Tally::default());
    let end = began + Duration::from_secs(range.minutes * 60);
    let work = || {
        while Instant::now() < end {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= range.first.saturating_add(range.seeds) {
                return;
            }
            let settings = [("SIM_SEED", seed.to_string()), ("SIM_SECONDS", range.seconds.to_string())];
            let output = apart("one_seed", &settings);
            let mut tally = tally.lock().expect("no tally panics");
            tally.add(&output, seed, range.seconds);
            tally.wall = began.elapsed();
            println!("{}", tally.progress());
        }
    };
    thread::scope(|scope| (0..range.jobs).for_each(|_| drop(scope.spawn(work))));
    tally.into_inner().expect("no tally panics")
}

/// As many as there are cores.
pub fn cores() -> u64 {
    thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}
