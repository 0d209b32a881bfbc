//! A new cluster from a backup.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use super::{
    Identity, Node, identity,
    replica::Stores,
    start::{FIRST, Settings, StartError, first_identity, member},
};
use crate::{
    raft::{
        LogStore, StateMeta,
        types::{CommittedLeaderId, LogId, Membership, StoredMembership},
    },
    storage::{DataDir, Durable, StorageError},
};

/// Bytes read from the backup at a time.
const PIECE: usize = 256 * 1024;

impl Node {
    /// Makes a one-voter cluster in the empty data directory of `settings` whose state is that of the backup.
    ///
    /// It is a new cluster with an id of its own: nodes of the old one will not speak with it. The backup is verified
    /// to its last byte before anything is put in place.
    pub async fn restore(settings: Settings, from: &Path) -> Result<Identity, StartError> {
        let dir = DataDir::create_or_open(&settings.config.data_dir)?;
        Self::restore_on(settings, dir, from).await
    }

    /// The same on a directory of the caller's own.
    pub async fn restore_on(settings: Settings, dir: DataDir, from: &Path) -> Result<Identity, StartError> {
        if !dir.is_empty()? {
            return Err(StartError::NotEmpty);
        }
        let identity = first_identity(&settings)?;
        let (blocking, from, work) = (settings.blocking, from.to_owned(), dir.clone());
        let founder = identity.clone();
        let made = move || {
            let made = found(&settings, &work, &founder, &from);
            if made.is_err() {
                clear(&work);
            }
            made
        };
        blocking.run(made).await.map(|()| identity)
    }
}

/// Leaves the directory as empty as it was, so that the command can be given again with another backup.
fn clear(dir: &DataDir) {
    let names = dir.disks().list().unwrap_or_default();
    for name in names {
        if let Err(error) = dir.disks().remove(&name) {
            tracing::warn!(file = name, %error, "what a failed restore has left could not be removed");
        }
    }
}

fn found(settings: &Settings, dir: &DataDir, identity: &Identity, from: &Path) -> Result<(), StartError> {
    let stores = Stores::open(dir, settings, true)?;
    load(&stores, from)?;
    let state = stores.slot.current();
    let old = StateMeta::read(&state.view()?).map_err(|error| damaged(from, error))?;
    // The new cluster's log begins right after what the backup has applied, in a term that no old node can be in: it
    // does not need to be higher than theirs, for they belong to another cluster and are refused by its id.
    let applied = old.applied.ok_or_else(|| StartError::Backup("it holds no state".into()))?;
    let members = BTreeMap::from([(FIRST, member(identity))]);
    let membership =
        Membership::new(vec![[FIRST].into()], members).map_err(|error| StartError::Consensus(error.to_string()))?;
    let at = LogId::new(CommittedLeaderId::new(applied.committed_leader_id().term), applied.index());
    let mut batch = state.begin()?;
    StateMeta::write_membership(&mut batch, &StoredMembership::new(Some(at), membership))?;
    batch.commit(Durable::Yes)?;
    LogStore::new(stores.log.clone())
        .start_after(&at, FIRST)
        .map_err(|error| StartError::Consensus(error.to_string()))?;
    stores.log.close()?;
    identity::write(dir, identity)?;
    Ok(())
}

fn load(stores: &Stores, from: &Path) -> Result<(), StartError> {
    let unreadable = |error: &dyn std::fmt::Display| StartError::Backup(format!("{}: {error}", from.display()));
    let mut file = File::open(from).map_err(|error| unreadable(&error))?;
    let mut loader = stores.slot.loader()?;
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).map_err(|error| unreadable(&error))?;
        if read == 0 {
            break;
        }
        loader.feed(&piece[..read]).map_err(|error| damaged(from, error))?;
    }
    let loaded = loader.finish().map_err(|error| damaged(from, error))?;
    stores.slot.install(loaded)?;
    Ok(())
}

/// A backup that is damaged says nothing about this disk.
fn damaged(from: &Path, error: StorageError) -> StartError {
    match error {
        StorageError::Damaged { detail, .. } => StartError::Backup(format!("{} is damaged: {detail}", from.display())),
        other => StartError::Storage(other),
    }
}
