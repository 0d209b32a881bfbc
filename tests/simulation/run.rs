//! One seed from beginning to end, in a thread of its own, and what came of it.

use std::{
    env,
    fmt::Write as _,
    io, panic,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use quorate::fault_injection::{self, Bug};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{
    bugs,
    cluster::{Cluster, PANICS, Plan},
    nemesis::Nemesis,
    tame,
};

/// What makes up the trace: everything from turmoil is every message on the network.
const TRACED: &str = "warn,simulation=info,quorate=info,openraft=off";
/// The words that begin the line with which a run ends.
pub const VERDICT: &str = "VERDICT";

/// Runs `scenario` on a tamed thread, ends all faults, and prints the verdict. Panics if a promise was broken.
pub fn alone(seed: u64, plan: Plan, scenario: impl FnOnce(&mut Cluster) + Send + 'static) {
    arm();
    let shown = env::var("SIM_LOG").is_ok();
    panic::set_hook(Box::new(move |info| {
        if shown {
            eprintln!("{info}\n{}", std::backtrace::Backtrace::force_capture());
        }
        PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
    }));
    let began = Instant::now();
    let running = thread::Builder::new().stack_size(16 << 20).spawn(move || {
        tame::tame(seed);
        let trace = Trace::default();
        let filter = env::var("SIM_LOG").or_else(|_| env::var("SIM_TRACE")).unwrap_or_else(|_| TRACED.into());
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .without_time()
            .with_ansi(false)
            .with_writer(Tee { trace: trace.clone(), shown })
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let mut cluster = Cluster::start(seed, &plan).grown();
            if !cluster.is_broken() {
                scenario(&mut cluster);
            }
            if !cluster.is_broken() {
                cluster.conclude();
            }
            let told = verdict(seed, &cluster, &trace);
            let (wrong, status) = (cluster.world.violations(), cluster.status());
            // Nobody listens to what ends now.
            drop(cluster);
            (told, wrong, status)
        })
    });
    let ended = running.expect("a thread").join();
    let _ = panic::take_hook();
    let (told, wrong, status) = ended.unwrap_or_else(|_| {
        let panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (format!("seed={seed}"), vec![format!("the simulation panicked: {panics:?}")], String::new())
    });
    println!("{VERDICT} {told} wall_ms={} violations={}", began.elapsed().as_millis(), wrong.len());
    assert!(wrong.is_empty(), "seed {seed}:\n{}\n{status}", wrong.join("\n"));
}

/// Arms the bug that the runner wants to see found, if it is one of those that do.
fn arm() {
    if let Ok(name) = env::var(bugs::ARMED) {
        let bug = Bug::named(&name).unwrap_or_else(|| panic!("no bug is called {name}"));
        assert!(fault_injection::arm(bug), "one bug at a time");
    }
}

/// All faults for `seconds`.
pub fn storm(seed: u64, seconds: u64) -> impl FnOnce(&mut Cluster) + Send {
    move |cluster| {
        let mut nemesis = Nemesis::new(seed);
        cluster.run_until(Duration::from_secs(seconds), |cluster| {
            nemesis.act(cluster);
            false
        });
    }
}

fn verdict(seed: u64, cluster: &Cluster, trace: &Trace) -> String {
    let notes = &cluster.notes;
    let mut told = format!("seed={seed} trace={} simulated_ms={}", trace.hash(), cluster.elapsed().as_millis());
    let (sent, acknowledged, refused) = (notes.sent(), notes.acknowledged(), notes.refused());
    let terms = cluster.world.terms_led();
    let _ = write!(told, " sent={sent} acknowledged={acknowledged} refused={refused} terms={terms}");
    for (what, count) in cluster.world.counts() {
        let _ = write!(told, " {}={count}", what.replace(' ', "_"));
    }
    told
}

/// A running hash of all that was logged.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<blake3::Hasher>>);

impl Trace {
    fn hash(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).finalize().to_hex()[..16].to_owned()
    }
}

#[derive(Clone)]
struct Tee {
    trace: Trace,
    shown: bool,
}

impl io::Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.trace.0.lock().unwrap_or_else(PoisonError::into_inner).update(bytes);
        if self.shown {
            let at = turmoil::sim_elapsed().unwrap_or_default().as_millis();
            eprint!("{at:>7} {}", String::from_utf8_lossy(bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Tee {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
