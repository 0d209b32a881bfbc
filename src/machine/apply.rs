//! Applies one log entry to the state: judges each command, dispatches it to its verb, and remembers its outcome.

use std::collections::BTreeSet;

use super::{
    core::{
        actor::{self, Actor},
        chores,
        context::{Context, Effect},
        dedup,
        error::{QueryError, Refusal, Result, refuse},
        session_table,
    },
    verbs::{accounts, blocking, deleting, messages, reading, rooms, sessions, time},
};
use crate::{
    storage::{self, kv},
    wire::{
        Reason,
        store::{self, command::Verb, outcome},
    },
};

/// Rows that each command of an entry prunes from the table of requests and from that of sessions. More than the one
/// row that a command adds, so that the tables shrink again after a burst.
const PRUNE_PER_COMMAND: usize = 2;

/// The results of one log entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The outcome of each command, in their order.
    pub outcomes: Vec<Decided>,
    /// What to tell subscribers once the entry is committed to the store: each effect once, in order of occurrence.
    pub effects: Vec<Effect>,
}

/// The result of one command.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// The outcome; a refusal is one too.
    pub outcome: store::Outcome,
    /// Whether an earlier command with the same request id had this outcome, so that this one did nothing.
    pub deduplicated: bool,
}

impl Decided {
    fn new(result: outcome::Result) -> Self {
        Self { outcome: store::Outcome { result: Some(result) }, deduplicated: false }
    }
}

/// Applies the log entry at `index` to the state. The caller commits the changes together with the index, or drops
/// them.
///
/// # Errors
/// Only if the store cannot be read or written, or holds what cannot be. Then the node must stop, and the changes must
/// be dropped.
pub fn apply(state: &mut dyn kv::Write, index: u64, batch: &store::CommandBatch) -> storage::Result<Applied> {
    let mut context = Context::begin(state, index, batch.time_ms)?;
    let mut outcomes = Vec::with_capacity(batch.commands.len());
    for command in &batch.commands {
        outcomes.push(decide(&mut context, command)?);
    }
    let share = (batch.commands.len() + 1).saturating_mul(PRUNE_PER_COMMAND);
    dedup::prune(&mut context, share)?;
    session_table::prune(&mut context, share)?;
    let mut seen = BTreeSet::new();
    let mut effects = context.finish()?;
    effects.retain(|effect| seen.insert(*effect));
    Ok(Applied { outcomes, effects })
}

fn decide(context: &mut Context<'_>, command: &store::Command) -> storage::Result<Decided> {
    if !context.has_room() {
        let full = Refusal::new(Reason::Overloaded, "the log entry is full; send the command again");
        return Ok(Decided::new(refused(full)));
    }
    chores::run_step(context)?;
    if let Some(Verb::Tend(_)) = command.verb {
        return Ok(Decided::new(outcome::Result::Tended(store::Tended { chores: context.meta.chores })));
    }
    if let Some(Verb::CorrectTime(verb)) = &command.verb {
        return Ok(Decided::new(time::correct(context, verb)?));
    }
    match once(context, command) {
        Ok(decided) => Ok(decided),
        Err(QueryError::Refused(refusal)) => Ok(Decided::new(refused(refusal))),
        Err(QueryError::Storage(error)) => Err(error),
    }
}

/// Judges request id and session, then runs the verb unless its outcome is known, and remembers the outcome. An `Err`
/// that is a refusal is not remembered.
fn once(context: &mut Context<'_>, command: &store::Command) -> Result<Decided> {
    let id = dedup::request_id(context, command)?;
    let actor = actor::find(context, &command.session_key)?;
    if let Some(outcome) = dedup::recall(context, id, command, actor.as_ref())? {
        return Ok(Decided { outcome, deduplicated: true });
    }
    if needs_session(command) && actor.is_none() {
        return refuse(Reason::SessionInvalid, "the session is over or was never there; log in again");
    }
    let decided = match run_verb(context, command, actor.as_ref()) {
        Ok(result) => Decided::new(result),
        Err(QueryError::Refused(refusal)) => Decided::new(refused(refusal)),
        Err(error) => return Err(error),
    };
    dedup::remember(context, id, command, actor.as_ref(), &decided.outcome)?;
    Ok(decided)
}

/// The edge vouches for the verbs without a session: it has checked a password, or the caller is an operator.
fn needs_session(command: &store::Command) -> bool {
    !matches!(command.verb, Some(Verb::CreateAccount(_) | Verb::CreateSession(_) | Verb::AllocateNode(_)))
}

fn run_verb(context: &mut Context<'_>, command: &store::Command, actor: Option<&Actor>) -> Result<outcome::Result> {
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
        (None | Some(Verb::Tend(_) | Verb::CorrectTime(_)), _) | (_, None) => {
            let message = "the command is empty, or of a kind that this version does not know";
            refuse(Reason::InvalidArgument, message)
        }
    }
}

/// A refusal as an outcome. Outcomes have no place for the field: the edge checks fields before it proposes.
fn refused(refusal: Refusal) -> outcome::Result {
    let Refusal { reason, message, field: _ } = refusal;
    outcome::Result::Refusal(store::Refusal { reason: reason.as_str().to_owned(), message })
}
