//! Sends and reads messages, and records every call in the ledger.

use std::time::Duration;

use quorate::{
    client::{
        Recipient, Session,
        ledger::{Attempt, Entry, Outcome},
        outcome_is_unknown,
    },
    types::{Consistency, ConversationId},
    wire::{Reason, chat::Message},
};

use super::user::User;
use crate::client::{connect, messages_after};

/// Deadline of the hurried client: often too short for an acknowledgement, so that many outcomes are unknown.
const SHORT_TIMEOUT: Duration = Duration::from_millis(400);
/// Messages before the last one seen that a read of the end includes: they must be the same as before.
const OVERLAP: u64 = 10;
/// The number of latest attempts of which some are repeated.
const RECENT: usize = 20;

impl User {
    /// Picks a conversation to write to or read from: mostly one of its own.
    fn pick_conversation(&self) -> Option<ConversationId> {
        let (own, visitable) = (self.notes.own(&self.name), self.notes.visitable(&self.name));
        self.draw(|rng| if rng.chance(85) { rng.pick(&own).copied() } else { rng.pick(&visitable).copied() })
    }

    /// Sends a new message, one in four by the hurried client.
    pub(super) async fn send(&self, session: &Session) {
        if let Some(conversation) = self.pick_conversation() {
            let number = self.invoke(session, conversation);
            let hurried = self.hurried.get_or_init(|| {
                let name = format!("{} in a hurry", self.name);
                session.through(&connect(&self.world, &name, SHORT_TIMEOUT))
            });
            // Both clients share the session, so both writes belong to what it has seen.
            let client = if self.draw(|rng| rng.chance(25)) { hurried } else { session };
            self.attempt(client, number).await;
            // A session reads its own writes on any node, even without asking a quorum.
            if self.notes.is_own(&self.name, conversation) && self.draw(|rng| rng.chance(30)) {
                self.read_own(session, conversation, false).await;
            }
        }
    }

    /// Records a new attempt in the ledger. Its text is unique and names its sender, which `Notes` relies on.
    fn invoke(&self, session: &Session, conversation: ConversationId) -> usize {
        let mut ledger = self.notes.ledger.borrow_mut();
        let body = format!("{} from {} to {conversation}", ledger.attempts().len(), self.name);
        let number = ledger.invoke(self.now(), session.cluster().request_id(), conversation, body);
        self.attempts.borrow_mut().push(number);
        number
    }

    /// Repeats an earlier attempt, acknowledged or not, under its request id: it must be stored once (P4).
    pub(super) async fn send_again(&self, session: &Session) {
        let recent: Vec<usize> = self.attempts.borrow().iter().rev().take(RECENT).copied().collect();
        if let Some(number) = self.draw(|rng| rng.pick(&recent).copied())
            && !matches!(self.outcome(number), Outcome::Refused { .. })
        {
            self.attempt(session, number).await;
        }
    }

    fn outcome(&self, number: usize) -> Outcome {
        self.notes.ledger.borrow().attempts()[number].outcome.clone()
    }

    /// Makes an attempt, and returns whether its outcome is certain now. A refusal that may pass (no leader, overload)
    /// had no effect, but it does not settle the attempt: the same request may still succeed.
    async fn attempt(&self, session: &Session, number: usize) -> bool {
        let Attempt { id, conversation, body, ended, .. } = self.notes.ledger.borrow().attempts()[number].clone();
        // By name or by id; but all repetitions the same way, because a repetition must be the same request.
        let to = match self.notes.peer(&self.name, conversation).filter(|_| number.is_multiple_of(2)) {
            Some(peer) => Recipient::Username(peer),
            None => Recipient::Conversation(conversation),
        };
        let (is_inside, moves) = self.notes.presence(&self.name, conversation);
        let sent = session.send_as(id, &to, &body).await;
        self.world.count("writes");
        match sent {
            Ok(response) => {
                let message = response.message.unwrap_or_default();
                tracing::info!(target: "simulation", user = self.name, number, seq = message.seq, "acknowledged");
                if message.body != body || message.conversation_id != conversation.to_string() {
                    self.world.violation(format!("attempt {number} was answered with another message: {message:?}"));
                }
                self.notes.ledger.borrow_mut().acknowledge(self.now(), number, message.seq, message.cursor);
                self.raise_last_seen(conversation, message.seq);
                true
            }
            Err(fault) => {
                let unknown = outcome_is_unknown(&fault);
                match unknown {
                    true => self.notes.ledger.borrow_mut().lose_sight(self.now(), number),
                    false => self.notes.ledger.borrow_mut().refuse(self.now(), number, fault.reason),
                }
                // A repetition gets the answer of the first attempt, even if its sender was removed since; so only the
                // first attempt tells whether the sender may write.
                let was_outside = fault.reason == Reason::ConversationNotFound && ended.is_none();
                if was_outside && is_inside == Some(true) && self.notes.presence(&self.name, conversation).1 == moves {
                    self.world.violation(format!("{} is in {conversation}, but may not write there", self.name));
                }
                self.back_off("send", &fault).await;
                !unknown && !fault.reason.is_transient()
            }
        }
    }

    /// Remembers that this user has seen messages up to `seq`.
    fn raise_last_seen(&self, conversation: ConversationId, seq: u64) {
        let mut seen = self.last_seen.borrow_mut();
        let last = seen.entry(conversation).or_default();
        *last = seq.max(*last);
    }

    /// Reads a random conversation.
    pub(super) async fn read(&self, session: &Session) {
        let Some(conversation) = self.pick_conversation() else { return };
        if self.notes.is_own(&self.name, conversation) {
            let strong = self.draw(|rng| rng.chance(70));
            self.read_own(session, conversation, strong).await;
        } else {
            self.read_as_visitor(session, conversation).await;
        }
    }

    /// Reads the end of a conversation, or all of it. A `strong` read is linearizable (P3): it sees everything that was
    /// acknowledged before it started. Any other read sees at least what this session saw before.
    async fn read_own(&self, session: &Session, conversation: ConversationId, strong: bool) {
        let whole = self.draw(|rng| rng.chance(20));
        let consistency = if strong { Consistency::Linearizable } else { Consistency::AtLeast(session.index()) };
        let seen = self.last_seen.borrow().get(&conversation).copied().unwrap_or(0);
        let description = format!("{} at {} ms, {consistency:?}", self.name, self.world.elapsed_ms());
        let (number, base) = {
            let mut ledger = self.notes.ledger.borrow_mut();
            let base = ledger.bases()[&conversation];
            let number = match strong {
                true => ledger.begin_read(self.number, conversation, description),
                false => ledger.begin_session_read(self.number, conversation, description, seen),
            };
            (number, base)
        };
        let after = if whole { base } else { seen.saturating_sub(OVERLAP).max(base) };
        let hidden = self.notes.hidden_by(&self.name);
        let read = messages_after(&session.reading(consistency), conversation, after).await;
        self.world.count("reads");
        match read {
            Ok(messages) => {
                let entries = self.entries(messages, &hidden);
                if let Some(last) = entries.last() {
                    self.raise_last_seen(conversation, last.seq);
                }
                self.notes.ledger.borrow_mut().end_read(number, entries);
            }
            Err(fault) => self.back_off("read", &fault).await,
        }
    }

    /// Entries for the ledger, of messages that this user was shown. `hidden` was hidden before.
    pub(super) fn entries(&self, messages: Vec<Message>, hidden: &[usize]) -> Vec<Entry> {
        let entry =
            |message| self.notes.entry(&self.name, message, hidden).map_err(|wrong| self.world.violation(wrong));
        messages.into_iter().filter_map(|message| entry(message).ok()).collect()
    }

    /// Marks a random conversation as read.
    pub(super) async fn mark_read(&self, session: &Session) {
        self.world.count("inboxes");
        match session.inbox(false, 100, "").await {
            Ok(inbox) => {
                let Some(conversation) = self.draw(|rng| rng.pick(&inbox.conversations).cloned()) else { return };
                if let Ok(id) = conversation.conversation_id.parse()
                    && let Err(fault) = session.mark_read_up_to(id, conversation.last_seq).await
                {
                    self.back_off("mark read", &fault).await;
                }
            }
            Err(fault) => self.back_off("inbox", &fault).await,
        }
    }

    /// After the faults: repeats every attempt of unknown outcome until it is certain, and writes to each of its
    /// conversations.
    pub(super) async fn settle_and_write_again(&self, session: &Session) {
        let attempts = self.attempts.borrow().clone();
        for number in attempts.into_iter().filter(|number| self.outcome(*number) == Outcome::Unknown) {
            while !self.attempt(session, number).await {}
        }
        for conversation in self.notes.own(&self.name) {
            while !self.write_new(session, conversation).await {}
        }
    }

    /// Sends a new message, repeated until its outcome is certain. Returns whether it was acknowledged. A refusal is
    /// final for its request id, so the caller goes on with a new message.
    async fn write_new(&self, session: &Session, conversation: ConversationId) -> bool {
        let number = self.invoke(session, conversation);
        while self.outcome(number) == Outcome::Unknown {
            self.attempt(session, number).await;
        }
        matches!(self.outcome(number), Outcome::Acknowledged { .. })
    }
}
