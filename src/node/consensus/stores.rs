//! The two stores of a member: its log and its state.

use crate::{
    node::Settings,
    raft::{LogStore, StateMeta},
    storage::{DataDir, LogFile, Open, StateSlot, StorageError},
};

/// The file name of the log.
pub const LOG: &str = "log.redb";
/// The file name of the state.
pub const STATE: &str = "state.redb";

/// The stores of one data directory, open.
///
/// Invariant, checked at every open: the log begins at or before the entry that follows the state. The log is purged
/// only as far as the state is durable, so a state that ends earlier has lost durable data.
pub struct Stores {
    /// The log.
    pub log: LogFile,
    /// The state.
    pub slot: StateSlot,
}

impl Stores {
    /// Opens both. With `fresh` they start empty; otherwise they must exist.
    ///
    /// A state exists only beside a complete log: a crash while the stores are made leaves a log without a state.
    pub fn open(dir: &DataDir, settings: &Settings, fresh: bool) -> Result<Self, StorageError> {
        let how = if fresh { Open::Fresh } else { Open::Existing };
        if fresh {
            dir.disks().remove(STATE)?;
        }
        let log = LogFile::open(dir, LOG, how, settings.blocking)?;
        let slot = StateSlot::open(dir, STATE, how)?;
        let stores = Self { log, slot };
        if !fresh {
            stores.check_state_reaches_log(dir)?;
        }
        Ok(stores)
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
