//! One change at a time about each node.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use crate::wire::{Fault, Reason};

/// The names of the nodes that changes on this leader are about, in lower case.
///
/// A second change about the same node is refused; changes about different nodes may overlap, and their steps are ordered
/// by compare-and-set on the membership. The lock lives in memory only: it keeps one leader from contradicting itself.
/// After a change of leader the compare-and-set alone decides.
#[derive(Clone, Default)]
pub struct ChangeLock(Arc<Mutex<BTreeSet<String>>>);

/// Holds the names of one change until it is dropped.
pub struct ChangeLockGuard {
    lock: ChangeLock,
    names: Vec<String>,
}

impl ChangeLock {
    /// Takes all `names`, or none.
    pub fn acquire(&self, names: &[&str]) -> Result<ChangeLockGuard, Fault> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        if let Some(taken) = names.iter().find(|name| held.contains(*name)) {
            let message = format!("a change of node {taken} is under way already");
            return Err(Fault::new(Reason::ChangeInProgress, message)
                .next("`chat-admin status` shows how it goes; repeat the command when it is done"));
        }
        held.extend(names.iter().cloned());
        Ok(ChangeLockGuard { lock: self.clone(), names })
    }
}

impl Drop for ChangeLockGuard {
    fn drop(&mut self) {
        let mut held = self.lock.0.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &self.names {
            held.remove(name);
        }
    }
}
