//! The whole product in one deterministic process: servers, the real client library, an operator; simulated are the
//! network, the disks, the clocks and all randomness, from one seed.
#![allow(dead_code, reason = "the operator's errands are the next step of this suite")]

mod cluster;
mod judge;
mod ledger;
mod nemesis;
mod net;
mod operator;
mod replica;
mod rng;
mod run;
mod tame;
mod users;
mod world;

use cluster::Plan;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One seed, with the faults of all kinds: `SIM_SEED`.
#[test]
#[ignore = "run by the others, in a process of its own"]
fn one_seed() {
    let seed = number("SIM_SEED", 1);
    run::alone(seed, Plan::default(), run::storm(seed, number("SIM_SECONDS", 20)));
}
