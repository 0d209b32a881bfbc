//! Checks what a subscription delivers: cursors strictly increasing, sequence numbers dense (P5). Pure.

use std::collections::BTreeMap;

use crate::{
    types::limits,
    wire::chat::{SubscribeResponse, subscribe_response::Event},
};

/// What has been delivered so far.
#[derive(Debug, Default)]
pub(super) struct Order {
    cursor: u64,
    /// The last sequence number of each conversation, as delivered.
    tails: BTreeMap<String, u64>,
}

/// What a delivery was worth.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// New, and in order.
    New,
    /// Seen before: the node sent it again.
    Repeated,
    /// New, but something before it is missing.
    Gap {
        /// The conversation.
        conversation: String,
        /// The last sequence number before the gap.
        after: u64,
        /// The one that came.
        got: u64,
    },
}

impl Order {
    /// Starts after `cursor`.
    pub(super) fn after(cursor: u64) -> Self {
        Self { cursor, ..Self::default() }
    }

    /// The cursor to resume from.
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Judges the next delivery, and takes note of it.
    pub(super) fn judge(&mut self, delivered: &SubscribeResponse) -> Delivery {
        if let Some(Event::Heartbeat(_)) = delivered.event {
            self.cursor = self.cursor.max(delivered.cursor);
            return Delivery::New;
        }
        if delivered.cursor <= self.cursor {
            return Delivery::Repeated;
        }
        self.cursor = delivered.cursor;
        match &delivered.event {
            Some(Event::Message(message)) => self.dense(&message.conversation_id, message.seq),
            // Seq 0: hidden by the caller for itself, which is in no timeline.
            Some(Event::Deleted(deleted)) if deleted.seq > 0 => self.dense(&deleted.conversation_id, deleted.seq),
            Some(Event::Conversation(conversation)) => {
                // The caller may have left and come back, and is not told what happened meanwhile.
                *self.tail(&conversation.conversation_id) = conversation.last_seq;
                Delivery::New
            }
            Some(Event::Deleted(_) | Event::Read(_) | Event::Heartbeat(_)) | None => Delivery::New,
        }
    }

    /// Every event of a timeline takes the next sequence number. What came before the first one seen is not known.
    fn dense(&mut self, conversation: &str, seq: u64) -> Delivery {
        let tail = self.tail(conversation);
        let after = *tail;
        *tail = seq.max(after);
        if after == 0 || seq == after + 1 {
            return Delivery::New;
        }
        Delivery::Gap { conversation: conversation.to_owned(), after, got: seq }
    }

    fn tail(&mut self, conversation: &str) -> &mut u64 {
        // An account is in no more conversations than this at once: older ones were left.
        if self.tails.len() > 2 * limits::CONVERSATIONS_PER_ACCOUNT {
            self.tails.clear();
        }
        self.tails.entry(conversation.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::chat::{Conversation, Heartbeat, Message, MessageRef, MessagesDeleted};

    fn message(cursor: u64, conversation: &str, seq: u64) -> SubscribeResponse {
        let message = Message { conversation_id: conversation.into(), seq, cursor, ..Default::default() };
        SubscribeResponse { cursor, event: Some(Event::Message(message)) }
    }

    #[test]
    fn a_gap_in_a_conversation_is_told() {
        let mut order = Order::after(0);
        assert_eq!(order.judge(&message(10, "c1", 4)), Delivery::New);
        assert_eq!(order.judge(&message(11, "c2", 1)), Delivery::New);
        assert_eq!(order.judge(&message(12, "c1", 5)), Delivery::New);
        assert_eq!(order.judge(&message(13, "c1", 7)), Delivery::Gap { conversation: "c1".into(), after: 5, got: 7 });
        assert_eq!(order.judge(&message(14, "c1", 8)), Delivery::New, "told once");
    }

    #[test]
    fn what_was_delivered_before_is_a_repetition() {
        let mut order = Order::after(10);
        assert_eq!(order.judge(&message(10, "c1", 1)), Delivery::Repeated);
        assert_eq!(order.judge(&message(11, "c1", 2)), Delivery::New);
        assert_eq!(order.judge(&message(11, "c1", 2)), Delivery::Repeated);
        assert_eq!(order.cursor(), 11);
    }

    #[test]
    fn a_sequence_number_that_goes_back_is_told() {
        let mut order = Order::after(0);
        order.judge(&message(1, "c1", 5));
        assert_eq!(order.judge(&message(2, "c1", 5)), Delivery::Gap { conversation: "c1".into(), after: 5, got: 5 });
    }

    #[test]
    fn deletions_and_room_changes_account_for_sequence_numbers() {
        let mut order = Order::after(0);
        order.judge(&message(1, "c1", 1));
        let messages = vec![MessageRef { conversation_id: "c1".into(), seq: 1 }];
        let conversation_id = "c1".to_owned();
        let deleted = MessagesDeleted { messages: messages.clone(), seq: 2, conversation_id, ..Default::default() };
        let deleted = Event::Deleted(deleted);
        order.judge(&SubscribeResponse { cursor: 2, event: Some(deleted) });
        assert_eq!(order.judge(&message(3, "c1", 3)), Delivery::New, "2 was the deletion");
        let hidden = Event::Deleted(MessagesDeleted { messages, ..Default::default() });
        order.judge(&SubscribeResponse { cursor: 4, event: Some(hidden) });
        assert_eq!(order.judge(&message(5, "c1", 4)), Delivery::New, "hiding takes no number");
        let changed = Conversation { conversation_id: "c1".into(), last_seq: 8, ..Default::default() };
        order.judge(&SubscribeResponse { cursor: 6, event: Some(Event::Conversation(changed)) });
        assert_eq!(order.judge(&message(7, "c1", 9)), Delivery::New, "back after an absence");
        assert_ne!(order.judge(&message(8, "c1", 11)), Delivery::New);
        let conversation_id = "c1".to_owned();
        let unnamed = Event::Deleted(MessagesDeleted { seq: 12, conversation_id, ..Default::default() });
        assert_ne!(order.judge(&SubscribeResponse { cursor: 9, event: Some(unnamed) }), Delivery::Repeated);
        assert_eq!(order.judge(&message(10, "c1", 13)), Delivery::New, "12 was a deletion of older messages");
        assert_ne!(order.judge(&message(11, "c1", 15)), Delivery::New);
    }

    #[test]
    fn a_heartbeat_moves_the_cursor_forwards_only() {
        let mut order = Order::after(5);
        let beat = |cursor| SubscribeResponse { cursor, event: Some(Event::Heartbeat(Heartbeat::default())) };
        order.judge(&beat(9));
        order.judge(&beat(7));
        assert_eq!(order.cursor(), 9);
    }
}
