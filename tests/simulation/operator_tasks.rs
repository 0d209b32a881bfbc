//! Tasks that scenarios give to operators, and the queue in which they wait.

use std::{cell::RefCell, collections::BTreeMap};

use quorate::wire::{Fault, admin::change_progress::Phase};

/// An operator's command. Nodes are named by their machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    Add(String),
    AddLearner(String),
    Promote(String),
    Demote(String),
    Remove(String),
    /// Removes the first node and puts the second one in its place, in one change.
    Replace(String, String),
    /// Transfers leadership to this node.
    Transfer(String),
    /// Takes a snapshot on any node.
    Snapshot,
    /// Takes a snapshot on this node.
    SnapshotOn(String),
}

impl Task {
    /// Whether the task removes a node. Repeating it then ends with NODE_NOT_FOUND, which means that it is done.
    pub fn removes_node(&self) -> bool {
        matches!(self, Self::Remove(_) | Self::Replace(..))
    }
}

/// Identifies a submitted task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId(usize);

/// All tasks of one simulation. Scenarios submit and watch; an operator takes each and reports on it.
///
/// Invariants: a task is taken once, in the order of submission, and never forgotten. Its phase stays as it is once it
/// has a result.
#[derive(Default)]
pub struct TaskQueue(RefCell<BTreeMap<TaskId, Entry>>);

struct Entry {
    task: Task,
    is_taken: bool,
    phase: Phase,
    result: Option<Result<(), Fault>>,
}

impl TaskQueue {
    pub fn submit(&self, task: Task) -> TaskId {
        let mut entries = self.0.borrow_mut();
        let id = TaskId(entries.len());
        entries.insert(id, Entry { task, is_taken: false, phase: Phase::Unspecified, result: None });
        id
    }

    /// The result of a task, once it has ended.
    pub fn result(&self, id: TaskId) -> Option<Result<(), Fault>> {
        self.0.borrow()[&id].result.clone()
    }

    /// The latest phase of a change that its operator was told.
    pub fn phase(&self, id: TaskId) -> Phase {
        self.0.borrow()[&id].phase
    }

    /// Takes the oldest task that nobody has taken.
    pub fn take_next(&self) -> Option<(TaskId, Task)> {
        let mut entries = self.0.borrow_mut();
        let (id, entry) = entries.iter_mut().find(|(_, entry)| !entry.is_taken)?;
        entry.is_taken = true;
        Some((*id, entry.task.clone()))
    }

    pub fn set_phase(&self, id: TaskId, phase: Phase) {
        if let Some(entry) = self.0.borrow_mut().get_mut(&id) {
            entry.phase = phase;
        }
    }

    pub fn finish(&self, id: TaskId, result: Result<(), Fault>) {
        if let Some(entry) = self.0.borrow_mut().get_mut(&id) {
            entry.result = Some(result);
        }
    }
}
