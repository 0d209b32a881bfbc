//! Messages kept until they are acknowledged.

use serde_json::json;

use super::{Desk, args::OutboxVerb};
use crate::{
    cli::{Exit, Failure, Result, Table, text},
    client::{Delivery, Fate, Kept, Outbox, OutboxError, Recipient, Session, To},
    types::RequestId,
    wire::{Fault, chat::SendMessageResponse},
};

/// Columns of a message that a listing shows.
const EXCERPT: usize = 40;

impl From<OutboxError> for Failure {
    fn from(error: OutboxError) -> Self {
        let exit = if matches!(error, OutboxError::Absent(_)) { Exit::NotFound } else { Exit::Failure };
        Self::new(exit, error.to_string())
    }
}

pub(super) async fn run(mut desk: Desk, verb: Option<OutboxVerb>) -> Result<()> {
    let (session, context) = desk.session()?;
    let outbox = desk.outbox(&context)?;
    match verb.unwrap_or(OutboxVerb::List) {
        OutboxVerb::List => list(&mut desk, &outbox),
        OutboxVerb::Flush => flush(&mut desk, &session, &outbox).await,
        OutboxVerb::Resend { id } => {
            decided(&outbox, id)?;
            outbox.renew(id, session.cluster().request_id())?;
            flush(&mut desk, &session, &outbox).await
        }
        OutboxVerb::Drop { id } => {
            outbox.strike(id)?;
            desk.output().talk("given up");
            Ok(())
        }
    }
}

/// Refuses to give a new request_id to a message that still waits: it would risk a double for nothing.
fn decided(outbox: &Outbox, id: RequestId) -> Result<()> {
    let waits = outbox.entries()?.iter().any(|kept| kept.id == id && kept.fate == Fate::Waiting);
    if waits {
        return Err(Failure::new(Exit::Refused, "this message still waits, and goes out by itself")
            .next("`chat outbox flush` tries now"));
    }
    Ok(())
}

fn list(desk: &mut Desk, outbox: &Outbox) -> Result<()> {
    let entries = outbox.entries()?;
    if desk.output().is_json() {
        return entries.iter().try_for_each(|kept| {
            let (state, why) = state(&kept.fate);
            let (id, to) = (kept.id.to_string(), label(&kept.to, |title| format!("#{title}")));
            desk.output().json(&json!({ "requestId": id, "to": to, "body": kept.body, "state": state, "why": why }))
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
        desk.output().talk("the outbox is empty");
        return Ok(());
    }
    desk.output().table(&table)
}

fn state(fate: &Fate) -> (&'static str, &str) {
    match fate {
        Fate::Waiting => ("waiting", ""),
        Fate::Refused(why) => ("refused", why),
        Fate::TooOld => ("too old", "it may have been delivered, or not: `resend` or `drop` it"),
    }
}

fn label(to: &To, title: impl Fn(&str) -> String) -> String {
    match to {
        To::Known(Recipient::Username(name)) => name.clone(),
        To::Known(Recipient::Conversation(id)) => id.to_string(),
        To::RoomTitled(room) => title(room),
    }
}

async fn flush(desk: &mut Desk, session: &Session, outbox: &Outbox) -> Result<()> {
    let flushed = deliver_all(session, outbox).await?;
    if desk.output().is_json() {
        flushed.sent.iter().try_for_each(|(_, answer)| desk.output().message(answer))?;
    } else {
        desk.output().talk(format!("{} delivered", flushed.sent.len()));
    }
    flushed.complain(outbox)
}

/// What a pass over the outbox did.
#[derive(Default)]
pub(super) struct Flushed {
    /// Acknowledged, in order.
    pub(super) sent: Vec<(RequestId, SendMessageResponse)>,
    /// Refused for certain, or too old.
    pub(super) refused: Vec<(Kept, Fault)>,
    /// Why the pass ended early.
    pub(super) stopped: Option<Fault>,
}

impl Flushed {
    /// The failure to end with, if not all has left.
    fn complain(self, outbox: &Outbox) -> Result<()> {
        let left = outbox.entries()?.len();
        if let Some(fault) = self.stopped {
            return Err(Failure::from(fault).context(format!("{left} not acknowledged yet, and kept")));
        }
        match self.refused.into_iter().next() {
            Some((_, fault)) => Err(Failure::from(fault)
                .context(format!("{left} not delivered, and kept"))
                .next("`chat outbox` lists them; `chat outbox resend ID` or `chat outbox drop ID` decides")),
            None => Ok(()),
        }
    }
}

/// Delivers what waits, in order, until one has to wait longer.
pub(super) async fn deliver_all(session: &Session, outbox: &Outbox) -> Result<Flushed> {
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

/// Before a message is sent past the outbox: delivers what was kept before it, so that the order stands.
pub(super) async fn make_way(desk: &mut Desk, session: &Session, outbox: &Outbox) -> Result<()> {
    if !outbox.is_waiting()? {
        return Ok(());
    }
    let flushed = deliver_all(session, outbox).await?;
    if !flushed.sent.is_empty() {
        desk.output().talk(format!("{} delivered from the outbox", flushed.sent.len()));
    }
    for (kept, fault) in &flushed.refused {
        desk.output().talk(format!("kept in the outbox: {}: {}", kept.id, text::line(&fault.message)));
    }
    match flushed.stopped {
        Some(fault) => Err(Failure::from(fault)
            .context("not sent, since earlier messages still wait in the outbox")
            .next("add --queue to have it wait behind them")),
        None => Ok(()),
    }
}

/// Keeps a message and tries to deliver all there is.
pub(super) async fn queue(
    desk: &mut Desk,
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
        return super::messages::show_sent(desk, &answer);
    }
    if let Some((_, fault)) = flushed.refused.into_iter().find(|(kept, _)| kept.id == id) {
        // The person is here and is told: nothing is left to decide later.
        outbox.strike(id)?;
        return Err(Failure::from(fault).context("not sent"));
    }
    if desk.output().is_json() {
        return desk.output().json(&json!({ "requestId": id.to_string(), "queued": true }));
    }
    let why = flushed.stopped.map(|fault| format!(" ({})", text::line(&fault.message))).unwrap_or_default();
    desk.output().talk(format!("kept, to be delivered with the next send or by `chat outbox flush`{why}"));
    Ok(())
}
