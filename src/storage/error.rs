//! What can go wrong with a disk.

use std::path::PathBuf;

/// Shorthand for this floor.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// A disk that cannot be trusted or used. Every one names what it concerns.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Another process holds the directory.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The operating system refused; nothing is known to be damaged.
    #[error("{what}: {source}")]
    Io {
        /// What was being done to which file.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// No space is left.
    #[error("{what}: the disk is full")]
    DiskFull {
        /// What was being done to which file.
        what: String,
    },
    /// What was read is not what was written.
    #[error("{what} is damaged: {detail}")]
    Damaged {
        /// Which file or record.
        what: String,
        /// How it shows.
        detail: String,
    },
    /// Written by a newer program.
    #[error("{what} has format {found}, this program reads up to {known}")]
    TooNew {
        /// Which file.
        what: String,
        /// The format found.
        found: u32,
        /// The newest format known.
        known: u32,
    },
}

impl StorageError {
    /// A record that does not decode.
    pub fn damaged(what: impl Into<String>, detail: impl std::fmt::Display) -> Self {
        Self::Damaged { what: what.into(), detail: detail.to_string() }
    }

    /// An error of the operating system; a full disk is told apart.
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        let what = what.into();
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull { what },
            _ => Self::Io { what, source },
        }
    }
}
