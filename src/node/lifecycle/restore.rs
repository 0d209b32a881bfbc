//! Creates a new cluster from a backup.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use super::{StartError, init::new_identity};
use crate::{
    node::{
        Identity, Node, Settings,
        consensus::Stores,
        disk_record,
        identity::{self, FIRST_NODE_ID},
    },
    raft::{
        LogStore, StateMeta,
        types::{CommittedLeaderId, LogId, Membership, StoredMembership},
    },
    storage::{DataDir, Durable, StorageError},
};

/// Bytes read from the backup at a time.
const READ_BYTES: usize = 256 * 1024;

impl Node {
    /// Creates a one-voter cluster in the empty data directory of `settings`, with the state of the backup.
    ///
    /// It is a new cluster with an id of its own: nodes of the old one refuse it. The backup is verified to its last byte
    /// before anything is put in place. After a failure the directory is empty again; after a crash it holds no identity,
    /// so no node starts from it as a member.
    pub async fn restore(settings: Settings, from: &Path) -> Result<Identity, StartError> {
        let dir = DataDir::create_or_open(&settings.config.data_dir)?;
        Self::restore_on(settings, dir, from).await
    }

    /// Like [`Node::restore`], in a directory that the caller opened.
    pub async fn restore_on(settings: Settings, dir: DataDir, from: &Path) -> Result<Identity, StartError> {
        if !dir.is_empty()? {
            return Err(StartError::NotEmpty);
        }
        let identity = new_identity(&settings)?;
        let (blocking, from) = (settings.blocking, from.to_owned());
        let first = identity.clone();
        let work = move || {
            let created = create(&settings, &dir, &first, &from);
            if created.is_err() {
                clear(&dir);
            }
            created
        };
        blocking.run(work).await.map(|()| identity)
    }
}

/// Empties the directory again, so that the operator can repeat the command with another backup.
fn clear(dir: &DataDir) {
    let names = dir.disks().list().unwrap_or_default();
    for name in names {
        if let Err(error) = dir.disks().remove(&name) {
            tracing::warn!(file = name, %error, "a file that a failed restore left behind could not be removed");
        }
    }
}

/// Loads the state, makes the first node its only member, prepares the log to continue after it, and writes the identity
/// last.
fn create(settings: &Settings, dir: &DataDir, identity: &Identity, from: &Path) -> Result<(), StartError> {
    let stores = Stores::create(dir, settings, identity)?;
    load(&stores, from)?;
    let state = stores.slot.current();
    let old = StateMeta::read(&state.view()?).map_err(|error| damaged(from, error))?;
    // The log of the new cluster begins right after the last entry applied in the backup, in the same term. The term need
    // not be higher than that of the old nodes: they belong to another cluster and are refused by its id.
    let applied = old.applied.ok_or_else(|| StartError::Backup("it holds no state".into()))?;
    let members = BTreeMap::from([(FIRST_NODE_ID, identity::as_member(identity))]);
    let membership = Membership::new(vec![[FIRST_NODE_ID].into()], members)
        .map_err(|error| StartError::Consensus(error.to_string()))?;
    let at = LogId::new(CommittedLeaderId::new(applied.committed_leader_id().term), applied.index());
    let mut batch = state.begin()?;
    StateMeta::write_membership(&mut batch, &StoredMembership::new(Some(at), membership))?;
    batch.commit(Durable::Yes)?;
    LogStore::new(stores.log.clone())
        .start_after(&at, FIRST_NODE_ID)
        .map_err(|error| StartError::Consensus(error.to_string()))?;
    stores.log.close()?;
    disk_record::create(dir, identity)?;
    identity::write(dir, identity)?;
    Ok(())
}

/// Reads the archive into a new state file and installs it once it is verified.
fn load(stores: &Stores, from: &Path) -> Result<(), StartError> {
    let unreadable = |error: &dyn std::fmt::Display| StartError::Backup(format!("{}: {error}", from.display()));
    let mut file = File::open(from).map_err(|error| unreadable(&error))?;
    let mut loader = stores.slot.loader()?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = file.read(&mut buffer).map_err(|error| unreadable(&error))?;
        if read == 0 {
            break;
        }
        loader.feed(&buffer[..read]).map_err(|error| damaged(from, error))?;
    }
    let loaded = loader.finish().map_err(|error| damaged(from, error))?;
    stores.slot.install(loaded)?;
    Ok(())
}

/// Blames damage on the backup: it says nothing about this disk.
fn damaged(from: &Path, error: StorageError) -> StartError {
    match error {
        StorageError::Damaged { detail, .. } => StartError::Backup(format!("{} is damaged: {detail}", from.display())),
        other => StartError::Storage(other),
    }
}
