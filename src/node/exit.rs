//! Why a node stops by itself.

use std::fmt;

use crate::{raft::types::Fatal, storage::StorageError};

/// Why a node stopped by itself.
///
/// The first reason stands: [`Node::exited`](super::Node::exited) never reports a later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// Its cluster removed it.
    Removed,
    /// Its disk or state is broken. It stops rather than answer wrongly.
    Quarantined(String),
    /// Another process runs as the same node.
    AlreadyRunning(String),
    /// Its disk is full. Everything it acknowledged is kept.
    DiskFull(String),
}

impl Exit {
    /// The reason that a fatal error of consensus gives; `None` for an orderly shutdown.
    pub fn from_fatal(fatal: &Fatal) -> Option<Self> {
        match fatal {
            Fatal::Stopped => None,
            Fatal::Panicked => Some(Self::Quarantined("consensus panicked; see the log above".to_owned())),
            // openraft keeps only the text of the error, so the text tells a full disk from a broken one.
            Fatal::StorageError(error) => {
                let text = error.to_string();
                let full = text.contains("the disk is full");
                Some(if full { Self::DiskFull(text) } else { Self::Quarantined(text) })
            }
        }
    }
}

impl From<&StorageError> for Exit {
    fn from(error: &StorageError) -> Self {
        match error {
            StorageError::DiskFull { .. } => Self::DiskFull(error.to_string()),
            _ => Self::Quarantined(error.to_string()),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed => f.write_str("this node was removed from its cluster"),
            Self::Quarantined(why) => write!(f, "this node's disk or state is broken: {why}"),
            Self::AlreadyRunning(why) => f.write_str(why),
            Self::DiskFull(why) => write!(f, "this node's disk is full: {why}"),
        }
    }
}
