//! Errors of a disk.

use std::{io, path::PathBuf};

/// The result of everything in this room that can fail.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// A disk that cannot be trusted or used. Every variant names the file or record.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Another process holds the directory.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The operating system returned an error. Nothing is known to be damaged.
    #[error("{what}: {source}")]
    Io {
        /// What was done to which file.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// No space is left.
    #[error("{what}: the disk is full")]
    DiskFull {
        /// What was done to which file.
        what: String,
    },
    /// The bytes read are not the bytes written.
    #[error("{what} is damaged: {detail}")]
    Damaged {
        /// Which file or record.
        what: String,
        /// The damage.
        detail: String,
    },
    /// The file is sound, but it is not the one that belongs here.
    #[error("{what} does not belong here: {detail}")]
    Foreign {
        /// Which file.
        what: String,
        /// Whose it is instead.
        detail: String,
    },
    /// A newer program wrote the file.
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
    /// A file or record that is not what was written.
    pub fn damaged(what: impl Into<String>, detail: impl std::fmt::Display) -> Self {
        Self::Damaged { what: what.into(), detail: detail.to_string() }
    }

    /// A file of another node, of another directory or of another time.
    pub fn foreign(what: impl Into<String>, detail: impl std::fmt::Display) -> Self {
        Self::Foreign { what: what.into(), detail: detail.to_string() }
    }

    /// An error of the operating system. A full disk and a file that ends too early get their own variants.
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        let what = what.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { what },
            io::ErrorKind::UnexpectedEof => Self::damaged(what, "it ends too early"),
            _ => Self::Io { what, source },
        }
    }

    /// A request that the store cannot fulfil, such as an append with a gap. Nothing is wrong with the disk.
    pub fn invalid(what: impl Into<String>, detail: impl std::fmt::Display) -> Self {
        Self::Io { what: what.into(), source: io::Error::new(io::ErrorKind::InvalidInput, detail.to_string()) }
    }

    /// An error of redb on the file `what`.
    pub(super) fn engine(what: &str, error: redb::Error) -> Self {
        match error {
            // redb reports a file that is no redb database this way.
            redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => Self::damaged(what, source),
            redb::Error::Io(source) => Self::io(what, source),
            redb::Error::DatabaseAlreadyOpen => Self::Locked { path: what.into() },
            redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::Unsupported => {
                Self::Io { what: what.into(), source: io::Error::other(error.to_string()) }
            }
            redb::Error::ValueTooLarge(_) => Self::invalid(what, error),
            // The others mean that the file is damaged, or that redb panicked over it before.
            other => Self::damaged(what, other),
        }
    }
}

/// A failed commit fails every operation in it and every later one, so all of them need a copy of the error.
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
            Self::Foreign { what, detail } => Self::Foreign { what: what.clone(), detail: detail.clone() },
            Self::TooNew { what, found, known } => Self::TooNew { what: what.clone(), found: *found, known: *known },
        }
    }
}
