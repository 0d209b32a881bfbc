//! Exit codes and advice for everything that keeps a node from starting or makes it stop.
//!
//! Service managers act on the codes. A temporary failure, such as a full disk or a port in use, is worth a
//! restart. A removed or
//! quarantined node must not come back by itself; `deploy/quorate@.service` excludes both from its restarts.

use std::path::Path;

use crate::{
    cli::{Exit, Failure},
    node::{self, StartError},
    server::ListenError,
    storage::StorageError,
};

/// Why a running node stopped by itself.
pub(super) fn exit_failure(exit: &node::Exit) -> Failure {
    match exit {
        node::Exit::Removed => removed(exit.to_string()),
        node::Exit::Quarantined(_) => quarantined(exit.to_string()),
        node::Exit::AlreadyRunning(_) => already_running(exit.to_string()),
        node::Exit::DiskFull(_) => disk_full(exit.to_string()),
    }
}

/// Why the node in `dir` could not be started, or not be worked on.
pub(super) fn start_failure(error: StartError, path: &Path) -> Failure {
    let dir = path.display();
    match error {
        StartError::Removed { .. } => removed(error.to_string()),
        StartError::Storage(StorageError::Locked { .. }) => {
            Failure::new(Exit::Conflict, error.to_string()).next("stop the other process, or give another --data-dir")
        }
        StartError::Storage(StorageError::DiskFull { .. }) => disk_full(error.to_string()),
        StartError::Storage(StorageError::Io { .. }) => {
            Failure::new(Exit::Failure, error.to_string()).next(io_advice(path))
        }
        StartError::Storage(StorageError::Foreign { .. }) => {
            Failure::new(Exit::Quarantined, error.to_string()).next(format!(
                "put the node's own file back into {dir}; if it is lost, clear {dir} and replace the node: chat-admin \
                 replace-node OLD NEW ADDRESS"
            ))
        }
        StartError::Storage(_) | StartError::Consensus(_) => quarantined(error.to_string()),
        StartError::NotEmpty => Failure::new(Exit::Conflict, format!("{dir}: {error}"))
            .next("use `chat-node run` to start the node that is there; for a new cluster, give an empty directory"),
        StartError::NoIdentity => Failure::new(Exit::Refused, format!("{dir}: {error}"))
            .next("give an empty directory, or clear this one if its set-up was broken off"),
        StartError::IdentityLost(_) => Failure::new(Exit::Quarantined, format!("{dir}: {error}")).next(
            "put `identity` back from a copy of this directory, or keep the directory for inspection and replace the \
             node: chat-admin replace-node OLD NEW ADDRESS; clear it only if its `init` or `restore` was interrupted",
        ),
        StartError::Lives { .. } => Failure::new(Exit::Refused, error.to_string())
            .next("nothing is lost: start the missing nodes, or add new ones with `chat-admin add-node`"),
        StartError::Unusable(_) => Failure::new(Exit::Refused, error.to_string())
            .next("give the data directory of a member that was in the cluster when it failed"),
        StartError::Backup(_) => Failure::new(Exit::Failure, error.to_string()).next("use another backup"),
        StartError::Contradiction { .. } => Failure::new(Exit::Configuration, error.to_string())
            .next("leave the flag out; a node keeps its name and zone for as long as it is a member"),
        StartError::AlreadyRunning { .. } => already_running(error.to_string()),
        StartError::Missing(_) => Failure::new(Exit::Usage, error.to_string()).next("see chat-node init --help"),
    }
}

/// Why the node cannot listen on its address. A port that is in use may be free a moment later; the rest is a matter of
/// settings.
pub(super) fn listen_failure(error: ListenError) -> Failure {
    let exit = if error.is_temporary { Exit::Temporary } else { Exit::Configuration };
    Failure { exit, ..Failure::from(error.fault) }
}

fn io_advice(dir: &Path) -> String {
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()) {
        Some(parent) => format!(
            "mount the disk that {} is on, or create it: only the last folder of --data-dir is created",
            parent.display()
        ),
        None => format!("check that {} exists and that this user may read and write it", dir.display()),
    }
}

fn removed(message: String) -> Failure {
    Failure::new(Exit::Removed, message)
        .next("to use this machine again, start a node with an empty data directory and add that")
}

/// The directory is evidence, and its node must not vote again: what it has acknowledged may be gone.
fn quarantined(message: String) -> Failure {
    Failure::new(Exit::Quarantined, message)
        .next("keep the directory for inspection, and replace the node: chat-admin replace-node OLD NEW ADDRESS")
}

fn already_running(message: String) -> Failure {
    Failure::new(Exit::Quarantined, message)
        .next("stop one of the two; a copy of a directory is no second node: for that, add an empty directory")
}

fn disk_full(message: String) -> Failure {
    Failure::new(Exit::Temporary, message).next("make room, then start the node again: nothing is lost")
}
