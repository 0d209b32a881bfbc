//! One user: what all parts of its work share.

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use quorate::{
    client::{Session, outcome_is_unknown},
    types::ConversationId,
    wire::{Fault, Reason},
};
use tokio::time::sleep;

use crate::{notes::Notes, retry, rng::Rng, world::World};

/// Pause after a call that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// One user on a host of its own. Several of its parts run at the same time, on one thread.
///
/// Invariants:
/// - All parts draw from one generator. So the order in which they run decides what each draws; it follows from the
///   seed, as everything does.
/// - `attempts` are in the ledger, in the order in which they were started.
/// - `last_seen` never falls: it is what a session must not read less than.
pub struct User {
    pub(super) world: Rc<World>,
    pub(super) notes: Rc<Notes>,
    pub(super) name: String,
    /// The names of all other users, sorted as they were given.
    pub(super) others: Vec<String>,
    rng: RefCell<Rng>,
    /// This user's number as a reader in the ledger.
    pub(super) number: usize,
    /// For each conversation, the highest seq that this user was shown or acknowledged.
    pub(super) last_seen: RefCell<BTreeMap<ConversationId, u64>>,
    /// Its attempts, by their numbers in the ledger.
    pub(super) attempts: RefCell<Vec<usize>>,
    /// Its session through a client with a short deadline.
    pub(super) hurried: OnceCell<Session>,
}

impl User {
    pub fn new(world: Rc<World>, notes: Rc<Notes>, name: &str, all: &[String]) -> Self {
        let others = all.iter().filter(|other| *other != name).cloned().collect();
        let rng = RefCell::new(Rng::of(world.seed, &format!("user {name}")));
        let number = all.iter().position(|other| other == name).unwrap_or(0);
        let (last_seen, attempts, hurried) = Default::default();
        Self { world, notes, name: name.to_owned(), others, rng, number, last_seen, attempts, hurried }
    }

    /// Draws from this user's generator.
    pub(super) fn draw<T>(&self, how: impl FnOnce(&mut Rng) -> T) -> T {
        how(&mut self.rng.borrow_mut())
    }

    pub(super) fn now(&self) -> Duration {
        Duration::from_millis(self.world.elapsed_ms())
    }

    /// Logs and counts a call that failed, and waits a moment. Failures are normal under faults, but no fault explains
    /// an internal error or a request that the server calls invalid.
    pub(super) async fn back_off(&self, what: &str, fault: &Fault) {
        tracing::info!(target: "simulation", user = self.name, what, reason = ?fault.reason, message = fault.message);
        self.world.count("operations that failed");
        if matches!(fault.reason, Reason::Internal | Reason::InvalidArgument) {
            self.world.violation(format!("{} of {}: {}", what, self.name, fault.message));
        }
        sleep(RETRY_PAUSE).await;
    }

    /// Repeats `call` until `decide` turns its result into an answer: see [`retry::until_answered`].
    pub(super) async fn until_answered<T, Answer>(
        &self,
        what: &str,
        call: impl AsyncFn() -> Result<T, Fault>,
        decide: impl FnMut(Result<T, Fault>) -> Result<Answer, Fault>,
    ) -> Answer {
        retry::until_answered(call, decide, async |fault: &Fault| self.back_off(what, fault).await).await
    }

    /// Repeats `call` until it succeeds.
    pub(super) async fn until_ok<T>(&self, what: &str, call: impl AsyncFn() -> Result<T, Fault>) -> T {
        self.until_answered(what, call, |result| result).await
    }

    /// Repeats a write that has the same effect under a new request id. After an attempt of unknown outcome the refusal
    /// `done` means that this attempt took effect. Any other refusal is a violation.
    pub(super) async fn until_done(&self, what: &str, done: Reason, write: impl AsyncFn() -> Result<(), Fault>) {
        let mut may_be_done = false;
        let decide = |result: Result<(), Fault>| match result {
            Ok(()) => Ok(None),
            Err(fault) if may_be_done && fault.reason == done => Ok(None),
            Err(fault) if !fault.reason.is_transient() => Ok(Some(fault)),
            Err(fault) => {
                may_be_done |= outcome_is_unknown(&fault);
                Err(fault)
            }
        };
        if let Some(fault) = self.until_answered(what, write, decide).await {
            self.world.violation(format!("{what} was refused: {:?} {}", fault.reason, fault.message));
        }
    }
}
