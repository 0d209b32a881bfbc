//! Why the machine did not do what it was asked: somebody's fault, or the disk's.

use crate::{
    storage::{self, StorageError},
    wire::Reason,
};

/// Why a query, or within the machine a command, gave no result.
///
/// One question is decided here: a refusal is told to the caller, a storage error stops the node.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The disk is broken or full.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The caller asked for what cannot be.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Shorthand for this room.
pub type Result<T, E = QueryError> = std::result::Result<T, E>;

/// Why the machine turned a caller down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why, for programs.
    pub reason: Reason,
    /// What failed and why, for people.
    pub message: String,
    /// The request field that breaks its rule, where one field is to blame.
    pub field: Option<&'static str>,
}

impl Refusal {
    /// A refusal that blames no field.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), field: None }
    }

    /// The refusal of a field that breaks its rule.
    pub fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self { field: Some(field), ..Self::new(Reason::InvalidArgument, message) }
    }
}

impl QueryError {
    /// Parts the disk's errors from the caller's, in the shape that `Node::query` takes.
    pub fn part<T>(result: Result<T>) -> storage::Result<std::result::Result<T, Refusal>> {
        match result {
            Ok(answer) => Ok(Ok(answer)),
            Err(Self::Refused(refusal)) => Ok(Err(refusal)),
            Err(Self::Storage(error)) => Err(error),
        }
    }
}

/// A refusal.
pub(super) fn refuse<T>(reason: Reason, message: impl Into<String>) -> Result<T> {
    Err(Refusal::new(reason, message).into())
}

/// A refusal because a field breaks its rule.
pub(super) fn invalid<T>(message: impl Into<String>) -> Result<T> {
    refuse(Reason::InvalidArgument, message)
}
