//! One seed from start to end, on a hooked thread of this process.

use std::{
    env,
    fmt::Write as _,
    io, panic,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use quorate::fault_injection::{self, Bug};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt,
};

use super::settings::{ARMED_FAULT, RESULT};
use crate::{
    cluster::{Cluster, PANICS, Plan},
    libc_hooks,
    nemesis::Nemesis,
};

/// The log lines that make up the trace, unless `SIM_LOG` or `SIM_TRACE` says otherwise. `turmoil=trace` adds every
/// message on the network. Fewer lines run faster and find the same violations; only the hash says less.
const DEFAULT_FILTER: &str = "warn,simulation=info,quorate=info,openraft=off";
/// Stack of the simulation's thread: polling a whole cluster nests deeply in debug builds.
const STACK_BYTES: usize = 16 << 20;

/// What came of one run.
struct Outcome {
    /// Figures as `name=value`, separated by spaces.
    figures: String,
    violations: Vec<String>,
    /// The state of every machine, for people.
    status: String,
}

/// Grows a cluster, runs `scenario` on it, ends all faults, checks every promise, and prints the result line. Panics if
/// there was a violation.
pub fn run_here(seed: u64, plan: Plan, scenario: impl FnOnce(&mut Cluster) + Send + 'static) {
    arm_requested_fault();
    let shows_log = env::var("SIM_LOG").is_ok();
    collect_panics(shows_log);
    let began = Instant::now();
    // A thread of its own, because hooks hold for the rest of a thread's life.
    let running =
        thread::Builder::new().stack_size(STACK_BYTES).spawn(move || simulate(seed, &plan, shows_log, scenario));
    let joined = running.expect("cannot start the simulation's thread").join();
    let _ = panic::take_hook();
    let Outcome { figures, violations, status } = joined.unwrap_or_else(|_| {
        let panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let violations = vec![format!("the simulation panicked: {panics:?}")];
        Outcome { figures: format!("seed={seed}"), violations, status: String::new() }
    });
    println!("{RESULT} {figures} wall_ms={} violations={}", began.elapsed().as_millis(), violations.len());
    assert!(violations.is_empty(), "seed {seed}: violation:\n{}\n{status}", violations.join("\n"));
}

fn simulate(seed: u64, plan: &Plan, shows_log: bool, scenario: impl FnOnce(&mut Cluster)) -> Outcome {
    libc_hooks::hook_thread(seed);
    let trace = Trace::default();
    let filter = env::var("SIM_LOG").or_else(|_| env::var("SIM_TRACE")).unwrap_or_else(|_| DEFAULT_FILTER.into());
    let subscriber = tracing_subscriber::fmt()
        .without_time()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(TraceWriter { trace: trace.clone(), shows_log })
        .finish()
        .with(filter.parse::<Targets>().expect("SIM_LOG is a level or a list of levels by target"));
    tracing::subscriber::with_default(subscriber, || {
        let mut cluster = Cluster::start(seed, plan).wait_until_grown();
        if !cluster.is_broken() {
            scenario(&mut cluster);
        }
        if !cluster.is_broken() {
            cluster.heal_and_judge();
        }
        let figures = figures(seed, &cluster, &trace);
        let (violations, status) = (cluster.world.violations(), cluster.status());
        // Dropped only now: what its tasks log or violate while they are torn down does not count.
        drop(cluster);
        Outcome { figures, violations, status }
    })
}

/// Collects panics instead of printing them: a panic inside a simulated task is a violation, not the end of the run.
fn collect_panics(shows_log: bool) {
    panic::set_hook(Box::new(move |info| {
        if shows_log {
            eprintln!("{info}\n{}", std::backtrace::Backtrace::force_capture());
        }
        PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
    }));
}

/// Arms the fault that the parent process wants to see found, if there is one.
fn arm_requested_fault() {
    if let Ok(name) = env::var(ARMED_FAULT) {
        let bug = Bug::named(&name).unwrap_or_else(|| panic!("{ARMED_FAULT}={name}: there is no such fault"));
        assert!(fault_injection::arm(bug), "another fault is armed already");
    }
}

/// The scenario of a plain seed: the nemesis injects faults of all kinds for `seconds` of simulated time.
pub fn under_all_faults(seed: u64, seconds: u64) -> impl FnOnce(&mut Cluster) + Send {
    move |cluster| {
        let mut nemesis = Nemesis::new(seed);
        cluster.run_until(Duration::from_secs(seconds), |cluster| {
            nemesis.step(cluster);
            false
        });
    }
}

fn figures(seed: u64, cluster: &Cluster, trace: &Trace) -> String {
    let notes = &cluster.notes;
    let mut line = format!("seed={seed} trace={} simulated_ms={}", trace.hash(), cluster.elapsed().as_millis());
    let (sent, acknowledged, refused) = (notes.sent(), notes.acknowledged(), notes.refused());
    let terms = cluster.world.terms_led();
    let _ = write!(line, " sent={sent} acknowledged={acknowledged} refused={refused} terms={terms}");
    for (what, count) in cluster.world.counts() {
        let _ = write!(line, " {}={count}", what.replace(' ', "_"));
    }
    line
}

/// A running hash of all that was logged. Two runs with one hash took the same course, as far as the filter sees.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<blake3::Hasher>>);

impl Trace {
    fn hash(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).finalize().to_hex()[..16].to_owned()
    }
}

/// Hashes log lines, and prints them with the simulated time (ms) if the run is a replay.
#[derive(Clone)]
struct TraceWriter {
    trace: Trace,
    shows_log: bool,
}

impl io::Write for TraceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.trace.0.lock().unwrap_or_else(PoisonError::into_inner).update(bytes);
        if self.shows_log {
            let at = turmoil::sim_elapsed().unwrap_or_default().as_millis();
            eprint!("{at:>7} {}", String::from_utf8_lossy(bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for TraceWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
