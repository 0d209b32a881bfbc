//! The exit codes of all three programs. They are part of the contract with scripts and never change.

use std::process::ExitCode;

use crate::wire::{Fault, Reason};

/// How a program ended, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success.
    Ok = 0,
    /// Any other failure.
    Failure = 1,
    /// The command line is wrong. clap uses the same code.
    Usage = 2,
    /// A named thing does not exist.
    NotFound = 3,
    /// A conflict, or the etag is stale.
    Conflict = 4,
    /// Not signed in, or not allowed.
    NotAllowed = 5,
    /// No leader or quorum within the timeout; safe to repeat.
    Unavailable = 6,
    /// Refused by a safety check.
    Refused = 7,
    /// The command ran, and its checks of the cluster failed.
    ChecksFailed = 8,
    /// `chat-node run`: the disk or the state is broken.
    Quarantined = 70,
    /// `chat-node run`: a temporary failure, such as a full disk or a port in use.
    Temporary = 75,
    /// `chat-node run`: the node was removed from its cluster.
    Removed = 76,
    /// `chat-node run`: bad configuration.
    Configuration = 78,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl From<Reason> for Exit {
    fn from(reason: Reason) -> Self {
        match reason.exit_code() {
            3 => Self::NotFound,
            4 => Self::Conflict,
            5 => Self::NotAllowed,
            6 => Self::Unavailable,
            7 => Self::Refused,
            _ => Self::Failure,
        }
    }
}

impl From<&Fault> for Exit {
    fn from(fault: &Fault) -> Self {
        fault.reason.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_keeps_its_exit_code() {
        for reason in Reason::ALL {
            assert_eq!(Exit::from(*reason).code(), reason.exit_code(), "{reason:?}");
        }
    }
}
