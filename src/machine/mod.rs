//! Floor 2: the replicated chat state machine.
//!
//! Every replica holds the same log of commands and applies it here, one entry after the other, to a store of ordered
//! bytes. From that follows all that a chat service promises: if [`apply`] is a function of the state and the entry,
//! and of nothing else, then replicas at the same index are identical (P8), whichever of them is asked.
//!
//! ```text
//!             CommandBatch {time, commands}                   outcomes: one for each command, a refusal is one too
//!   log ───────────────────────────────────▶  apply(state)  ─▶
//!                                                  │          effects: who has something new to look at
//!                                                  ▼
//!                 queries, subscriptions  ◀──── state
//! ```
//!
//! # What `apply` promises
//!
//! - **Deterministic.** No clock, no randomness, no hash maps, no floats, no threads. Time comes with the entry, stamped
//!   by the leader, and never goes back: what counts is the largest stamp seen, *log time*.
//! - **Total.** No input, however odd, panics it or stops it. What a caller can get wrong is an outcome
//!   (`Refusal`), never an error. An `Err` means that this replica's disk cannot be trusted: the node stops.
//! - **All or nothing.** A verb looks at everything before it changes anything, so a refusal leaves no trace, but for
//!   the outcome that is remembered.
//! - **Once.** A write repeated under its request id has its first outcome again and no second effect (P4): `dedup`.
//! - **Bounded.** No command's work grows with the size of a timeline. What could (erasing what an account ever wrote)
//!   is left as a chore, of which every later command does a step: `chores`. Old request ids and expired sessions are
//!   pruned a few at a time.
//!
//! # The journey of a command
//!
//! 1. A step of chores, if there are any.
//!    A `Tend`, with which a leader sees to chores while nobody else writes, is nothing more than that.
//! 2. Its request id is judged: malformed, too old, too far ahead, known. A known one ends the journey.
//! 3. The session is looked up: it must be live at log time, and so must its account. `CreateAccount`, `CreateSession`
//!    and `AllocateNode` need none; the edge, or the operator's access, stands for them.
//! 4. The verb: one file for each family, `accounts`, `blocking`, `sessions`, `rooms`, `messages`, `reading`, `deleting`.
//! 5. The outcome is remembered.
//!
//! # Conversations, not mailboxes
//!
//! A message is stored once, in the timeline of its conversation, however many read it. A timeline is a sequence of
//! events numbered densely from 1: messages, deletions, joins, leaves, new titles. Beside its *seq*, every event has a
//! *cursor*, its place in the log, the same on all replicas; a subscription is all timelines of an account merged by
//! cursor ([`query::events_after`]), and because seqs are dense its reader can prove that nothing is missing (P5).
//!
//! What is an account's own is small and stands beside the timeline: from where on it sees it, up to where it has read
//! it, which messages it has hidden. Unread counts are derived from that and from numbers on the events, see `reading`;
//! nothing is counted up and down that could drift.
//!
//! # Who may do what
//!
//! - A direct conversation is made by its first message; there is one for each pair, and one for notes to oneself.
//! - Rooms have members, a title and an owner: see `rooms`. A member sees events from its own joining on. After it has
//!   left it reads no history any more, but its subscriptions still get what came before it left.
//! - Who has blocked an account is neither written to nor invited by it: see `blocking`.
//! - A deleted account's name is never given out again. Its messages stay, with the sender shown as deleted, or go if
//!   it asks for that.
//!
//! Keys are laid out in `keys`, records in `store.proto`. Everything read is answered by [`query`].
//!
//! # What is missing
//!
//! - An entry written by a newer program may hold a verb that this one does not know. It is refused as INVALID_ARGUMENT,
//!   which on a newer replica would have done something: all replicas must be upgraded before new verbs are proposed.
//! - Timelines are kept for ever. There is no retention, and no limit on the state but the disk's.
//! - Rate limits are kept where clients come in, by each node for itself: nothing of them is agreed on.

mod accounts;
mod blocking;
mod chores;
mod context;
mod conversations;
mod dedup;
mod deleting;
mod error;
mod keys;
mod messages;
pub mod query;
mod reading;
mod records;
mod rooms;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use error::{QueryError, Refusal};

use context::Context;
use sessions::Actor;

use crate::{
    storage::{self, kv},
    types::{AccountId, ConversationId},
    wire::{
        Reason,
        store::{self, command::Verb, outcome},
    },
};

/// Rows pruned for each command of an entry, from either table that is pruned.
const PRUNE_PER_COMMAND: usize = 2;

/// What came of one log entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// What came of each command, in their order.
    pub outcomes: Vec<Decided>,
    /// What to tell subscribers once the entry is committed to the store: each effect once, in order of occurrence.
    pub effects: Vec<Effect>,
}

/// What came of one command.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// The outcome; a refusal is one too.
    pub outcome: store::Outcome,
    /// Whether it is the outcome of an earlier command with the same request id.
    pub deduplicated: bool,
}

/// Somebody has something new to look at. Says where, not what: the state says that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// A conversation has a new event, or in a direct one a read mark has moved.
    Conversation(ConversationId),
    /// An account joined or left a conversation, read or hid something, ended a session or was deleted.
    Account(AccountId),
}

/// Applies the log entry at `index` to the state.
///
/// # Errors
/// Only if the store cannot be read or written, or holds what cannot be: then the node must stop. The batch of
/// changes is to be dropped.
pub fn apply(state: &mut dyn kv::Write, index: u64, batch: &store::CommandBatch) -> storage::Result<Applied> {
    let mut context = Context::begin(state, index, batch.time_ms)?;
    let mut outcomes = Vec::with_capacity(batch.commands.len());
    for command in &batch.commands {
        outcomes.push(decide(&mut context, command)?);
    }
    let share = (batch.commands.len() + 1).saturating_mul(PRUNE_PER_COMMAND);
    dedup::prune(&mut context, share)?;
    sessions::prune(&mut context, share)?;
    let mut seen = BTreeSet::new();
    let mut effects = context.finish()?;
    effects.retain(|effect| seen.insert(*effect));
    Ok(Applied { outcomes, effects })
}

fn decide(context: &mut Context<'_>, command: &store::Command) -> storage::Result<Decided> {
    if !context.has_room() {
        let message = "the log entry is full; send the command again".to_owned();
        return Ok(Decided { outcome: refusal(Reason::Overloaded, message), deduplicated: false });
    }
    chores::go_on(context)?;
    if let Some(Verb::Tend(_)) = command.verb {
        let tended = outcome::Result::Tended(store::Tended { chores: context.meta.chores });
        return Ok(Decided { outcome: store::Outcome { result: Some(tended) }, deduplicated: false });
    }
    match once(context, command) {
        Ok(decided) => Ok(decided),
        Err(QueryError::Refused(Refusal { reason, message, .. })) => {
            Ok(Decided { outcome: refusal(reason, message), deduplicated: false })
        }
        Err(QueryError::Storage(error)) => Err(error),
    }
}

/// Judges request id and session, then does what the verb says unless it has been done. Refusals that come as `Err`
/// are not remembered.
fn once(context: &mut Context<'_>, command: &store::Command) -> error::Result<Decided> {
    let id = dedup::request_id(context, command)?;
    let actor = sessions::actor(context, &command.session_key)?;
    if let Some(outcome) = dedup::recall(context, id, command, actor.as_ref())? {
        return Ok(Decided { outcome, deduplicated: true });
    }
    if needs_session(command) && actor.is_none() {
        return error::refuse(Reason::SessionInvalid, "the session is over or was never there; log in again");
    }
    let outcome = match perform(context, command, actor.as_ref()) {
        Ok(result) => store::Outcome { result: Some(result) },
        Err(QueryError::Refused(Refusal { reason, message, .. })) => refusal(reason, message),
        Err(error) => return Err(error),
    };
    dedup::remember(context, id, command, actor.as_ref(), &outcome)?;
    Ok(Decided { outcome, deduplicated: false })
}

fn needs_session(command: &store::Command) -> bool {
    !matches!(command.verb, Some(Verb::CreateAccount(_) | Verb::CreateSession(_) | Verb::AllocateNode(_)))
}

fn perform(
    context: &mut Context<'_>,
    command: &store::Command,
    actor: Option<&Actor>,
) -> error::Result<outcome::Result> {
    match (&command.verb, actor) {
        (Some(Verb::CreateAccount(verb)), _) => accounts::create(context, verb),
        (Some(Verb::CreateSession(verb)), _) => sessions::create(context, verb),
        (Some(Verb::AllocateNode(verb)), _) => accounts::allocate_node(context, verb),
        (Some(Verb::DeleteAccount(verb)), Some(actor)) => accounts::delete(context, actor, verb),
        (Some(Verb::ChangePassword(verb)), Some(actor)) => accounts::change_password(context, actor, verb),
        (Some(Verb::DeleteSession(verb)), Some(actor)) => sessions::delete(context, actor, verb),
        (Some(Verb::UpdateSettings(verb)), Some(actor)) => accounts::update_settings(context, actor, verb),
        (Some(Verb::BlockAccount(verb)), Some(actor)) => blocking::block(context, actor, verb),
        (Some(Verb::UnblockAccount(verb)), Some(actor)) => blocking::unblock(context, actor, verb),
        (Some(Verb::CreateRoom(verb)), Some(actor)) => rooms::create(context, actor, verb),
        (Some(Verb::UpdateRoom(verb)), Some(actor)) => rooms::update(context, actor, verb),
        (Some(Verb::JoinRoom(verb)), Some(actor)) => rooms::join(context, actor, verb),
        (Some(Verb::LeaveRoom(verb)), Some(actor)) => rooms::leave(context, actor, verb),
        (Some(Verb::SendMessage(verb)), Some(actor)) => messages::send(context, actor, verb),
        (Some(Verb::MarkRead(verb)), Some(actor)) => reading::mark_read(context, actor, verb),
        (Some(Verb::DeleteMessages(verb)), Some(actor)) => deleting::delete(context, actor, verb),
        (None | Some(Verb::Tend(_)), _) | (_, None) => {
            error::invalid("the command is empty, or of a kind that this version does not know")
        }
    }
}

fn refusal(reason: Reason, message: String) -> store::Outcome {
    let refusal = store::Refusal { reason: reason.as_str().to_owned(), message };
    store::Outcome { result: Some(outcome::Result::Refusal(refusal)) }
}
