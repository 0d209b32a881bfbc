//! The simulation's power to find mistakes, tested: every bug of [`quorate::fault_injection`] must be found, each within
//! [`SEEDS`] seeds from the first one on. Ends with the number of seeds that each took, and their median.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use quorate::fault_injection::Bug;

use crate::runner::{apart, cores, number, text};

/// Names the bug that a process is to make.
pub const ARMED: &str = "SIM_BUG";
/// Simulated seconds of faults in each seed.
const SECONDS: u64 = 12;
/// Seeds within which each bug must be found, unless `SEEDS` says otherwise.
const SEEDS: u64 = 200;

/// What came of the search for one bug.
struct Search {
    bug: Bug,
    tried: u64,
    /// The promise that was found broken.
    found: Option<String>,
}

/// Runs one seed, with `bug` armed if there is one. Answers with the first promise that was found broken.
fn finds(bug: Option<Bug>, seed: u64) -> Option<String> {
    let mut settings = vec![("SIM_SEED", seed.to_string()), ("SIM_SECONDS", SECONDS.to_string())];
    settings.extend(bug.map(|bug| (ARMED, bug.name().to_owned())));
    let output = apart("one_seed", &settings);
    if output.status.success() {
        return None;
    }
    let told = text(&output);
    let heading = format!("seed {seed}:");
    let what = told.lines().skip_while(|line| !line.ends_with(&heading)).nth(1);
    Some(what.map_or_else(|| format!("the process ended: {}", output.status), str::to_owned))
}

fn search(bug: Bug, seeds: u64) -> Search {
    for seed in 1..=seeds {
        if let Some(what) = finds(Some(bug), seed) {
            // The bug is found, and not something that is there without it.
            assert_eq!(finds(None, seed), None, "seed {seed} without any bug");
            return Search { bug, tried: seed, found: Some(what) };
        }
    }
    Search { bug, tried: seeds, found: None }
}

/// The searches for all of `bugs`, as many at once as there are cores.
fn search_all(bugs: &[Bug], seeds: u64) -> Vec<Search> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let work = || {
        while let Some(bug) = bugs.get(next.fetch_add(1, Relaxed)).copied() {
            let search = search(bug, seeds);
            println!("{}", line(&search));
            done.lock().expect("no search panics").insert(bug, search);
        }
    };
    thread::scope(|scope| (0..cores()).for_each(|_| drop(scope.spawn(work))));
    done.into_inner().expect("no search panics").into_values().collect()
}

fn line(search: &Search) -> String {
    let what: String = search.found.as_deref().unwrap_or("NOT FOUND").chars().take(110).collect();
    format!("{:<28} {:>4} seeds  {what}", search.bug.name(), search.tried)
}

#[test]
fn every_injected_fault_is_found() {
    let seeds = number("SEEDS", SEEDS);
    let searches = search_all(Bug::ALL, seeds);
    let mut tried: Vec<u64> = searches.iter().map(|search| search.tried).collect();
    tried.sort_unstable();
    println!("{} bugs, median {} seeds, at most {}", tried.len(), tried[tried.len() / 2], tried[tried.len() - 1]);
    let missed: Vec<&str> =
        searches.iter().filter(|search| search.found.is_none()).map(|search| search.bug.name()).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
