//! The full-screen client: `chat` on a terminal without a verb.
//!
//! It is built like a state machine. [`State::handle`](state::State) takes one [event](event::Event) and returns
//! [effects](event::Effect); [`draw`] shows a state. Neither does IO. [`terminal`] runs the loop and is the only file
//! that touches the terminal; [`worker`] is the only one that calls the cluster and the disk.
//!
//! | file | what |
//! |---|---|
//! | [`state`], [`timeline`], [`compose`] | the data: the screen, the open conversation, a text field |
//! | [`update`], [`keys`], [`search`], [`scroll`] | how events change it |
//! | [`rows`], [`draw`] | how it looks |
//!
//! # Invariants
//! - Text of others reaches the terminal only through [`text`](super::text), which escapes it.
//! - A message that the person sends is on disk before the first attempt. It is shown as sending, waiting, failed or too
//!   old until the timeline has it.
//! - The terminal is given back as it was found, on leaving, on a signal, and on a panic.
//! - Memory is bounded: at most twice [`MESSAGES`] messages of the open conversation, and one entry for each other one.

mod compose;
mod draw;
mod event;
mod keys;
mod rows;
mod scroll;
mod search;
mod state;
mod terminal;
#[cfg(test)]
mod tests;
mod timeline;
mod update;
mod worker;

pub use terminal::{Screen, run};

/// Messages of the open conversation held at most while the view is at its end; older ones are dropped and loaded again
/// on scrolling. While the person has scrolled up, twice as many are held.
const MESSAGES: usize = 2_000;
/// Messages per page loaded.
const PAGE: usize = 100;
