//! What users do besides sending and reading: they delete and hide messages, join and leave rooms, and manage their
//! own.

use quorate::{
    client::{Session, ledger::Outcome, outcome_is_unknown},
    types::ConversationId,
    wire::{Fault, Reason, chat::MessageRef},
};

use super::user::User;
use crate::client::messages_after;

impl User {
    /// Picks an acknowledged message of one of its own conversations. Even attempts are for deletion and must be its
    /// own messages; odd ones are for hiding. So no message is ever both, and each check stays simple.
    fn pick_acknowledged(&self, odd: bool) -> Option<(usize, MessageRef)> {
        let ledger = self.notes.ledger.borrow();
        let candidates: Vec<(usize, MessageRef)> = ledger
            .attempts()
            .iter()
            .enumerate()
            .filter(|(number, attempt)| {
                let own = self.notes.is_own(&self.name, attempt.conversation);
                let mine = attempt.body.contains(&format!(" from {} ", self.name));
                (number % 2 == 1) == odd && own && (odd || mine)
            })
            .filter_map(|(number, attempt)| match attempt.outcome {
                Outcome::Acknowledged { seq, .. } => {
                    Some((number, MessageRef { conversation_id: attempt.conversation.to_string(), seq }))
                }
                _ => None,
            })
            .collect();
        self.draw(|rng| rng.pick(&candidates).cloned())
    }

    /// Deletes one of its own messages for everybody.
    pub(super) async fn delete_for_all(&self, session: &Session) {
        let Some((number, message)) = self.pick_acknowledged(false) else { return };
        self.world.count("deletions");
        // From here on the ledger accepts the message with its text or without; once acknowledged, only without.
        self.notes.ledger.borrow_mut().begin_erasing(number);
        match session.delete(vec![message], true).await {
            Ok(_) => self.notes.ledger.borrow_mut().erased(number),
            Err(fault) => self.back_off("delete", &fault).await,
        }
    }

    /// Hides a message from itself, by any sender.
    pub(super) async fn hide(&self, session: &Session) {
        let Some((number, message)) = self.pick_acknowledged(true) else { return };
        self.world.count("deletions for oneself");
        self.notes.hide(&self.name, number, false);
        match session.delete(vec![message], false).await {
            Ok(_) => self.notes.hide(&self.name, number, true),
            Err(fault) => self.back_off("hide", &fault).await,
        }
    }

    /// Joins or leaves a room of another user; or invites somebody into one of its own, removes somebody, or renames
    /// it.
    pub(super) async fn change_a_room(&self, session: &Session) {
        self.world.count("moves in rooms");
        let (visitable, owned) = (self.notes.visitable(&self.name), self.notes.rooms_of(&self.name));
        match self.draw(|rng| rng.within(0..10)) {
            0..7 => {
                let Some(room) = self.draw(|rng| rng.pick(&visitable).copied()) else { return };
                // Where it is certain, make the move that changes something.
                let join = match self.notes.presence(&self.name, room).0 {
                    Some(is_inside) => !is_inside,
                    None => self.draw(|rng| rng.chance(60)),
                };
                let moving = async {
                    if join { session.join_room(room).await.map(drop) } else { session.leave_room(room).await }
                };
                self.record_move(&self.name, room, join, moving).await;
            }
            7..9 => {
                let Some(room) = self.draw(|rng| rng.pick(&owned).copied()) else { return };
                let visitors = self.notes.visitors(room);
                let Some(visitor) = self.draw(|rng| rng.pick(&visitors).cloned()) else { return };
                let (invite, names) = (self.draw(|rng| rng.chance(50)), vec![visitor.clone()]);
                let moving = async {
                    if invite { session.invite(room, names).await } else { session.kick(room, names).await }.map(drop)
                };
                self.record_move(&visitor, room, invite, moving).await;
            }
            _ => {
                let Some(room) = self.draw(|rng| rng.pick(&owned).copied()) else { return };
                let title = format!("room of {}, {}", self.name, self.world.elapsed_ms());
                if let Err(fault) = session.rename_room(room, &title).await {
                    self.back_off("rename", &fault).await;
                }
            }
        }
    }

    /// Makes a call that moves `who` into a room (`inside`) or out of it, and records its start and its end.
    async fn record_move(
        &self,
        who: &str,
        room: ConversationId,
        inside: bool,
        moving: impl Future<Output = Result<(), Fault>>,
    ) {
        self.notes.begin_move(who, room);
        tracing::debug!(target: "simulation", who, %room, inside, by = self.name, "a move starts");
        let moved = moving.await;
        let after = match &moved {
            Ok(()) => Some(inside),
            // The user was not in the room, so it is certainly outside.
            Err(fault) if fault.reason == Reason::ConversationNotFound && !inside => Some(false),
            Err(_) => None,
        };
        self.notes.end_move(who, room, after);
        tracing::debug!(target: "simulation", who, %room, ?after, by = self.name, "a move has ended");
        if let Err(fault) = moved {
            tracing::debug!(target: "simulation", who, unknown = outcome_is_unknown(&fault), "a move failed");
            self.back_off("move", &fault).await;
        }
    }

    /// Reads a room as a visitor: it must succeed inside the room, and fail outside. Nothing is checked while it is not
    /// certain where the user is.
    pub(super) async fn read_as_visitor(&self, session: &Session, room: ConversationId) {
        let before = self.notes.presence(&self.name, room);
        let read = messages_after(session, room, 0).await;
        self.world.count("reads of visitors");
        let is_certain = self.notes.presence(&self.name, room).1 == before.1;
        match (read, before.0.filter(|_| is_certain)) {
            (Ok(_), Some(false)) => {
                self.world.violation(format!("{} has left {room}, but still reads there", self.name));
            }
            (Err(fault), Some(true)) if fault.reason == Reason::ConversationNotFound => {
                self.world.violation(format!("{} is in {room}, but may not read there", self.name));
            }
            (Ok(_), _) => {}
            (Err(fault), _) => self.back_off("read as a visitor", &fault).await,
        }
    }
}
