//! The seam between the stores and what they live on: files of a directory, or the disks of a simulation.

use std::{
    fmt::Debug,
    fs::File,
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{BackendError, StorageBackend, backends::FileBackend, backends::InMemoryBackend};

use super::{Result, StorageError, directory::private_file};

/// Whether a file must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// It must exist and hold something: an empty or missing file is damage, not a new store (P7).
    Existing,
    /// It starts empty, whatever was there before.
    Fresh,
}

/// A flat folder of files. The contract of every method: when it returns without error, its effect survives a crash.
pub trait Disks: Debug + Send + Sync + 'static {
    /// Opens a file for a store. What is read from it is what the disk holds, or what is still to be written to it; not
    /// what a sync that failed has left in a cache, for no later sync would write that.
    fn open(&self, name: &str, how: Open) -> Result<Disk>;

    /// The whole of a small file; none if it is not there.
    fn read_small(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Replaces a small file as a whole: after a crash it holds the old bytes or the new ones, never a mixture.
    fn write_small(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Puts the file `from` in the place of `to`, as one step. Open handles stay with their file.
    fn rename(&self, from: &str, to: &str) -> Result<()>;

    /// Removes a file; no error if it is not there. Open handles stay usable.
    fn remove(&self, name: &str) -> Result<()>;

    /// The names of all files, sorted, without the lock's.
    fn list(&self) -> Result<Vec<String>>;

    /// Bytes that can still be written.
    fn free_bytes(&self) -> Result<u64>;

    /// Where a file is, for messages to people.
    fn path(&self, name: &str) -> PathBuf;
}

/// What one redb file lives on. Opened once; whoever holds it owns the file.
#[derive(Debug, Clone)]
pub struct Disk {
    name: Arc<str>,
    backend: Arc<dyn StorageBackend>,
}

impl Disk {
    /// A backend of the caller's own; `name` stands in messages.
    pub fn new(name: impl Into<Arc<str>>, backend: impl StorageBackend) -> Self {
        Self { name: name.into(), backend: Arc::new(backend) }
    }

    /// The file at `path`, created with mode 0600 if it is not there.
    pub fn file(path: &Path) -> Result<Self> {
        let file = private_file().create(true).open(path).map_err(|e| StorageError::io(display(path), e))?;
        Self::of_file(path, file)
    }

    /// Memory that is gone with the process.
    pub fn memory(name: &str) -> Self {
        Self::new(name, InMemoryBackend::new())
    }

    pub(super) fn of_file(path: &Path, file: File) -> Result<Self> {
        read_anew(&file).map_err(|e| StorageError::io(display(path), e))?;
        let backend = FileBackend::new(file).map_err(|e| StorageError::engine(&display(path), e.into()))?;
        Ok(Self::new(display(path), backend))
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its size in bytes; zero when the disk does not say.
    pub fn size_bytes(&self) -> u64 {
        self.backend.len().unwrap_or(0)
    }
}

/// Lets what is read next come from the disk. Where a sync failed, the cache still holds what the disk does not, as if
/// it had been written: a store would stand on that, and the next power cut would take it away (P1).
fn read_anew(file: &File) -> std::io::Result<()> {
    file.sync_data()?;
    // Advice that no file system has to take; those that live in memory have no disk to disagree with.
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    Ok(())
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

/// redb wants to own its backend; it gets a share, so that the size can be asked for without a transaction.
type Io<T> = std::result::Result<T, std::io::Error>;
type Lock<T> = std::result::Result<T, BackendError>;

impl StorageBackend for Disk {
    fn len(&self) -> Io<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Io<()> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Io<()> {
        self.backend.set_len(len)
    }

    fn sync_data(&self) -> Io<()> {
        self.backend.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Io<()> {
        self.backend.write(offset, data)
    }

    fn close(&self) -> Io<()> {
        self.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<bool> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<bool> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<()> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<()> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<()> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<bool> {
        self.backend.query_lock_range(start, end)
    }
}
