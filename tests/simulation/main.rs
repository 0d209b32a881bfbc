//! Deterministic simulation of whole clusters: real servers, the real client library and operators run in one process
//! and on one thread. Network, disks, clocks and randomness are simulated and follow from one seed.
//!
//! The same seed gives the same run, message by message, so a failure can be replayed:
//! `scripts/simulate --replay SEED`. What one thread cannot show is left to other tests: races between threads, and the
//! real operating system (`tests/processes`).
//!
//! | file | job |
//! |---|---|
//! | [`rng`], [`libc_hooks`], [`network`], [`world`] | the simulated environment |
//! | [`replica`] | one `chat-node` process on a simulated machine |
//! | [`users`], [`operator`], [`operator_tasks`], [`client`], [`retry`] | the load: users, and operators who change the membership |
//! | [`notes`], [`registers`], [`promises`], [`peer_recorder`], [`judge`] | the checks: what was observed, and what must hold |
//! | [`cluster`], [`nemesis`] | puts all of it together; injects faults |
//! | [`scenario_dsl`], [`scenarios`] | named scenarios of membership changes |
//! | [`harness`], [`injected_faults`] | runs seeds in child processes; proves that known bugs are found |

mod client;
mod cluster;
mod harness;
mod injected_faults;
mod judge;
mod libc_hooks;
mod nemesis;
mod network;
mod notes;
mod operator;
mod operator_tasks;
mod peer_recorder;
mod promises;
mod registers;
mod replica;
mod retry;
mod rng;
mod scenario_dsl;
mod scenarios;
mod users;
mod world;

use cluster::Plan;
use harness::{SeedRange, cores, number, output_of, result_field, run_here, run_in_child, run_seeds, under_all_faults};

/// From this many seeds on, every kind of fault must have occurred at least once.
const SEEDS_FOR_ALL_FAULTS: u64 = 50;

/// Runs the seed `SIM_SEED` under all kinds of faults, for `SIM_SECONDS` of simulated time.
#[test]
#[ignore = "the other tests run it in a child process"]
fn one_seed() {
    let seed = number("SIM_SEED", 1);
    run_here(seed, Plan::random(seed), under_all_faults(seed, number("SIM_SECONDS", 20)));
}

/// Runs few seeds by default. `scripts/simulate` sets the environment for long runs.
#[test]
fn every_promise_holds_under_every_mix_of_faults() {
    let range = SeedRange {
        first: number("SIM_FIRST_SEED", 1),
        seeds: number("SEEDS", 12),
        seconds: number("SIM_SECONDS", 15),
        minutes: number("SIM_MINUTES", 24 * 60),
        jobs: number("SIM_JOBS", cores()),
    };
    let totals = run_seeds(&range);
    println!("\nresults from seed {} on: {}", range.first, totals.report());
    println!("failed seeds: {}", totals.failures.len());
    assert!(totals.seeds > 0, "no seed was run");
    if totals.seeds >= SEEDS_FOR_ALL_FAULTS {
        let missed = totals.faults_never_injected(&nemesis::FAULTS);
        assert!(missed.is_empty(), "these faults never occurred in {} seeds: {missed:?}", totals.seeds);
    }
    assert!(
        totals.failures.is_empty(),
        "{} of {} seeds failed:\n{}",
        totals.failures.len(),
        totals.seeds,
        totals.failures.join("\n\n")
    );
}

/// The trace holds every message on the network, every decision of consensus and every log line of the product.
#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let trace = |seed: u64| {
        let settings = [
            ("SIM_SEED", seed.to_string()),
            ("SIM_SECONDS", "6".to_owned()),
            ("SIM_TRACE", "info,simulation=trace,quorate=debug,openraft=debug,turmoil=trace".to_owned()),
        ];
        let output = run_in_child("one_seed", &settings);
        result_field(&output, "trace")
            .unwrap_or_else(|| panic!("the run printed no trace hash:\n{}", output_of(&output)))
    };
    let first = trace(7);
    assert_eq!(first, trace(7));
    assert_ne!(first, trace(8));
}
