//! What can go wrong with a disk.

use std::{io, path::PathBuf};

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
        source: io::Error,
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

    /// An error of the operating system; a full disk and a file that ends too early are told apart.
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        let what = what.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { what },
            io::ErrorKind::UnexpectedEof => Self::damaged(what, "it ends too early"),
            _ => Self::Io { what, source },
        }
    }

    /// Something this floor cannot do as asked, such as appending with a gap. Nothing is wrong with the disk.
    pub fn invalid(what: impl Into<String>, detail: impl std::fmt::Display) -> Self {
        Self::Io { what: what.into(), source: io::Error::new(io::ErrorKind::InvalidInput, detail.to_string()) }
    }

    /// An error of the storage engine, while doing something to the file `what`.
    pub(super) fn engine(what: &str, error: redb::Error) -> Self {
        match error {
            // How redb says that a file is no redb database.
            redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => Self::damaged(what, source),
            redb::Error::Io(source) => Self::io(what, source),
            redb::Error::DatabaseAlreadyOpen => Self::Locked { path: what.into() },
            redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::Unsupported => {
                Self::Io { what: what.into(), source: io::Error::other(error.to_string()) }
            }
            redb::Error::ValueTooLarge(_) => Self::invalid(what, error),
            // The rest says that the file is not what was written, or that redb panicked over it before.
            other => Self::damaged(what, other),
        }
    }
}

/// One failed commit fails every operation in it, and every later one: they all get the same error.
impl Clone for StorageError {
    fn clone(&self) -> Self {
        match self {
            Self::Locked { path } => Self::Locked { path: path.clone() },
            Self::Io { what, source } => Self::Io {
                what: what.clone(),
                source: match source.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(source.kind(), source.to_string()),
                },
            },
            Self::DiskFull { what } => Self::DiskFull { what: what.clone() },
            Self::Damaged { what, detail } => Self::Damaged { what: what.clone(), detail: detail.clone() },
            Self::TooNew { what, found, known } => Self::TooNew { what: what.clone(), found: *found, known: *known },
        }
    }
}
