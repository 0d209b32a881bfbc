//! Floor 1: how many failures a cluster survives, and whether a change to its membership is safe. Pure arithmetic, no
//! IO.
//!
//! A [`Layout`] says which nodes vote, which zone each is in and which answer. [`Layout::tolerance`] computes exactly
//! what may fail next. [`judge`] decides whether a [`Change`] may be made.
//!
//! # Why this is exact and cheap
//!
//! Writes go on while every voter set keeps a majority of answering voters. During a membership change there are two
//! sets (Raft's joint consensus, section 6 of the extended paper), and breaking either of them stops writes. An
//! adversary who chooses the failures therefore attacks one set, so the answer is the worst over the sets, each taken
//! alone:
//!
//! - A set with `s` answering voters more than its quorum breaks when any `s + 1` of them fail, and no sooner.
//! - By zones, it breaks soonest when the zones that hold most of its answering voters fail first.
//!
//! So no code here enumerates subsets of nodes. A property test (`brute.rs`) does, and compares.
//!
//! # What it leaves out
//!
//! The caller finds out whether a node answers, and passes it in as `healthy`. The caller also chooses node ids, and
//! never uses one twice. Whether a node has caught up with the log is not looked at here.

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
