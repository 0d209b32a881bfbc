//! Floor 2: the replicated chat state machine.
//!
//! Every replica holds the same log of commands and applies it here, one entry after the other, to a store of ordered
//! bytes. [`apply`] is a function of the state and the entry, and of nothing else. So replicas at the same index are
//! identical (P8), and a client gets the same answer from each of them.
//!
//! ```text
//!             CommandBatch {time, commands}                   outcomes: one for each command, a refusal is one too
//!   log ───────────────────────────────────▶  apply(state)  ─▶
//!                                                  │          effects: which conversations and accounts have news
//!                                                  ▼
//!                 queries, subscriptions  ◀──── state
//! ```
//!
//! # What `apply` promises
//!
//! - **Deterministic.** No clock, no randomness, no hash maps, no floats, no threads. Time comes with the entry,
//!   stamped by the leader, and never goes back: *log time* is the largest stamp so far.
//! - **Total.** No input makes it panic or stop. A caller's mistake is an outcome ([`Refusal`]), never an error. An
//!   `Err` means that this replica's disk cannot be trusted, and the node stops.
//! - **All or nothing.** A verb checks everything before it changes anything. A refusal leaves no trace except the
//!   remembered outcome.
//! - **Once.** A write repeated under its request id gets its first outcome again and has no second effect (P4): see
//!   `core/dedup.rs`.
//! - **Bounded.** No command's work grows with the size of a timeline. Work that would, such as erasing everything an
//!   account ever wrote, becomes a chore, and every later command does a step of it: see `core/chores.rs`. Old request
//!   ids and expired sessions are pruned a few at a time.
//!
//! # The journey of a command
//!
//! 1. Do a step of chores, if there are any. For the command `Tend`, which a leader proposes while nobody else writes,
//!    that is all.
//! 2. Judge the request id: malformed, too old, too far ahead, or known. A known one ends the journey.
//! 3. Find the session. It must be live at log time, and so must its account. `CreateAccount`, `CreateSession` and
//!    `AllocateNode` need none: the edge has checked a password or an operator's access.
//! 4. Run the verb: one file in `verbs/` for each kind.
//! 5. Remember the outcome.
//!
//! # Conversations, not mailboxes
//!
//! A message is stored once, in the timeline of its conversation, however many accounts read it. A timeline is a
//! sequence of events numbered densely from 1, the *seq*: messages, deletions, joins, leaves, new titles. Every event
//! also has a *cursor*, its position in the log, which is the same on all replicas. A subscription is all timelines of
//! an account merged by cursor ([`query::events_after`]). Because seqs are dense, its reader can prove that nothing is
//! missing (P5).
//!
//! What belongs to one account is small and is stored beside the timeline: from where on it sees events, how far it has
//! read, which messages it has hidden. Unread counts are derived from these and from numbers on the events, so they
//! cannot drift: see `core/member.rs`.
//!
//! # Who may do what
//!
//! - The first message creates a direct conversation. There is one for each pair of accounts, and one for notes to
//!   oneself.
//! - Rooms have members, a title and an owner: see `verbs/rooms.rs`. A member sees the events from its own joining on.
//!   An account that has left reads no history any more, but its subscriptions still deliver what came before it left.
//! - An account can neither write to an account that has blocked it nor invite it: see `core/blocks.rs`.
//! - The name of a deleted account is never given out again. Its messages stay, with the sender shown as deleted,
//!   unless it asks for their deletion.
//!
//! # Where things are
//!
//! `core/keys.rs` lays out the keys and `store.proto` the records; `core/` holds the rules that several verbs share;
//! `verbs/` changes the state, [`query`] reads it. Verbs and queries use `core` and never each other.
//!
//! # Limitations
//!
//! - An entry written by a newer program may hold a verb that this one does not know. This one refuses it as
//!   INVALID_ARGUMENT, while a newer replica does something. So all replicas must be upgraded before new verbs are
//!   proposed.
//! - Timelines are kept for ever. There is no retention, and only the disk limits the state.
//! - Rate limits are not here: each node keeps its own for the clients that connect to it.

mod apply;
mod core;
pub mod query;
#[cfg(test)]
mod tests;
mod verbs;

pub use self::core::{
    context::Effect,
    error::{QueryError, Refusal},
};
pub use apply::{Applied, Decided, apply};
