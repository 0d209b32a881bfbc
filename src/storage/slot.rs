//! A state file that another can replace while it is in use.

use std::{
    mem,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;

use super::{
    DataDir, Disks, Open, Result, StateFile,
    archive::{Loaded, Loader},
};

/// The name of a file that is being loaded: the slot's name, this, and a number.
const LOADING: &str = ".loading-";

/// The live state file of a data directory. Cheap to clone; all clones see a replacement at once.
///
/// A replacement is loaded into a new file beside the live one, made durable, and renamed over it in one step.
///
/// Invariants:
/// - `live` is the file that the slot's name stands for, except between an error of [`install`](Self::install) and the
///   next open.
/// - The lock on `live` is held only to clone or to swap it, and across the rename. No batch or view is opened under
///   it.
/// - Every file that takes the place of the live one bears the same label.
/// - Every loader of one process has its own file name.
///
/// | the crash comes | after it |
/// |---|---|
/// | during the loading | the old file is live; opening the slot removes the half-loaded one |
/// | during the rename | the old file or the new one is live, each complete and durable |
/// | after the rename | the new file is live |
#[derive(Debug, Clone)]
pub struct StateSlot(Arc<Slot>);

#[derive(Debug)]
struct Slot {
    disks: Arc<dyn Disks>,
    name: String,
    live: RwLock<StateFile>,
    label: RwLock<Option<Bytes>>,
    loaders: AtomicU64,
}

impl StateSlot {
    /// Opens the state file `name` and removes half-loaded ones.
    pub fn open(dir: &DataDir, name: &str, how: Open) -> Result<Self> {
        let disks = dir.disks().clone();
        let loading = format!("{name}{LOADING}");
        for stray in disks.list()?.iter().filter(|found| found.starts_with(&loading)) {
            disks.remove(stray)?;
        }
        let live = StateFile::open(disks.open(name, how)?)?;
        let label = RwLock::new(live.label()?);
        let (name, live) = (name.to_owned(), RwLock::new(live));
        Ok(Self(Arc::new(Slot { disks, name, live, label, loaders: AtomicU64::new(0) })))
    }

    /// The label of the live file.
    pub fn label(&self) -> Option<Bytes> {
        self.0.label.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes `label` on the live file, durably, and on every file that replaces it. For a slot that has just been opened.
    pub fn set_label(&self, label: &[u8]) -> Result<()> {
        self.current().set_label(label)?;
        *self.0.label.write().unwrap_or_else(PoisonError::into_inner) = Some(Bytes::copy_from_slice(label));
        Ok(())
    }

    /// The live file. Call this again for each batch or view: a file kept over an [`install`](Self::install) is the one
    /// that was replaced.
    pub fn current(&self) -> StateFile {
        self.0.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts to load an archive into a new file beside the live one.
    pub fn loader(&self) -> Result<Loader> {
        let name = format!("{}{LOADING}{}", self.0.name, self.0.loaders.fetch_add(1, Relaxed));
        Loader::new(self.0.disks.clone(), name, self.label().as_deref())
    }

    /// Replaces the live file by a loaded one. The change is durable when this returns. Views of the old file stay
    /// valid. No batch may be open: it would commit to the file that was replaced.
    ///
    /// After an error this process still uses the old file, while the disk may hold either. Stop, and open the slot
    /// again.
    pub fn install(&self, loaded: Loaded) -> Result<()> {
        let mut live = self.0.live.write().unwrap_or_else(PoisonError::into_inner);
        let file = loaded.rename_to(&self.0.name)?;
        let replaced = mem::replace(&mut *live, file);
        drop(live);
        // Closing the old file may sync it, so this comes after the lock is released.
        drop(replaced);
        Ok(())
    }
}
