//! The whole product in one deterministic process: servers, the real client library, an operator; simulated are the
//! network, the disks, the clocks and all randomness, from one seed.
#![allow(dead_code, reason = "the operator's errands are the next step of this suite")]

#[cfg(feature = "seeded-bugs")]
mod bugs;
mod cluster;
mod deeds;
mod guests;
mod judge;
mod nemesis;
mod net;
mod notes;
mod operator;
mod promises;
mod replica;
mod rng;
mod run;
mod runner;
mod tame;
mod tap;
mod users;
mod world;

use cluster::Plan;
use runner::{apart, figure, number, text};

/// One seed, with the faults of all kinds: `SIM_SEED`, for `SIM_SECONDS` of simulated time.
#[test]
#[ignore = "run by the others, in a process of its own"]
fn one_seed() {
    let seed = number("SIM_SEED", 1);
    arm();
    run::alone(seed, Plan::default(), run::storm(seed, number("SIM_SECONDS", 20)));
}

/// Arms the bug that the runner wants to see found, if it is one of those that do.
fn arm() {
    #[cfg(feature = "seeded-bugs")]
    if let Ok(name) = std::env::var(bugs::ARMED) {
        let bug = quorate::seeded::Bug::named(&name).unwrap_or_else(|| panic!("no bug is called {name}"));
        assert!(quorate::seeded::arm(bug), "one bug at a time");
    }
}

/// The short form, and by `SEEDS`, `SIM_FIRST_SEED` and `SIM_SECONDS` the long one.
#[test]
fn every_promise_holds_under_every_mix_of_faults() {
    let (first, count) = (number("SIM_FIRST_SEED", 1), number("SEEDS", 12));
    let tally = runner::seeds(first, count, number("SIM_SECONDS", 15));
    println!("seeds {first} to {}:\n{}", first + count - 1, tally.report());
    assert!(tally.failures.is_empty(), "{} of {count} failed:\n{}", tally.failures.len(), tally.failures.join("\n\n"));
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
