//! What users do besides writing and reading: they delete and hide messages, come and go in rooms, and change theirs.

use quorate::{
    client::{Session, ledger::Outcome, outcome_is_unknown},
    types::ConversationId,
    wire::{Fault, Reason, chat::MessageRef},
};

use crate::{notes::messages, users::User};

impl User {
    /// An acknowledged attempt of a conversation of its own, by its number: even ones are deleted for everyone, odd
    /// ones hidden, so that either leaves the other's trace alone.
    fn acknowledged(&self, odd: bool) -> Option<(usize, MessageRef)> {
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

    /// Deletes a message of its own for everyone.
    pub(crate) async fn erase(&self, session: &Session) {
        let Some((number, message)) = self.acknowledged(false) else { return };
        self.world.count("deletions");
        self.notes.ledger.borrow_mut().begin_erasing(number);
        match session.delete(vec![message], true).await {
            Ok(_) => self.notes.ledger.borrow_mut().erased(number),
            Err(fault) => self.endure("delete", &fault).await,
        }
    }

    /// Hides anybody's message from itself.
    pub(crate) async fn hide(&self, session: &Session) {
        let Some((number, message)) = self.acknowledged(true) else { return };
        self.world.count("deletions for oneself");
        self.notes.hide(&self.name, number, false);
        match session.delete(vec![message], false).await {
            Ok(_) => self.notes.hide(&self.name, number, true),
            Err(fault) => self.endure("hide", &fault).await,
        }
    }

    /// Comes into a room of others or leaves it; or invites, removes a visitor or renames in its own.
    pub(crate) async fn move_about(&self, session: &Session) {
        self.world.count("moves in rooms");
        let (foreign, made) = (self.notes.foreign(&self.name), self.notes.made_by(&self.name));
        match self.draw(|rng| rng.within(0..10)) {
            0..7 => {
                let Some(room) = self.draw(|rng| rng.pick(&foreign).copied()) else { return };
                let join = match self.notes.standing(&self.name, room).0 {
                    Some(inside) => !inside,
                    None => self.draw(|rng| rng.chance(60)),
                };
                let moving = async {
                    if join { session.join_room(room).await.map(drop) } else { session.leave_room(room).await }
                };
                self.make_move(&self.name, room, join, moving).await;
            }
            7..9 => {
                let Some(room) = self.draw(|rng| rng.pick(&made).copied()) else { return };
                let visitors = self.notes.visitors(room);
                let Some(visitor) = self.draw(|rng| rng.pick(&visitors).cloned()) else { return };
                let (invite, names) = (self.draw(|rng| rng.chance(50)), vec![visitor.clone()]);
                let moving = async {
                    if invite { session.invite(room, names).await } else { session.kick(room, names).await }.map(drop)
                };
                self.make_move(&visitor, room, invite, moving).await;
            }
            _ => {
                let Some(room) = self.draw(|rng| rng.pick(&made).copied()) else { return };
                let title = format!("room of {}, {}", self.name, self.world.elapsed_ms());
                if let Err(fault) = session.rename_room(room, &title).await {
                    self.endure("rename", &fault).await;
                }
            }
        }
    }

    async fn make_move(
        &self,
        who: &str,
        room: ConversationId,
        inside: bool,
        moving: impl Future<Output = Result<(), Fault>>,
    ) {
        self.notes.begin_move(who, room);
        tracing::debug!(target: "simulation", who, %room, inside, by = self.name, "a move begins");
        let moved = moving.await;
        let after = match &moved {
            Ok(()) => Some(inside),
            // Who is not there cannot leave.
            Err(fault) if fault.reason == Reason::ConversationNotFound && !inside => Some(false),
            Err(_) => None,
        };
        self.notes.end_move(who, room, after);
        tracing::debug!(target: "simulation", who, %room, ?after, by = self.name, "a move has ended");
        if let Err(fault) = moved {
            tracing::debug!(target: "simulation", who, unknown = outcome_is_unknown(&fault), "a move failed");
            self.endure("move", &fault).await;
        }
    }

    /// Reads a room that it visits: it sees it if and only if it is inside.
    pub(crate) async fn look_in(&self, session: &Session, room: ConversationId) {
        let before = self.notes.standing(&self.name, room);
        let read = messages(session, room, 0).await;
        self.world.count("reads of visitors");
        let certain = self.notes.standing(&self.name, room).1 == before.1;
        match (read, before.0.filter(|_| certain)) {
            (Ok(_), Some(false)) => {
                self.world.violation(format!("{} has left {room}, and reads there", self.name));
            }
            (Err(fault), Some(true)) if fault.reason == Reason::ConversationNotFound => {
                self.world.violation(format!("{} is in {room}, and may not read there", self.name));
            }
            (Ok(_), _) => {}
            (Err(fault), _) => self.endure("look in", &fault).await,
        }
    }
}
