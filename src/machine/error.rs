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
    /// The caller asked for what cannot be: why, for programs and for people.
    #[error("{1}")]
    Refused(Reason, String),
}

/// Shorthand for this room.
pub type Result<T, E = QueryError> = std::result::Result<T, E>;

/// A refusal, as the reason and the message that go back to the caller.
pub type Refusal = (Reason, String);

impl QueryError {
    /// Parts the disk's errors from the caller's, in the shape that `Node::query` takes.
    pub fn part<T>(result: Result<T>) -> storage::Result<std::result::Result<T, Refusal>> {
        match result {
            Ok(answer) => Ok(Ok(answer)),
            Err(Self::Refused(reason, message)) => Ok(Err((reason, message))),
            Err(Self::Storage(error)) => Err(error),
        }
    }
}

/// A refusal.
pub(super) fn refuse<T>(reason: Reason, message: impl Into<String>) -> Result<T> {
    Err(QueryError::Refused(reason, message.into()))
}

/// A refusal because a field breaks its rule.
pub(super) fn invalid<T>(message: impl Into<String>) -> Result<T> {
    refuse(Reason::InvalidArgument, message)
}
