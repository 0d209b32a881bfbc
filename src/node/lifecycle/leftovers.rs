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
    let log = LogFile::open(dir, LOG, Open::Existing, settings.blocking).and_then(|log| log.close());
    // The making of this log was interrupted. A loss of power may take any part of what was not synced, also when the
    // state was begun. It is no member's: that has applied something.
    if matches!(log, Err(StorageError::Damaged { .. })) && (!has_state || never_applied(dir)) {
        return Ok(());
    }
    match describe(dir, settings, has_state) {
        Ok(None) => Ok(()),
        Ok(Some(found)) => Err(StartError::IdentityLost(found)),
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
    let (applied, membership) = match has_state.then(|| read_state(dir)) {
        None => Default::default(),
        // A member votes or follows before it has a state worth keeping, and its log says so. Beside a log that says
        // nothing, a broken state is one whose making was interrupted.
        Some(Err(StorageError::Damaged { .. })) if (&vote, last) == (&None, None) => Default::default(),
        Some(read) => {
            let meta = read?;
            (meta.applied, meta.membership.membership().clone())
        }
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

/// Whether the state is empty, or is itself torn.
fn never_applied(dir: &DataDir) -> bool {
    match read_state(dir) {
        Ok(meta) => meta.applied.is_none(),
        Err(error) => matches!(error, StorageError::Damaged { .. }),
    }
}

fn read_state(dir: &DataDir) -> Result<StateMeta> {
    StateMeta::read(&StateSlot::open(dir, STATE, Open::Existing)?.current().view()?)
}

fn names(membership: &Membership) -> Vec<String> {
    membership.nodes().map(|(_, member)| member.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use openraft::storage::RaftLogStorage as _;

    use super::*;
    use crate::{config::NodeConfig, node::consensus::Stores, raft::types::Vote};

    /// A directory whose stores are empty, and whose state is then torn.
    async fn with_torn_state(folder: &tempfile::TempDir, vote: Option<Vote>) -> (DataDir, Settings) {
        let settings = Settings::production(NodeConfig::defaults(folder.path().join("data")));
        let dir = DataDir::create_or_open(&settings.config.data_dir).unwrap();
        let identity = crate::node::Identity { node_id: 2, cluster_id: "c".into(), ..Default::default() };
        let stores = Stores::create(&dir, &settings, &identity).unwrap();
        if let Some(vote) = vote {
            LogStore::new(stores.log.clone()).save_vote(&vote).await.unwrap();
        }
        stores.log.close().unwrap();
        drop(stores);
        std::fs::write(dir.path(STATE), b"torn").unwrap();
        (dir, settings)
    }

    #[tokio::test]
    async fn an_adoption_that_a_loss_of_power_interrupted_leaves_an_empty_node() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, settings) = with_torn_state(&folder, None).await;
        assert!(refuse_leftovers(&dir, &settings).is_ok());
    }

    #[tokio::test]
    async fn it_may_have_torn_the_log_or_its_witness_too() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, settings) = with_torn_state(&folder, None).await;
        for name in dir.disks().list().unwrap().iter().filter(|name| name.starts_with(LOG)) {
            std::fs::write(dir.path(name), b"").unwrap();
        }
        assert!(refuse_leftovers(&dir, &settings).is_ok());
    }

    #[tokio::test]
    async fn a_broken_state_beside_a_vote_is_that_of_a_member() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, settings) = with_torn_state(&folder, Some(Vote::new(3, 2))).await;
        assert!(matches!(refuse_leftovers(&dir, &settings), Err(StartError::IdentityLost(_))));
    }
}
