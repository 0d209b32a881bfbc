//! Tells an empty directory from one that has lost its identity.
//!
//! An interrupted adoption leaves stores that were never written to. Nobody relies on them, so the node is empty. A
//! store that holds a vote, an entry or a state belonged to a member, or to an `init` or `restore` that was
//! interrupted. A node that offered itself as empty over such files would overwrite what it had promised (P1, P7).

use std::io;

use super::StartError;
use crate::{
    node::{
        Settings,
        consensus::{LOG, STATE},
    },
    raft::{LogStore, StateMeta},
    storage::{DataDir, LogFile, Open, Result, StateSlot, StorageError},
};

/// Refuses a directory without an identity, unless it is empty or holds only stores that were never written to.
///
/// # Errors
/// `IdentityLost` if the stores hold something or are damaged, `NoIdentity` if there are files that no node makes.
pub fn refuse_leftovers(dir: &DataDir, settings: &Settings) -> std::result::Result<(), StartError> {
    let names = dir.disks().list()?;
    if !names.iter().all(|name| name.starts_with(LOG) || name.starts_with(STATE)) {
        return Err(StartError::NoIdentity);
    }
    let has_state = names.iter().any(|name| name == STATE);
    let described = describe_log(dir, settings).and_then(|log| {
        let state = if has_state { describe_state(dir)? } else { None };
        Ok([log, state].into_iter().flatten().collect::<Vec<_>>())
    });
    match described {
        Ok(found) if found.is_empty() => Ok(()),
        Ok(found) => Err(StartError::IdentityLost(found.join(" and "))),
        // The stores are made in this order: the log, then the state. So the making of this log was interrupted.
        Err(StorageError::Damaged { .. }) if !has_state => Ok(()),
        Err(error @ StorageError::Damaged { .. }) => Err(StartError::IdentityLost(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// What the log holds; `None` if it was never written to.
fn describe_log(dir: &DataDir, settings: &Settings) -> Result<Option<String>> {
    let file = LogFile::open(dir, LOG, Open::Existing, settings.blocking)?;
    let log = LogStore::new(file.clone());
    let damaged = |error: io::Error| StorageError::damaged(dir.path(LOG).display().to_string(), error);
    let (vote, last) = (log.vote().map_err(damaged)?, log.bounds().map_err(damaged)?.last_log_id);
    file.close()?;
    Ok(match (last, vote) {
        (Some(last), _) => Some(format!("a log up to entry {}", last.index())),
        (None, Some(vote)) => Some(format!("a vote in term {}", vote.leader_id().term)),
        (None, None) => None,
    })
}

/// What the state holds; `None` if no entry was ever applied to it.
fn describe_state(dir: &DataDir) -> Result<Option<String>> {
    let slot = StateSlot::open(dir, STATE, Open::Existing)?;
    let StateMeta { applied, membership } = StateMeta::read(&slot.current().view()?)?;
    let members: Vec<_> = membership.membership().nodes().map(|(_, member)| member.name.clone()).collect();
    Ok(applied.map(|applied| match members.is_empty() {
        true => format!("a state up to entry {}", applied.index()),
        false => format!("the state of a cluster of {} up to entry {}", members.join(", "), applied.index()),
    }))
}
