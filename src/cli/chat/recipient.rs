//! What TO means: a username, `#room`, or a conversation's id.

use super::rooms;
use crate::{
    cli::{Exit, Failure, Result, text},
    client::{Recipient, Session},
    types::{ConversationId, Username},
    wire::Fault,
};

/// Finds out whom `to` means. Room titles are looked up among the account's own rooms first, then among those that
/// may be joined.
pub(super) async fn resolve(session: &Session, to: &str) -> Result<Recipient> {
    if let Some(title) = to.strip_prefix('#') {
        return room_titled(session, title).await.map(Recipient::Conversation);
    }
    if let Ok(id) = to.parse() {
        return Ok(Recipient::Conversation(id));
    }
    match Username::new(to.strip_prefix('@').unwrap_or(to)) {
        Ok(name) => Ok(Recipient::Username(name.to_string())),
        Err(error) => {
            let failure = Failure::from(Fault::invalid("TO", error.to_string()));
            Err(failure.next("TO is a username, '#room' or a conversation's id such as c42"))
        }
    }
}

/// Finds a room by `#title`, title or id.
pub(super) async fn room(session: &Session, room: &str) -> Result<ConversationId> {
    match room.parse() {
        Ok(id) => Ok(id),
        Err(_) => room_titled(session, room.strip_prefix('#').unwrap_or(room)).await,
    }
}

async fn room_titled(session: &Session, title: &str) -> Result<ConversationId> {
    for joinable in [false, true] {
        let rooms = rooms::all(session, joinable).await?;
        let ids: Vec<&str> = rooms
            .iter()
            .filter(|room| !room.direct && room.title == title)
            .map(|room| room.conversation_id.as_str())
            .collect();
        match ids[..] {
            [] => {}
            [id] => {
                let damaged = |error| Failure::new(Exit::Failure, format!("the server named a room oddly: {error}"));
                return id.parse().map_err(damaged);
            }
            _ => {
                let message = format!("several rooms are called #{}: {}", text::line(title), ids.join(", "));
                return Err(Failure::new(Exit::Conflict, message).next("name the one you mean by its id"));
            }
        }
    }
    Err(Failure::new(Exit::NotFound, format!("there is no room #{} that you may see", text::line(title)))
        .next("`chat rooms` lists them"))
}
