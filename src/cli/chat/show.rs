//! Messages, events and names as lines of text. All text of others is escaped here.

use std::collections::BTreeMap;

use prost_types::Timestamp;

use crate::{
    cli::{Output, Result, room_change, text},
    wire::chat::{
        Conversation, Message, MessageRef, RoomChange, SendMessageResponse, SubscribeResponse,
        subscribe_response::Event,
    },
};

/// A time in UTC, to the second: `2026-11-22T18:23:32Z`. Empty if there is none.
pub(super) fn time(time: Option<Timestamp>) -> String {
    time.map(|time| Timestamp { nanos: 0, ..time }.to_string()).unwrap_or_default()
}

/// The titles of rooms by id. An unknown room is shown by its id alone.
#[derive(Debug, Default)]
pub(super) struct Titles(BTreeMap<String, String>);

impl Titles {
    /// The titles of the rooms among these conversations.
    pub(super) fn of(conversations: &[Conversation]) -> Self {
        let mut titles = Self::default();
        conversations.iter().for_each(|conversation| titles.learn(conversation));
        titles
    }

    /// Adds the title of a room, or replaces it.
    pub(super) fn learn(&mut self, conversation: &Conversation) {
        if !conversation.direct {
            self.0.insert(conversation.conversation_id.clone(), conversation.title.clone());
        }
    }

    /// `#title id`, or the id.
    fn label(&self, id: &str) -> String {
        match self.0.get(id) {
            Some(title) => format!("{} {}", text::title(title), text::line(id)),
            None => text::line(id).into_owned(),
        }
    }
}

/// The name of a conversation: the title of a room, or the other account of a direct conversation.
pub(super) fn conversation_name(conversation: &Conversation, me: &str) -> String {
    if !conversation.direct {
        return text::title(&conversation.title);
    }
    let other = conversation.members.iter().find(|name| !name.eq_ignore_ascii_case(me));
    other.or(conversation.members.first()).cloned().unwrap_or_else(|| "(deleted account)".to_owned())
}

/// Reports an acknowledged message.
pub(super) fn acknowledged(output: &mut Output, answer: &SendMessageResponse) -> Result<()> {
    if output.is_json() {
        return output.message(answer);
    }
    let message = answer.message.clone().unwrap_or_default();
    let already = if answer.deduplicated { " before" } else { "" };
    output.talk(format!("sent{already} as {}/{}", text::line(&message.conversation_id), message.seq));
    Ok(())
}

/// A message: place, time, sender, body. Further lines of the body are indented, so none passes for a message.
pub(super) fn message(message: &Message, titles: &Titles) -> String {
    let place = format!("{}/{}", titles.label(&message.conversation_id), message.seq);
    let gone = if message.sender_deleted { " (deleted account)" } else { "" };
    let sender = format!("{}{gone}", text::line(&message.sender));
    let body = if message.deleted { "(deleted)".into() } else { text::block(&message.body) };
    format!("{place} {} {sender}: {}", time(message.create_time), body.replace('\n', "\n    "))
}

/// A change of a room. The star distinguishes it from a message.
pub(super) fn room_change(change: &RoomChange, id: &str, titles: &Titles) -> String {
    let place = format!("{}/{}", titles.label(id), change.seq);
    format!("{place} {} * {}", time(change.create_time), room_change::describe(change))
}

/// A read receipt.
pub(super) fn read(place: &str, who: &str, seq: u64) -> String {
    format!("{} read by {} up to {seq}", text::line(place), text::line(who))
}

/// An event as text; `None` for a heartbeat. Learns the titles of rooms from the events on the way.
pub(super) fn event(delivered: &SubscribeResponse, titles: &mut Titles) -> Option<String> {
    match delivered.event.as_ref()? {
        Event::Message(delivered) => Some(message(delivered, titles)),
        Event::Deleted(deleted) => {
            let place = |message: &MessageRef| format!("{}/{}", titles.label(&message.conversation_id), message.seq);
            let places: Vec<String> = deleted.messages.iter().map(place).collect();
            Some(format!("{} deleted by {}", places.join(", "), text::line(&deleted.by)))
        }
        Event::Read(moved) => Some(read(&titles.label(&moved.conversation_id), &moved.username, moved.read_seq)),
        Event::Conversation(conversation) => {
            titles.learn(conversation);
            if let Some(change) = &conversation.change {
                return Some(room_change(change, &conversation.conversation_id, titles));
            }
            let members: Vec<_> = conversation.members.iter().map(|name| text::line(name)).collect();
            Some(format!("{} members: {}", titles.label(&conversation.conversation_id), members.join(" ")))
        }
        Event::Heartbeat(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_its_place_time_and_sender_and_cannot_drive_the_terminal() {
        let room = Conversation { conversation_id: "c3".into(), title: "ops\u{1b}".into(), ..Default::default() };
        let mut said = Message {
            conversation_id: "c3".into(),
            seq: 7,
            sender: "alice".into(),
            body: "one\ntwo\u{1b}[2J".into(),
            create_time: Some(Timestamp { seconds: 1_700_000_000, nanos: 5 }),
            ..Default::default()
        };
        let titles = Titles::of(&[room]);
        assert_eq!(message(&said, &titles), "#\"ops\\x1b\" c3/7 2023-11-14T22:13:20Z alice: one\n    two\\x1b[2J");
        said.deleted = true;
        said.sender_deleted = true;
        assert_eq!(message(&said, &Titles::default()), "c3/7 2023-11-14T22:13:20Z alice (deleted account): (deleted)");
    }
}
