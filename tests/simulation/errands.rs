//! What scenarios ask operators to do: each errand by an operator of its own, several at once if they are asked at once.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use quorate::wire::{Fault, admin::change_progress::Phase};
use tokio::{task::spawn_local, time::sleep};

use crate::{operator::Operator, world::World};

/// Something to be done, by the names of the nodes concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Errand {
    Add(String),
    AddLearner(String),
    Promote(String),
    Demote(String),
    Remove(String),
    /// The first gives its place to the second.
    Replace(String, String),
    Transfer(String),
    /// On any node.
    Snapshot,
    /// On this one.
    SnapshotOn(String),
}

impl Errand {
    /// Whether a node is to go by it.
    pub fn lets_go(&self) -> bool {
        matches!(self, Self::Remove(_) | Self::Replace(..))
    }
}

/// Stands for one errand that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(usize);

/// The errands of one simulation.
#[derive(Default)]
pub struct Errands(RefCell<BTreeMap<Ticket, Entry>>);

struct Entry {
    errand: Errand,
    begun: bool,
    phase: Phase,
    ended: Option<Result<(), Fault>>,
}

impl Errands {
    pub fn ask(&self, errand: Errand) -> Ticket {
        let mut entries = self.0.borrow_mut();
        let ticket = Ticket(entries.len());
        entries.insert(ticket, Entry { errand, begun: false, phase: Phase::Unspecified, ended: None });
        ticket
    }

    /// How it ended, once it has.
    pub fn ended(&self, ticket: Ticket) -> Option<Result<(), Fault>> {
        self.0.borrow()[&ticket].ended.clone()
    }

    /// How far the change has come, as its operator was told.
    pub fn phase(&self, ticket: Ticket) -> Phase {
        self.0.borrow()[&ticket].phase
    }

    /// Sends an operator on each errand, for ever. None waits for another.
    pub async fn serve(self: Rc<Self>, world: Rc<World>) {
        loop {
            while let Some((ticket, errand)) = self.next() {
                let (errands, mut operator) = (self.clone(), Operator::new(world.clone(), &format!("{ticket:?}")));
                spawn_local(async move {
                    let told = errands.clone();
                    let ended = operator.run(&errand, |phase| told.note(ticket, phase)).await;
                    tracing::info!(target: "simulation", ?errand, ?ended, "operator");
                    errands.0.borrow_mut().get_mut(&ticket).expect("asked").ended = Some(ended);
                });
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn next(&self) -> Option<(Ticket, Errand)> {
        let mut entries = self.0.borrow_mut();
        let (ticket, entry) = entries.iter_mut().find(|(_, entry)| !entry.begun)?;
        entry.begun = true;
        Some((*ticket, entry.errand.clone()))
    }

    fn note(&self, ticket: Ticket, phase: Phase) {
        if let Some(entry) = self.0.borrow_mut().get_mut(&ticket) {
            entry.phase = phase;
        }
    }
}
