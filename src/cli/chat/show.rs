//! Messages and events as text. All that others wrote is made harmless for a terminal here.

use std::collections::BTreeMap;

use prost_types::Timestamp;

use crate::{
    cli::{happened, text},
    wire::chat::{Conversation, Message, RoomChange, SubscribeResponse, subscribe_response::Event},
};

/// A moment in UTC, to the second: `2026-11-22T18:23:32Z`.
pub(super) fn time(time: Option<Timestamp>) -> String {
    time.map(|time| Timestamp { nanos: 0, ..time }.to_string()).unwrap_or_default()
}

/// What rooms are called, by their ids.
#[derive(Debug, Default)]
pub(super) struct Titles(BTreeMap<String, String>);

impl Titles {
    /// Of these conversations.
    pub(super) fn of(conversations: &[Conversation]) -> Self {
        let mut titles = Self::default();
        conversations.iter().for_each(|conversation| titles.learn(conversation));
        titles
    }

    /// Learns a room's title.
    pub(super) fn learn(&mut self, conversation: &Conversation) {
        if !conversation.direct {
            self.0.insert(conversation.conversation_id.clone(), conversation.title.clone());
        }
    }

    fn label(&self, id: &str) -> String {
        match self.0.get(id) {
            Some(title) => format!("{} {}", text::title(title), text::line(id)),
            None => text::line(id).into_owned(),
        }
    }
}

/// A message: place, time, sender, body; further lines of the body are indented.
pub(super) fn message(message: &Message, titles: &Titles) -> String {
    let place = format!("{}/{}", titles.label(&message.conversation_id), message.seq);
    let gone = if message.sender_deleted { " (deleted account)" } else { "" };
    let sender = format!("{}{gone}", text::line(&message.sender));
    let body = if message.deleted { "(deleted)".into() } else { text::block(&message.body) };
    format!("{place} {} {sender}: {}", time(message.create_time), body.replace('\n', "\n    "))
}

/// What happened to a room. The star tells it from what someone said.
pub(super) fn room_change(change: &RoomChange, id: &str, titles: &Titles) -> String {
    let place = format!("{}/{}", titles.label(id), change.seq);
    format!("{place} {} * {}", time(change.create_time), happened::words(change))
}

/// How far someone has read.
pub(super) fn read(place: &str, who: &str, seq: u64) -> String {
    format!("{} read by {} up to {seq}", text::line(place), text::line(who))
}

/// An event on one line, or none where there is nothing to say.
pub(super) fn event(delivered: &SubscribeResponse, titles: &mut Titles) -> Option<String> {
    match delivered.event.as_ref()? {
        Event::Message(delivered) => Some(message(delivered, titles)),
        Event::Deleted(deleted) => {
            let place = |message: &crate::wire::chat::MessageRef| {
                format!("{}/{}", titles.label(&message.conversation_id), message.seq)
            };
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
