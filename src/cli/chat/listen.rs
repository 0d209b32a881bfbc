//! The verb `listen`: live events until interrupted, through failovers.

use super::{
    command_context::CommandContext,
    rooms,
    show::{self, Titles},
};
use crate::{
    cli::{Failure, Output, Result, text},
    client::{Start, Update},
    types::Cursor,
    wire::Fault,
};

pub(super) async fn listen(mut context: CommandContext, after: Option<Cursor>) -> Result<()> {
    let (session, _) = context.session()?;
    let start = after.map_or(Start::Now, |cursor| Start::After(cursor.0));
    let mut subscription = session.subscribe(start);
    let mut listener = Listener { titles: None, lost: false };
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    loop {
        let update = tokio::select! {
            biased;
            _ = &mut interrupt => break,
            update = subscription.next() => update,
        };
        match update {
            None => break,
            Some(Err(fault)) => return Err(Failure::from(fault).context("the stream of events ended")),
            Some(Ok(update)) => {
                if matches!(update, Update::Connected(_)) && listener.titles.is_none() && !context.output().is_json() {
                    // Without titles, rooms are shown by their ids.
                    let rooms = rooms::all(&session, false).await.unwrap_or_default();
                    listener.titles = Some(Titles::of(&rooms));
                }
                listener.print(update, context.output())?;
            }
        }
    }
    if subscription.cursor() > 0 {
        context.output().talk(format!("resume with `chat listen --after {}`", subscription.cursor()));
    }
    Ok(())
}

/// Prints updates of a subscription.
struct Listener {
    /// `None` until the first connection, where they are asked for.
    titles: Option<Titles>,
    /// The connection is lost and the person has been told. Each loss is reported once, however many attempts follow.
    lost: bool,
}

impl Listener {
    fn print(&mut self, update: Update, output: &mut Output) -> Result<()> {
        match update {
            Update::Event(event) if output.is_json() => return output.message(&event),
            Update::Event(event) => {
                if let Some(line) = show::event(&event, self.titles.get_or_insert_default()) {
                    output.line(line)?;
                    output.raw([])?;
                }
            }
            Update::Connected(address) => {
                let again = if std::mem::take(&mut self.lost) { " again" } else { "" };
                output.talk(format!("connected{again}: {address}"));
            }
            Update::Reconnecting(fault) => {
                if !std::mem::replace(&mut self.lost, true) {
                    output.talk(warning("connection lost, looking for another node", &fault));
                }
            }
            Update::NoQuorum => output.talk("no leader: one is elected within seconds if enough nodes are up"),
            Update::Quorum => output.talk("there is a leader again"),
            Update::Broken(fault) => output.talk(warning("WARNING", &fault)),
        }
        Ok(())
    }
}

fn warning(what: &str, fault: &Fault) -> String {
    format!("{what}: {}", text::line(&fault.message))
}
