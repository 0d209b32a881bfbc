//! The simulation's power to find mistakes, tested: every bug of [`quorate::seeded`] must be found.
//!
//! The short form replays, for each bug, a seed that is known to find it, and searches a few more if the code has
//! changed so much that this one does not any longer. `SEEDS=200` searches from the first seed on, up to so many, and
//! prints the table anew.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use quorate::seeded::Bug;

use crate::runner::{apart, number, text};

/// Names the bug that a process is to make.
pub const ARMED: &str = "SIM_BUG";
/// Simulated seconds of faults in each seed.
const SECONDS: u64 = 12;
/// Seeds that the short form tries after the known one.
const MORE: u64 = 12;

/// A seed that finds each. Those that are not here, the first one does.
const KNOWN: &[(Bug, u64)] = &[(Bug::TimeoutIsRefusal, 3)];
/// So rare that no seed is known yet to find them with the code as it is: the long form alone searches for them.
const RARE: &[Bug] = &[Bug::LeaderRestore, Bug::NodeIdReused];

/// What came of the search for one bug.
struct Search {
    bug: Bug,
    tried: u64,
    found: Option<(u64, String)>,
}

/// Runs one seed with `bug` armed. Answers with the first promise that was found broken.
fn finds(bug: Bug, seed: u64) -> Option<String> {
    let settings =
        [("SIM_SEED", seed.to_string()), ("SIM_SECONDS", SECONDS.to_string()), (ARMED, bug.name().to_owned())];
    let output = apart("one_seed", &settings);
    if output.status.success() {
        return None;
    }
    let told = text(&output);
    let heading = format!("seed {seed}:");
    let what = told.lines().skip_while(|line| !line.ends_with(&heading)).nth(1);
    Some(what.map_or_else(|| format!("the process ended: {}", output.status), str::to_owned))
}

fn search(bug: Bug, seeds: impl Iterator<Item = u64>) -> Search {
    let mut tried = 0;
    for seed in seeds {
        tried += 1;
        if let Some(what) = finds(bug, seed) {
            return Search { bug, tried, found: Some((seed, what)) };
        }
    }
    Search { bug, tried, found: None }
}

/// The searches for all bugs, as many at once as there are cores.
fn search_all(seeds: impl Fn(Bug) -> Vec<u64> + Sync) -> Vec<Search> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(bug) = Bug::ALL.get(next.fetch_add(1, Relaxed)).copied() {
                    let search = search(bug, seeds(bug).into_iter());
                    println!("{}", line(&search));
                    done.lock().expect("no search panics").insert(bug, search);
                }
            });
        }
    });
    done.into_inner().expect("no search panics").into_values().collect()
}

fn line(search: &Search) -> String {
    let name = search.bug.name();
    match &search.found {
        Some((seed, what)) => {
            let what: String = what.chars().take(110).collect();
            format!("{name:<28} {:>4} seeds, by {seed:<4} {what}", search.tried)
        }
        None if search.tried == 0 => format!("{name:<28} left to the long form"),
        None => format!("{name:<28} {:>4} seeds, NOT FOUND", search.tried),
    }
}

#[test]
fn every_seeded_bug_is_found() {
    let bound = number("SEEDS", 0);
    let known = |bug: Bug| KNOWN.iter().find(|(known, _)| *known == bug).map(|(_, seed)| *seed);
    let searches = search_all(|bug| match bound {
        0 if RARE.contains(&bug) => Vec::new(),
        0 => known(bug).into_iter().chain(1..=MORE).collect(),
        _ => (1..=bound).collect(),
    });
    if bound > 0 {
        for Search { bug, found, .. } in &searches {
            println!("    (Bug::{bug:?}, {}),", found.as_ref().map_or(0, |(seed, _)| *seed));
        }
    }
    let missed: Vec<&str> = searches
        .iter()
        .filter(|search| search.found.is_none() && search.tried > 0)
        .map(|search| search.bug.name())
        .collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
