//! Live events, until interrupted.

use super::{
    Desk, rooms,
    show::{self, Titles},
};
use crate::{
    cli::{Failure, Output, Result, text},
    client::{Start, Update},
    types::Cursor,
    wire::Fault,
};

pub(super) async fn listen(mut desk: Desk, after: Option<Cursor>) -> Result<()> {
    let (session, _) = desk.session()?;
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
            Some(Err(fault)) => return Err(Failure::from(fault).context("the stream has ended")),
            Some(Ok(update)) => {
                if matches!(update, Update::Connected(_)) && listener.titles.is_none() && !desk.output().is_json() {
                    // Titles are a comfort: without them, ids are shown.
                    let rooms = rooms::all(&session, false).await.unwrap_or_default();
                    listener.titles = Some(Titles::of(&rooms));
                }
                listener.tell(update, desk.output())?;
            }
        }
    }
    if subscription.cursor() > 0 {
        desk.output().talk(format!("go on with `chat listen --after {}`", subscription.cursor()));
    }
    Ok(())
}

struct Listener {
    titles: Option<Titles>,
    lost: bool,
}

impl Listener {
    fn tell(&mut self, update: Update, output: &mut Output) -> Result<()> {
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
                // Told once for each loss, however long it lasts.
                if !std::mem::replace(&mut self.lost, true) {
                    output.talk(warning("connection lost, looking for another node", &fault));
                }
            }
            Update::NoQuorum => output.talk("no quorum: nothing new can be sent until enough nodes are back"),
            Update::Quorum => output.talk("quorum is back"),
            Update::Broken(fault) => output.talk(warning("WARNING", &fault)),
        }
        Ok(())
    }
}

fn warning(what: &str, fault: &Fault) -> String {
    format!("{what}: {}", text::line(&fault.message))
}
