//! Runs a named scenario: in child processes for the test that tells it, or in this process if it is such a child.

use std::{any::type_name, env};

use super::{
    child::{failure_of, replay_command, run_in_child},
    one_seed,
    settings::{IN_CHILD, number},
};
use crate::cluster::{Cluster, Plan};

/// Seeds of each scenario, unless `SEEDS` says otherwise.
const SEEDS: u64 = 1;

/// Runs `body` on a cluster of `plan` with each seed. Call it from the test function itself: the child process finds
/// the test by the name of the function in which the closure stands.
pub fn scenario<F: FnOnce(&mut Cluster) + Send + 'static>(plan: Plan, body: F) {
    if env::var(IN_CHILD).is_ok() {
        return one_seed::run_here(number("SIM_SEED", 1), plan, body);
    }
    let test = test_of::<F>();
    let first = number("SIM_FIRST_SEED", 1);
    for seed in first..first + number("SEEDS", SEEDS) {
        let output = run_in_child(test, &[("SIM_SEED", seed.to_string())]);
        if let Some(failure) = failure_of(&output, &replay_command(seed, &format!("--scenario {test}"))) {
            panic!("{failure}");
        }
    }
}

/// The name of the test function in which the closure `F` stands, as the test program knows it: without the crate.
fn test_of<F>() -> &'static str {
    let name = type_name::<F>();
    let name = name.split_once("::").map_or(name, |(_crate, name)| name);
    name.trim_end_matches("::{{closure}}")
}
