//! Checks the order of a subscription's events: cursors increase strictly, sequence numbers have no gaps (P5). Pure,
//! without IO.

use std::collections::BTreeMap;

use crate::{
    types::limits,
    wire::chat::{SubscribeResponse, subscribe_response::Event},
};

/// The position of a subscription: what has been delivered so far.
///
/// # Invariants
/// - `cursor` never goes back. It is the cursor of the last event or heartbeat accepted.
/// - `tails` holds the last sequence number seen in a conversation. A conversation that it does not hold, or holds as
///   0, may continue with any number: the subscriber has seen nothing of it yet.
/// - `tails` is bounded; see [`Order::tail`].
#[derive(Debug, Default)]
pub(super) struct Order {
    cursor: u64,
    /// The last sequence number delivered in each conversation.
    tails: BTreeMap<String, u64>,
}

/// The verdict on one delivery.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// New, and in order.
    New,
    /// Delivered before, and to be skipped. A node may send events again after a reconnect.
    Repeated,
    /// New, but something before it is missing.
    Gap {
        /// The conversation.
        conversation: String,
        /// The last sequence number before the gap.
        after: u64,
        /// The sequence number that came.
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

    /// Judges the next delivery and records it.
    pub(super) fn judge(&mut self, delivered: &SubscribeResponse) -> Verdict {
        if let Some(Event::Heartbeat(_)) = delivered.event {
            self.cursor = self.cursor.max(delivered.cursor);
            return Verdict::New;
        }
        if delivered.cursor <= self.cursor {
            return Verdict::Repeated;
        }
        self.cursor = delivered.cursor;
        match &delivered.event {
            Some(Event::Message(message)) => self.dense(&message.conversation_id, message.seq),
            // Seq 0 means that the caller hid messages for itself, which takes no place in the timeline.
            Some(Event::Deleted(deleted)) if deleted.seq > 0 => self.dense(&deleted.conversation_id, deleted.seq),
            Some(Event::Conversation(conversation)) => {
                // The account may have left the room and come back. It is not shown what happened in between.
                *self.tail(&conversation.conversation_id) = conversation.last_seq;
                Verdict::New
            }
            Some(Event::Deleted(_) | Event::Read(_) | Event::Heartbeat(_)) | None => Verdict::New,
        }
    }

    /// Each event of a timeline takes the next sequence number. The first number seen may be any.
    fn dense(&mut self, conversation: &str, seq: u64) -> Verdict {
        let tail = self.tail(conversation);
        let after = *tail;
        *tail = seq.max(after);
        if after == 0 || seq == after + 1 {
            return Verdict::New;
        }
        Verdict::Gap { conversation: conversation.to_owned(), after, got: seq }
    }

    /// The last sequence number of a conversation, 0 if none was seen. Beyond its bound the map is cleared, which costs
    /// only the check of the next event in each conversation.
    fn tail(&mut self, conversation: &str) -> &mut u64 {
        // An account is in at most half as many conversations at once. The account has left the others.
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
        assert_eq!(order.judge(&message(10, "c1", 4)), Verdict::New);
        assert_eq!(order.judge(&message(11, "c2", 1)), Verdict::New);
        assert_eq!(order.judge(&message(12, "c1", 5)), Verdict::New);
        assert_eq!(order.judge(&message(13, "c1", 7)), Verdict::Gap { conversation: "c1".into(), after: 5, got: 7 });
        assert_eq!(order.judge(&message(14, "c1", 8)), Verdict::New, "told once");
    }

    #[test]
    fn what_was_delivered_before_is_a_repetition() {
        let mut order = Order::after(10);
        assert_eq!(order.judge(&message(10, "c1", 1)), Verdict::Repeated);
        assert_eq!(order.judge(&message(11, "c1", 2)), Verdict::New);
        assert_eq!(order.judge(&message(11, "c1", 2)), Verdict::Repeated);
        assert_eq!(order.cursor(), 11);
    }

    #[test]
    fn a_sequence_number_that_goes_back_is_told() {
        let mut order = Order::after(0);
        order.judge(&message(1, "c1", 5));
        assert_eq!(order.judge(&message(2, "c1", 5)), Verdict::Gap { conversation: "c1".into(), after: 5, got: 5 });
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
        assert_eq!(order.judge(&message(3, "c1", 3)), Verdict::New, "2 was the deletion");
        let hidden = Event::Deleted(MessagesDeleted { messages, ..Default::default() });
        order.judge(&SubscribeResponse { cursor: 4, event: Some(hidden) });
        assert_eq!(order.judge(&message(5, "c1", 4)), Verdict::New, "hiding takes no number");
        let changed = Conversation { conversation_id: "c1".into(), last_seq: 8, ..Default::default() };
        order.judge(&SubscribeResponse { cursor: 6, event: Some(Event::Conversation(changed)) });
        assert_eq!(order.judge(&message(7, "c1", 9)), Verdict::New, "back after an absence");
        assert_ne!(order.judge(&message(8, "c1", 11)), Verdict::New);
        let conversation_id = "c1".to_owned();
        let unnamed = Event::Deleted(MessagesDeleted { seq: 12, conversation_id, ..Default::default() });
        assert_ne!(order.judge(&SubscribeResponse { cursor: 9, event: Some(unnamed) }), Verdict::Repeated);
        assert_eq!(order.judge(&message(10, "c1", 13)), Verdict::New, "12 was a deletion of older messages");
        assert_ne!(order.judge(&message(11, "c1", 15)), Verdict::New);
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
