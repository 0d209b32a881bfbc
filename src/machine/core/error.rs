//! Why a command or a query gave no result.
//!
//! The types decide one question: a [`Refusal`] goes back to the caller, a [`StorageError`] stops the node.

use crate::{
    storage::{self, StorageError},
    wire::Reason,
};

/// Why the machine turned a caller down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why, for programs.
    pub reason: Reason,
    /// What failed and why, for people; often what to do next as well.
    pub message: String,
    /// The request field that breaks its rule, where one field is to blame. Goes with INVALID_ARGUMENT.
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

/// Why a query, or a command inside the machine, gave no result.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The disk is damaged, broken or full. The node must stop.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The caller asked for something impossible. The node goes on.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The result of everything in this room that may refuse.
pub type Result<T, E = QueryError> = std::result::Result<T, E>;

impl QueryError {
    /// Separates storage errors from refusals, in the shape that `Node::query` takes.
    pub fn part<T>(result: Result<T>) -> storage::Result<std::result::Result<T, Refusal>> {
        match result {
            Ok(answer) => Ok(Ok(answer)),
            Err(Self::Refused(refusal)) => Ok(Err(refusal)),
            Err(Self::Storage(error)) => Err(error),
        }
    }
}

/// Refuses, blaming no field.
pub fn refuse<T>(reason: Reason, message: impl Into<String>) -> Result<T> {
    Err(Refusal::new(reason, message).into())
}

/// Refuses because `field` breaks its rule.
pub fn invalid<T>(field: &'static str, message: impl Into<String>) -> Result<T> {
    Err(Refusal::invalid(field, message).into())
}
