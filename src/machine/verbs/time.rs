//! Log time: set it back after a wrong clock has carried it ahead (ADR 0070).

use crate::{
    machine::core::{context::Context, dedup},
    storage,
    wire::store::{self, outcome::Result as Done},
};

/// Sets log time back, and refuses from now on every new request whose outcome may have been pruned (P4). A time that is
/// not earlier leaves log time where it is, so a repetition is harmless; the operator's word counts all the same.
///
/// Sessions keep their ends: one that began in the wrong time lasts longer by as much. One that was not pruned yet is
/// alive again if its end is still to come.
pub fn correct(context: &mut Context<'_>, verb: &store::CorrectTime) -> storage::Result<Done> {
    let from_ms = context.now_ms();
    context.meta.accepts_from_ms =
        dedup::accepts_from_ms(context.state, &context.meta, verb.time_ms, verb.clients_ahead_ms)?;
    context.meta.time_ms = from_ms.min(verb.time_ms);
    let (to_ms, accepts_from_ms) = (context.now_ms(), context.meta.accepts_from_ms);
    Ok(Done::TimeCorrected(store::TimeCorrected { from_ms, to_ms, accepts_from_ms }))
}
