//! Environment variables by which a test tells its child processes what to run, and the form of their answer.

use std::env;

/// Set in a process that is to run the simulation itself instead of starting children.
pub const IN_CHILD: &str = "SIM_ALONE";
/// Names the [injected fault](quorate::fault_injection) that a process is to arm.
pub const ARMED_FAULT: &str = "SIM_BUG";
/// Starts the line in which a child prints its figures as `name=value`. A process that
/// died prints none.
pub const RESULT: &str = "RESULT";

/// Reads a number from the environment. A variable that is missing or no number counts as `default`.
pub fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
