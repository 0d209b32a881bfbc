//! Floor 1: what a group of voters survives, and whether a change to it is safe. Pure arithmetic, no IO.
//!
//! A [`Layout`] says who votes, where each node stands and who answers. [`Layout::tolerance`] says exactly what may
//! fail next; [`judge`] says whether a [`Change`] may be made.
//!
//! # Why this is exact and cheap
//!
//! Writes go on while every voter set keeps a majority of answering voters. While a membership change is under way
//! there are two sets (Raft's joint consensus, section 6 of the paper), and failing either one stops writes. So an
//! adversary who picks what fails need only break one set, and the answer is the worst over the sets, each taken
//! alone:
//!
//! - a set that has `s` answering voters more than its quorum breaks at the loss of any `s + 1` of them, no fewer;
//! - by zones, it breaks soonest when the zones holding most of its answering voters go first.
//!
//! No subsets are enumerated; a property test does so and compares.
//!
//! # Left to others
//!
//! Whether a node answers, has caught up, or may be trusted is found out elsewhere and comes in as `healthy`. Node ids
//! are given by the caller and never reused by it.

mod advice;
mod change;
mod layout;
mod tolerance;
mod words;

pub use change::{ACCEPT_LOWER_TOLERANCE, Change, Verdict, judge};
pub use layout::{Layout, Node};
pub use tolerance::{Majority, Tolerance, ZoneLoss};

#[cfg(test)]
mod brute;
#[cfg(test)]
mod script;
