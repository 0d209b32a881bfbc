//! The verb `outbox`, `send --queue`, and the rule that a later send does not overtake waiting messages.
//!
//! The outbox itself, its file and its promises are in [`client::Outbox`](crate::client::Outbox).

use serde_json::json;

use super::{args::OutboxVerb, command_context::CommandContext, show};
use crate::{
    cli::{Exit, Failure, Result, Table, text},
    client::{Delivery, Fate, Kept, Outbox, OutboxError, Recipient, Session, To},
    types::RequestId,
    wire::{Fault, chat::SendMessageResponse},
};

/// Characters of a message that a listing shows.
const EXCERPT: usize = 40;

impl From<OutboxError> for Failure {
    fn from(error: OutboxError) -> Self {
        let exit = if matches!(error, OutboxError::Absent(_)) { Exit::NotFound } else { Exit::Failure };
        Self::new(exit, error.to_string())
    }
}

pub(super) async fn run(mut context: CommandContext, verb: Option<OutboxVerb>) -> Result<()> {
    let (session, saved) = context.session()?;
    let outbox = context.outbox(&saved)?;
    match verb.unwrap_or(OutboxVerb::List) {
        OutboxVerb::List => list(&mut context, &outbox),
        OutboxVerb::Flush => flush(&mut context, &session, &outbox).await,
        OutboxVerb::Resend { id } => {
            refuse_if_waiting(&outbox, id)?;
            outbox.renew(id, session.cluster().request_id())?;
            flush(&mut context, &session, &outbox).await
        }
        OutboxVerb::Drop { id } => {
            outbox.strike(id)?;
            context.output().talk("dropped");
            Ok(())
        }
    }
}

/// Refuses to resend a message that still waits. A new request_id could send it twice, and it goes out by itself anyway.
fn refuse_if_waiting(outbox: &Outbox, id: RequestId) -> Result<()> {
    let waits = outbox.entries()?.iter().any(|kept| kept.id == id && kept.fate == Fate::Waiting);
    if waits {
        return Err(Failure::new(Exit::Refused, "the message still waits and goes out by itself")
            .next("`chat outbox flush` tries now"));
    }
    Ok(())
}

fn list(context: &mut CommandContext, outbox: &Outbox) -> Result<()> {
    let entries = outbox.entries()?;
    if context.output().is_json() {
        return entries.iter().try_for_each(|kept| {
            let (state, why) = state(&kept.fate);
            let (id, to) = (kept.id.to_string(), label(&kept.to, |title| format!("#{title}")));
            context.output().json(&json!({ "requestId": id, "to": to, "body": kept.body, "state": state, "why": why }))
        });
    }
    let mut table = Table::new(["REQUEST ID", "TO", "STATE", "MESSAGE"]);
    for kept in &entries {
        let excerpt: String = kept.body.lines().next().unwrap_or_default().chars().take(EXCERPT).collect();
        let (state, why) = state(&kept.fate);
        let state = if why.is_empty() { state.to_owned() } else { format!("{state}: {why}") };
        table.row([kept.id.to_string(), label(&kept.to, text::title), state, excerpt]);
    }
    if entries.is_empty() {
        context.output().talk("the outbox is empty");
        return Ok(());
    }
    context.output().table(&table)
}

fn state(fate: &Fate) -> (&'static str, &str) {
    match fate {
        Fate::Waiting => ("waiting", ""),
        Fate::Refused(why) => ("refused", why),
        Fate::TooOld => ("too old", "it may or may not have been delivered: `resend` or `drop` it"),
    }
}

fn label(to: &To, title: impl Fn(&str) -> String) -> String {
    match to {
        To::Known(Recipient::Username(name)) => name.clone(),
        To::Known(Recipient::Conversation(id)) => id.to_string(),
        To::RoomTitled(room) => title(room),
    }
}

async fn flush(context: &mut CommandContext, session: &Session, outbox: &Outbox) -> Result<()> {
    let flushed = deliver_all(session, outbox).await?;
    if context.output().is_json() {
        flushed.sent.iter().try_for_each(|(_, answer)| context.output().message(answer))?;
    } else {
        context.output().talk(format!("{} delivered", flushed.sent.len()));
    }
    flushed.into_result(outbox)
}

/// The result of one pass over the outbox.
///
/// A pass tries waiting messages in order and ends at the first that has to wait longer (`stopped`), so no message
/// overtakes another. Refused ones do not hold up the rest: they stay in the file until the person decides.
#[derive(Default)]
struct Flushed {
    /// Acknowledged, in order.
    sent: Vec<(RequestId, SendMessageResponse)>,
    /// Refused for certain, or too old to repeat.
    refused: Vec<(Kept, Fault)>,
    /// Why the pass ended early.
    stopped: Option<Fault>,
}

impl Flushed {
    /// Fails if this pass left a message behind.
    fn into_result(self, outbox: &Outbox) -> Result<()> {
        let left = outbox.entries()?.len();
        if let Some(fault) = self.stopped {
            return Err(Failure::from(fault).context(format!("{left} not acknowledged yet, kept in the outbox")));
        }
        match self.refused.into_iter().next() {
            Some((_, fault)) => Err(Failure::from(fault)
                .context(format!("{left} not delivered, kept in the outbox"))
                .next("`chat outbox` lists them; decide with `chat outbox resend ID` or `chat outbox drop ID`")),
            None => Ok(()),
        }
    }
}

/// Runs one pass.
async fn deliver_all(session: &Session, outbox: &Outbox) -> Result<Flushed> {
    let mut flushed = Flushed::default();
    for kept in outbox.entries()?.into_iter().filter(|kept| kept.fate == Fate::Waiting) {
        match outbox.deliver(session, &kept).await? {
            Delivery::Sent(answer) => flushed.sent.push((kept.id, answer)),
            Delivery::Refused(fault) | Delivery::TooOld(fault) => flushed.refused.push((kept, fault)),
            Delivery::Waiting(fault) => {
                flushed.stopped = Some(fault);
                break;
            }
        }
    }
    Ok(flushed)
}

/// Delivers waiting messages before one that is sent without the outbox, so that it does not overtake them.
pub(super) async fn deliver_earlier(context: &mut CommandContext, session: &Session, outbox: &Outbox) -> Result<()> {
    if !outbox.is_waiting()? {
        return Ok(());
    }
    let flushed = deliver_all(session, outbox).await?;
    if !flushed.sent.is_empty() {
        context.output().talk(format!("{} delivered from the outbox", flushed.sent.len()));
    }
    for (kept, fault) in &flushed.refused {
        context.output().talk(format!("kept in the outbox: {}: {}", kept.id, text::line(&fault.message)));
    }
    match flushed.stopped {
        Some(fault) => Err(Failure::from(fault)
            .context("not sent, because earlier messages still wait in the outbox")
            .next("add --queue to put it in the outbox behind them")),
        None => Ok(()),
    }
}

/// Puts a message into the outbox and runs one pass.
pub(super) async fn queue(
    context: &mut CommandContext,
    session: &Session,
    outbox: &Outbox,
    id: RequestId,
    to: To,
    body: &str,
) -> Result<()> {
    outbox.keep(id, to, body)?;
    let mut flushed = deliver_all(session, outbox).await?;
    if let Some(at) = flushed.sent.iter().position(|(sent, _)| *sent == id) {
        let (_, answer) = flushed.sent.swap_remove(at);
        return show::acknowledged(context.output(), &answer);
    }
    if let Some((_, fault)) = flushed.refused.into_iter().find(|(kept, _)| kept.id == id) {
        // The person reads this error now, so there is nothing left to decide later.
        outbox.strike(id)?;
        return Err(Failure::from(fault).context("not sent"));
    }
    if context.output().is_json() {
        return context.output().json(&json!({ "requestId": id.to_string(), "queued": true }));
    }
    let why = flushed.stopped.map(|fault| format!(" ({})", text::line(&fault.message))).unwrap_or_default();
    context.output().talk(format!("kept on disk; the next `chat send` or `chat outbox flush` delivers it{why}"));
    Ok(())
}
