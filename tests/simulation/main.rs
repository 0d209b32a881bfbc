//! The whole product in one deterministic process: servers, the real client library, operators; simulated are the
//! network, the disks, the clocks and all randomness, from one seed.

mod bugs;
mod clerks;
mod cluster;
mod deeds;
mod errands;
mod guests;
mod judge;
mod nemesis;
mod net;
mod notes;
mod operator;
mod promises;
mod registers;
mod replica;
mod rng;
mod run;
mod runner;
mod scenarios;
mod stage;
mod tame;
mod tap;
mod users;
mod world;

use cluster::Plan;
use runner::{Range, apart, cores, figure, number, text};

/// Seeds among which every kind of fault must come.
const MANY: u64 = 50;

/// One seed, with the faults of all kinds: `SIM_SEED`, for `SIM_SECONDS` of simulated time.
#[test]
#[ignore = "run by the others, in a process of its own"]
fn one_seed() {
    let seed = number("SIM_SEED", 1);
    run::alone(seed, Plan::drawn(seed), run::storm(seed, number("SIM_SECONDS", 20)));
}

/// The short form; by its environment the long one, which `scripts/simulate` sets.
#[test]
fn every_promise_holds_under_every_mix_of_faults() {
    let range = Range {
        first: number("SIM_FIRST_SEED", 1),
        seeds: number("SEEDS", 12),
        seconds: number("SIM_SECONDS", 15),
        minutes: number("SIM_MINUTES", 24 * 60),
        jobs: number("SIM_JOBS", cores()),
    };
    let tally = runner::seeds(&range);
    println!("\nfrom seed {} on: {}", range.first, tally.report());
    println!("violations: {}", tally.failures.len());
    assert!(tally.seeds > 0, "no seed was run");
    if tally.seeds >= MANY {
        let missed = tally.never(&nemesis::FAULTS);
        assert!(missed.is_empty(), "in {} seeds none of: {missed:?}", tally.seeds);
    }
    assert!(
        tally.failures.is_empty(),
        "{} of {} failed:\n{}",
        tally.failures.len(),
        tally.seeds,
        tally.failures.join("\n\n")
    );
}

/// Every message on the network, every decision of consensus and every word of the product is in the trace.
#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let trace = |seed: u64| {
        let settings = [
            ("SIM_SEED", seed.to_string()),
            ("SIM_SECONDS", "6".to_owned()),
            ("SIM_TRACE", "info,simulation=trace,quorate=debug,openraft=debug,turmoil=trace".to_owned()),
        ];
        let output = apart("one_seed", &settings);
        figure(&output, "trace").unwrap_or_else(|| panic!("no trace:\n{}", text(&output)))
    };
    let first = trace(7);
    assert_eq!(first, trace(7));
    assert_ne!(first, trace(8));
}
