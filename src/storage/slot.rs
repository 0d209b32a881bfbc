//! A state file that can be replaced by another while it is in use.

use std::{
    mem,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{
    DataDir, Disks, Open, Result, StateFile,
    archive::{Loaded, Loader},
};

/// Between the slot's name and a number in the name of a file that is being loaded.
const LOADING: &str = ".loading-";

/// The live state file of a data directory. Cheap to clone; all clones see a replacement at once.
///
/// A file to come is loaded beside the live one, made durable, and renamed over it in one step: after a crash the
/// live file is the old one or the new one, and what else a crash left behind is removed when the slot is opened.
#[derive(Debug, Clone)]
pub struct StateSlot(Arc<Slot>);

#[derive(Debug)]
struct Slot {
    disks: Arc<dyn Disks>,
    name: String,
    live: RwLock<StateFile>,
    loaders: AtomicU64,
}

impl StateSlot {
    /// Opens the state file `name`, and removes half-loaded ones.
    pub fn open(dir: &DataDir, name: &str, how: Open) -> Result<Self> {
        let disks = dir.disks().clone();
        let loading = format!("{name}{LOADING}");
        for stray in disks.list()?.iter().filter(|found| found.starts_with(&loading)) {
            disks.remove(stray)?;
        }
        let live = RwLock::new(StateFile::open(disks.open(name, how)?)?);
        Ok(Self(Arc::new(Slot { disks, name: name.to_owned(), live, loaders: AtomicU64::new(0) })))
    }

    /// The live file. Take it anew for each batch or view: one kept over an [`install`](Self::install) stays with
    /// the file that was replaced.
    pub fn current(&self) -> StateFile {
        self.0.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts to load an archive into a file beside the live one.
    pub fn loader(&self) -> Result<Loader> {
        let name = format!("{}{LOADING}{}", self.0.name, self.0.loaders.fetch_add(1, Relaxed));
        Loader::new(self.0.disks.clone(), name)
    }

    /// Puts a loaded file in the place of the live one; durable when this returns. Views of the old file stay valid.
    /// The caller sees to it that no batch is open: it would be committed to the file that was replaced.
    ///
    /// On an error the old file is still in use here, while the disk may hold either: stop, and open again.
    pub fn install(&self, loaded: Loaded) -> Result<()> {
        let mut live = self.0.live.write().unwrap_or_else(PoisonError::into_inner);
        let file = loaded.rename_to(&self.0.name)?;
        let replaced = mem::replace(&mut *live, file);
        drop(live);
        // Closing it may take a sync: not under the lock.
        drop(replaced);
        Ok(())
    }
}
