//! Parses TO: a username, `#room`, or the id of a conversation.

use crate::{
    cli::{Failure, Result},
    client::{Recipient, Session, To},
    types::{ConversationId, RoomTitle, Username},
    wire::Fault,
};

/// The recipient that `to` names. Asks the cluster for the id of a room that is given by its title.
pub(super) async fn resolve(session: &Session, to: &str) -> Result<Recipient> {
    match parse(to)? {
        To::Known(to) => Ok(to),
        To::RoomTitled(title) => Ok(Recipient::Conversation(session.room_titled(&title).await?)),
    }
}

/// Parses `to` without asking the cluster. An id comes before a username of the same form; `@c42` is always a username.
pub(super) fn parse(to: &str) -> Result<To> {
    if let Some(title) = to.strip_prefix('#') {
        let title = RoomTitle::normalised(title).map_err(|error| Fault::invalid("TO", error.to_string()))?;
        return Ok(To::RoomTitled(title.as_str().to_owned()));
    }
    if let Ok(id) = to.parse() {
        return Ok(To::Known(Recipient::Conversation(id)));
    }
    match Username::new(to.strip_prefix('@').unwrap_or(to)) {
        Ok(name) => Ok(To::Known(Recipient::Username(name.to_string()))),
        Err(error) => {
            let failure = Failure::from(Fault::invalid("TO", error.to_string()));
            Err(failure.next("TO is a username, '#room' or a conversation's id such as c42"))
        }
    }
}

/// The room with this `#title`, title or id.
pub(super) async fn room(session: &Session, room: &str) -> Result<ConversationId> {
    match room.parse() {
        Ok(id) => Ok(id),
        Err(_) => Ok(session.room_titled(room.strip_prefix('#').unwrap_or(room)).await?),
    }
}
