//! Follows the user's stream of events, and records what it delivers. The judge compares it with the timelines: no gap,
//! no duplicate, in order (P5).

use quorate::{
    client::{Session, Start, Subscription, Update},
    wire::chat::subscribe_response::Event,
};

use super::user::User;
use crate::client::conversation_id;

impl User {
    /// Follows the stream from its start, for ever. After a random number of events it subscribes again from the cursor
    /// of the last one, as a restarted client does (P5).
    pub(super) async fn subscribe(&self, session: &Session) {
        let mut cursor = 0;
        loop {
            let events = self.draw(|rng| rng.within(20..400));
            cursor = self.follow(session.subscribe(Start::After(cursor)), events).await;
            self.world.count("streams resumed by a cursor");
        }
    }

    /// Takes `events` events of one subscription. Returns the cursor of the last one. The subscription survives crashes
    /// and partitions by itself, so any error that reaches the user is a violation.
    async fn follow(&self, mut subscription: Subscription, mut events: u64) -> u64 {
        while events > 0 {
            // A subscription without end ended: the judge will find the gap. Waiting here keeps the other parts
            // running.
            let Some(update) = subscription.next().await else { std::future::pending().await };
            match update {
                Ok(Update::Event(event)) => {
                    self.record_event(event.event);
                    events -= 1;
                }
                Ok(Update::Broken(fault)) => {
                    self.world.violation(format!("{}'s stream: {}", self.name, fault.message));
                }
                // Reconnections, which the subscription makes by itself.
                Ok(update) => tracing::info!(target: "simulation", user = self.name, ?update, "stream"),
                Err(fault) => {
                    let (name, reason) = (&self.name, fault.reason);
                    self.world.violation(format!("{name}'s stream ended: {reason:?} {}", fault.message));
                }
            }
        }
        subscription.cursor()
    }

    /// Records what an event says about the ledger's conversations. Messages before the ledger's base are not in it.
    fn record_event(&self, event: Option<Event>) {
        self.world.count("events");
        match event {
            Some(Event::Message(message)) => {
                let conversation = conversation_id(&message.conversation_id);
                let base = self.notes.ledger.borrow().bases().get(&conversation).copied();
                if base.is_some_and(|base| message.seq > base) {
                    let entries = self.entries(vec![message], &[]);
                    let mut streams = self.notes.streams.borrow_mut();
                    let delivered = streams.entry(self.name.clone()).or_default();
                    delivered.extend(entries.into_iter().map(|entry| (conversation, entry)));
                }
            }
            Some(Event::Conversation(changed)) => {
                self.notes.ledger.borrow_mut().notice(conversation_id(&changed.conversation_id), changed.last_seq);
            }
            Some(Event::Deleted(deleted)) if deleted.seq > 0 => {
                self.notes.ledger.borrow_mut().notice(conversation_id(&deleted.conversation_id), deleted.seq);
            }
            _ => {}
        }
    }
}
