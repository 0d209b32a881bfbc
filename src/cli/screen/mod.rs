//! `chat` on a terminal without a subcommand: the full-screen client.
//!
//! The core is pure: [`State::take`](state::State) turns an event into a new state and effects, and [`draw`] shows a
//! state. [`terminal`] is the only file that touches the terminal, [`work`] the only one that calls the cluster.
//!
//! # Invariants
//! - Nothing that others wrote reaches the terminal but through [`text`](super::text).
//! - A message that the person has sent is on disk before the first attempt, and is shown as sending, waiting, sent or
//!   failed until it stands in the timeline.
//! - However the screen ends, the terminal is left as it was found: on leaving, on a signal, on a panic.
//! - Memory is bounded: [`MESSAGES`] of the open conversation, one line for each other one.

mod compose;
mod draw;
mod event;
mod keys;
mod rows;
mod state;
mod terminal;
#[cfg(test)]
mod tests;
mod timeline;
mod work;

pub use terminal::run;

/// Messages of the open conversation held at most; older ones are forgotten and asked for again.
const MESSAGES: usize = 2_000;
/// Messages asked for at once.
const PAGE: usize = 100;
