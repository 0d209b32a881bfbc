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
        consensus::STATE,
        disk_record::{self, LOG},
    },
    raft::{
        LogStore, StateMeta,
        types::{EntryPayload, Membership},
    },
    storage::{DataDir, LogFile, Open, Result, StateSlot, StorageError},
};

/// Refuses a directory without an identity, unless it is empty or holds only stores that were never written to.
///
/// # Errors
/// `IdentityLost` if the stores hold something or are damaged, `NoIdentity` if there are files that no node makes.
pub fn refuse_leftovers(dir: &DataDir, settings: &Settings) -> std::result::Result<(), StartError> {
    let names = dir.disks().list()?;
    let ours = |name: &String| name.starts_with(LOG) || name.starts_with(STATE) || name == disk_record::FILE;
    if !names.iter().all(ours) {
        return Err(StartError::NoIdentity);
    }
    let has_state = names.iter().any(|name| name == STATE);
    match describe(dir, settings, has_state) {
        Ok(None) => Ok(()),
        Ok(Some(found)) => Err(StartError::IdentityLost(found)),
        // The stores are made in this order: the log, then the state. So the making of this log was interrupted.
        Err(StorageError::Damaged { .. }) if !has_state => Ok(()),
        Err(error @ StorageError::Damaged { .. }) => Err(StartError::IdentityLost(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// What the stores hold; `None` if nothing was ever written to them.
fn describe(dir: &DataDir, settings: &Settings, has_state: bool) -> Result<Option<String>> {
    let file = LogFile::open(dir, LOG, Open::Existing, settings.blocking)?;
    let log = LogStore::new(file.clone());
    let damaged = |error: io::Error| StorageError::damaged(dir.path(LOG).display().to_string(), error);
    let (vote, last) = (log.vote().map_err(damaged)?, log.bounds().map_err(damaged)?.last_log_id);
    let (applied, membership) = match has_state {
        true => {
            let meta = StateMeta::read(&StateSlot::open(dir, STATE, Open::Existing)?.current().view()?)?;
            (meta.applied, meta.membership.membership().clone())
        }
        false => Default::default(),
    };
    // The state on disk may be older than the log, and lack the last membership.
    let mut members = names(&membership);
    if has_state {
        log.each_after(applied, |entry| {
            if let EntryPayload::Membership(newer) = &entry.payload {
                members = names(newer);
            }
            Ok(())
        })
        .map_err(damaged)?;
    }
    file.close()?;
    let of = if members.is_empty() { String::new() } else { format!(" of a cluster of {}", members.join(", ")) };
    Ok(match (last.max(applied), vote) {
        (Some(last), _) if has_state => Some(format!("log and state{of}, up to entry {}", last.index())),
        (Some(last), _) => Some(format!("a log up to entry {}, and no state", last.index())),
        (None, Some(vote)) => Some(format!("a vote in term {}", vote.leader_id().term)),
        (None, None) => None,
    })
}

fn names(membership: &Membership) -> Vec<String> {
    membership.nodes().map(|(_, member)| member.name.clone()).collect()
}
