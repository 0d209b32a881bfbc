//! Tests the simulation itself: it must find every bug of [`quorate::fault_injection`], each within [`SEEDS`] seeds
//! counted from seed 1. Prints how many seeds each bug took, and the median.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use quorate::fault_injection::Bug;

use crate::harness::{ARMED_FAULT, cores, number, output_of, run_in_child};

/// Simulated seconds under faults, for each seed.
const SECONDS: u64 = 12;
/// Seeds within which each bug must be found, unless the environment variable `SEEDS` says otherwise.
const SEEDS: u64 = 200;

/// The result of the search for one bug.
struct Search {
    bug: Bug,
    /// Seeds that were run, the one that found it included.
    tried: u64,
    /// The first violation of that seed.
    found: Option<String>,
}

/// Runs one seed, with `bug` armed if there is one. Returns the first violation.
fn first_violation(bug: Option<Bug>, seed: u64) -> Option<String> {
    let mut settings = vec![("SIM_SEED", seed.to_string()), ("SIM_SECONDS", SECONDS.to_string())];
    settings.extend(bug.map(|bug| (ARMED_FAULT, bug.name().to_owned())));
    let output = run_in_child("one_seed", &settings);
    if output.status.success() {
        return None;
    }
    let printed = output_of(&output);
    let heading = format!("seed {seed}: violation:");
    let what = printed.lines().skip_while(|line| !line.ends_with(&heading)).nth(1);
    Some(what.map_or_else(|| format!("the process died: {}", output.status), str::to_owned))
}

fn search(bug: Bug, seeds: u64) -> Search {
    for seed in 1..=seeds {
        if let Some(what) = first_violation(Some(bug), seed) {
            // Without the bug the same seed must pass: otherwise the violation is none of its doing.
            assert_eq!(first_violation(None, seed), None, "seed {seed} fails without any armed bug");
            return Search { bug, tried: seed, found: Some(what) };
        }
    }
    Search { bug, tried: seeds, found: None }
}

/// Searches for all of `bugs`, as many at once as there are cores.
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
    println!(
        "{} bugs found or given up; median {} seeds, at most {}",
        tried.len(),
        tried[tried.len() / 2],
        tried[tried.len() - 1]
    );
    let missed: Vec<&str> =
        searches.iter().filter(|search| search.found.is_none()).map(|search| search.bug.name()).collect();
    assert!(missed.is_empty(), "the simulation did not find these bugs: {missed:?}");
}
