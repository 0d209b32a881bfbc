//! Runs the simulation: one seed in this process, or many seeds in child processes, and reports on them.
//!
//! Each seed gets a process of its own. So whatever is global starts anew (armed faults, thread-local counters, hash
//! keys), and a seed replays exactly, whether it runs alone or as one of thousands.

mod child;
mod one_seed;
mod scenario;
mod seeds;
mod settings;

pub use child::{output_of, result_field, run_in_child};
pub use one_seed::{run_here, under_all_faults};
pub use scenario::scenario;
pub use seeds::{SeedRange, cores, run_seeds};
pub use settings::{ARMED_FAULT, number};
