//! The two stores of a member: its log and its state.
//!
//! Both bear a [`FileLabel`] that says whose they are: cluster, node, epoch and data directory. Files that were swapped
//! or mixed are refused by name. `docs/adr/0050` has the reasons.

use bytes::Bytes;
use prost::Message;

use crate::{
    node::{Identity, Settings, disk_record::LOG, identity},
    raft::{LogStore, StateMeta},
    storage::{DataDir, LogFile, Open, StateSlot, StorageError},
    wire::store::FileLabel,
};

/// The file name of the state.
pub const STATE: &str = "state.redb";

/// The stores of one data directory, open.
///
/// Invariants, checked at every open:
///
/// - Both files bear the label of the identity beside them. Only a directory of a program that knew no labels has none,
///   until [`Stores::take_over`] labels it.
/// - The log begins at or before the entry that follows the state. The log is purged only as far as the state is
///   durable, so a state that ends earlier has lost durable data.
pub struct Stores {
    /// The log.
    pub log: LogFile,
    /// The state.
    pub slot: StateSlot,
}

impl Stores {
    /// Creates both, empty, for the member with this identity.
    pub fn create(dir: &DataDir, settings: &Settings, identity: &Identity) -> Result<Self, StorageError> {
        let stores = Self::open_files(dir, settings, Open::Fresh)?;
        stores.label_as(identity)?;
        Ok(stores)
    }

    /// Opens both, which must exist and belong to the member with this identity.
    pub fn open(dir: &DataDir, settings: &Settings, identity: &Identity) -> Result<Self, StorageError> {
        let stores = Self::open_files(dir, settings, Open::Existing)?;
        stores.check_labels(dir, identity, false)?;
        stores.check_state_reaches_log(dir)?;
        Ok(stores)
    }

    /// Like [`Stores::open`], but accepts what an interrupted recovery leaves: an identity of a later epoch.
    pub fn open_to_recover(dir: &DataDir, settings: &Settings, identity: &Identity) -> Result<Self, StorageError> {
        let stores = Self::open_files(dir, settings, Open::Existing)?;
        stores.check_labels(dir, identity, true)?;
        stores.check_state_reaches_log(dir)?;
        Ok(stores)
    }

    fn open_files(dir: &DataDir, settings: &Settings, how: Open) -> Result<Self, StorageError> {
        let log = LogFile::open(dir, LOG, how, settings.blocking)?;
        let slot = StateSlot::open(dir, STATE, how)?;
        Ok(Self { log, slot })
    }

    /// Labels both files, durably.
    pub fn label_as(&self, identity: &Identity) -> Result<(), StorageError> {
        let label = label_of(identity).encode_to_vec();
        self.log.set_label(&label)?;
        self.slot.set_label(&label)
    }

    /// Labels the files of a directory that an older program made, once. Returns the identity with its directory id.
    ///
    /// The identity is written last, and says from then on that the files must have labels. After a crash in between
    /// the next start finishes it.
    pub fn take_over(&self, dir: &DataDir, settings: &Settings, identity: Identity) -> Result<Identity, StorageError> {
        if !identity.directory_id.is_empty() {
            return Ok(identity);
        }
        let identity = Identity { directory_id: identity::new_directory_id(&settings.entropy), ..identity };
        self.label_as(&identity)?;
        identity::write(dir, &identity)?;
        Ok(identity)
    }

    fn labels(&self) -> Result<[(&'static str, Option<Bytes>); 2], StorageError> {
        Ok([(LOG, self.log.label()?), (STATE, self.slot.label())])
    }

    fn check_labels(&self, dir: &DataDir, identity: &Identity, recovering: bool) -> Result<(), StorageError> {
        for (name, label) in self.labels()? {
            let file = dir.path(name).display().to_string();
            let Some(label) = label else {
                if identity.directory_id.is_empty() {
                    continue;
                }
                return Err(StorageError::foreign(file, "it bears no label, unlike the identity beside it"));
            };
            let label = FileLabel::decode(label).map_err(|error| StorageError::damaged(&file, error))?;
            if let Some(detail) = mismatch(&label, identity, recovering) {
                return Err(StorageError::foreign(file, detail));
            }
        }
        Ok(())
    }

    fn check_state_reaches_log(&self, dir: &DataDir) -> Result<(), StorageError> {
        let bounds = LogStore::new(self.log.clone()).bounds().map_err(|error| StorageError::io(LOG, error))?;
        let purged = bounds.last_purged_log_id.map_or(0, |id| id.index());
        let applied = StateMeta::read(&self.slot.current().view()?)?.applied.map_or(0, |id| id.index());
        if purged <= applied {
            return Ok(());
        }
        let detail = format!("it ends at log entry {applied}, but the log begins after entry {purged}");
        Err(StorageError::damaged(dir.path(STATE).display().to_string(), detail))
    }
}

fn label_of(identity: &Identity) -> FileLabel {
    FileLabel {
        cluster_id: identity.cluster_id.clone(),
        node_id: identity.node_id,
        epoch: identity.epoch,
        directory_id: identity.directory_id.clone(),
    }
}

/// Why a file with this label is not a file of this identity.
fn mismatch(label: &FileLabel, identity: &Identity, recovering: bool) -> Option<String> {
    let name = &identity.name;
    if label.cluster_id != identity.cluster_id {
        return Some(format!("it is of cluster {}, {name} is of cluster {}", label.cluster_id, identity.cluster_id));
    }
    if label.node_id != identity.node_id {
        return Some(format!("it is of node id {}, {name} has id {}", label.node_id, identity.node_id));
    }
    // Without a directory id the labels are what an interrupted `take_over` left, and are written anew.
    if !identity.directory_id.is_empty() && label.directory_id != identity.directory_id {
        return Some(format!("it is from another data directory of {name}"));
    }
    if label.epoch > identity.epoch {
        return Some(format!("it is of epoch {}, the identity beside it of epoch {}", label.epoch, identity.epoch));
    }
    if label.epoch < identity.epoch && !recovering {
        return Some(format!(
            "it is of epoch {}, the identity beside it of epoch {}: a recovery was interrupted, or the file is a copy from \
             before it; `chat-node recover` finishes the one and judges the other",
            label.epoch, identity.epoch
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        config::NodeConfig,
        node::{Node, StartError},
        types::NodeName,
    };

    fn settings(folder: &tempfile::TempDir, name: &str) -> Settings {
        Settings::production(NodeConfig {
            name: NodeName::new(name).ok(),
            listen: Some("127.0.0.1:1".parse().unwrap()),
            ..NodeConfig::defaults(folder.path().join(name))
        })
    }

    async fn refusal(settings: &Settings) -> String {
        match Node::start(settings.clone()).await {
            Err(StartError::Storage(error @ StorageError::Foreign { .. })) => error.to_string(),
            Err(other) => panic!("{other}"),
            Ok(node) => {
                node.stop().await;
                panic!("it started");
            }
        }
    }

    #[tokio::test]
    async fn files_of_another_node_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (settings(&folder, "a"), settings(&folder, "b"));
        let theirs = Node::init(b.clone()).await.unwrap();
        for files in [&["log.redb", "log.redb.witness"][..], &["state.redb"], &["log.redb.witness"]] {
            let _ = fs::remove_dir_all(&a.config.data_dir);
            Node::init(a.clone()).await.unwrap();
            for file in files {
                fs::copy(b.config.data_dir.join(file), a.config.data_dir.join(file)).unwrap();
            }
            let refusal = refusal(&a).await;
            let by_name = refusal.contains(files[0]) && refusal.contains("does not belong here");
            assert!(by_name && (files.len() == 1 || refusal.contains(&theirs.cluster_id)), "{refusal}");
        }
    }

    #[tokio::test]
    async fn an_older_directory_of_the_same_node_does_not_lend_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let a = settings(&folder, "a");
        let identity = Node::init(a.clone()).await.unwrap();
        let dir = DataDir::open(&a.config.data_dir).unwrap();
        let other = Identity { directory_id: Bytes::from_static(b"another directory"), ..identity };
        identity::write(&dir, &other).unwrap();
        drop(dir);
        let refusal = refusal(&a).await;
        assert!(refusal.contains("another data directory of a"), "{refusal}");
    }

    #[tokio::test]
    async fn a_directory_of_an_older_program_is_labelled_once_and_mixed_with_none_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let a = settings(&folder, "a");
        let dir = DataDir::create_or_open(&a.config.data_dir).unwrap();
        let identity =
            Identity { name: "a".into(), cluster_id: "c".into(), node_id: 7, epoch: 1, ..Identity::default() };
        drop(Stores::open_files(&dir, &a, Open::Fresh).unwrap());
        identity::write(&dir, &identity).unwrap();
        let plain = fs::read(a.config.data_dir.join("state.redb")).unwrap();
        drop(dir);
        let node = Node::start(a.clone()).await.unwrap();
        node.stop().await;
        drop(node);
        // Background tasks let go of the directory a moment later.
        while DataDir::open(&a.config.data_dir).is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let dir = DataDir::open(&a.config.data_dir).unwrap();
        assert_eq!(identity::read(&dir).unwrap().unwrap().directory_id.len(), 16);
        fs::write(a.config.data_dir.join("state.redb"), plain).unwrap();
        drop(dir);
        let refusal = refusal(&a).await;
        assert!(refusal.contains("no label"), "{refusal}");
    }

    #[test]
    fn a_label_of_a_later_epoch_is_refused_even_by_a_recovery() {
        let identity = Identity { name: "a".into(), epoch: 2, ..Identity::default() };
        let of = |epoch| FileLabel { epoch, ..label_of(&identity) };
        assert_eq!(mismatch(&of(2), &identity, false), None);
        assert!(mismatch(&of(1), &identity, false).is_some_and(|why| why.contains("recovery was interrupted")));
        assert_eq!(mismatch(&of(1), &identity, true), None);
        assert!(mismatch(&of(3), &identity, true).is_some());
    }
}
