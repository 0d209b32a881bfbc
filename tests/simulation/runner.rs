//! Many seeds, each in a process of its own: whatever is global begins anew, so that a seed replays exactly.

use std::{
    env,
    process::{Command, Output, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use crate::run::VERDICT;

/// Says that this process is to run the test itself.
const ALONE: &str = "SIM_ALONE";

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

/// Runs `body` if this process was made for it, else makes one and passes its verdict on.
pub fn in_a_process_of_its_own(test: &str, body: impl FnOnce()) {
    if env::var(ALONE).is_ok() {
        return body();
    }
    let output = apart(test, &[]);
    let told = text(&output);
    assert!(output.status.success(), "{}\nreplay: {}", told, replay(test, &[]));
}

/// The command that does the same again, with logs.
pub fn replay(test: &str, settings: &[(&str, String)]) -> String {
    let settings: String = settings.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    format!(
        "{ALONE}=1 {settings}SIM_LOG=info,openraft=warn cargo test --test simulation {test} -- --exact --include-ignored --nocapture"
    )
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

/// What came of many seeds.
#[derive(Default)]
pub struct Tally {
    pub failures: Vec<String>,
    sums: std::collections::BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, output: &Output, seed: u64, settings: &[(&str, String)]) {
        let told = text(output);
        if !output.status.success() {
            let from = told.find(&format!("\nseed {seed}:")).unwrap_or(0);
            let why: String = told[from..].chars().take(2_000).collect();
            self.failures.push(format!("{why}\nreplay: {}", replay("one_seed", settings)));
        }
        let verdict = told.lines().find(|line| line.starts_with(VERDICT)).unwrap_or_default();
        for (name, value) in verdict.split(' ').filter_map(|word| word.split_once('=')) {
            if let ("seed" | "trace", _) | (_, Err(_)) = (name, value.parse::<u64>()) {
                continue;
            }
            *self.sums.entry(name.to_owned()).or_default() += value.parse::<u64>().unwrap_or(0);
        }
    }

    /// Lines for people.
    pub fn report(&self) -> String {
        self.sums.iter().map(|(name, sum)| format!("  {name:<34} {sum}\n")).collect()
    }
}

/// Runs `count` seeds from `first` on, as many at once as there are cores.
pub fn seeds(first: u64, count: u64, seconds: u64) -> Tally {
    let next = AtomicU64::new(first);
    let tally = Mutex::new(Tally::default());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let settings = [("SIM_SEED", seed.to_string()), ("SIM_SECONDS", seconds.to_string())];
                    let output = apart("one_seed", &settings);
                    tally.lock().expect("no tally panics").add(&output, seed, &settings);
                }
            });
        }
    });
    tally.into_inner().expect("no tally panics")
}
