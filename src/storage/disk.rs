//! The seam between the stores and the files they live in: files of a directory, or of a simulated disk.
//!
//! [`Disks`] is a folder, [`Disk`] one file of it. Stores know only these two, so a test can put a simulation that
//! fails the way disks fail below the real engine.

use std::{
    fmt::Debug,
    fs::{File, OpenOptions},
    ops::Bound,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{BackendError, StorageBackend, backends::FileBackend, backends::InMemoryBackend};

use super::{Result, StorageError};

/// Whether a file must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// It must exist and not be empty: otherwise it is damage, not a new store (P7).
    Existing,
    /// It starts empty, whatever it held before.
    Fresh,
}

/// What a file keeps for as long as it is the same file, and what no copy of it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMark {
    /// Its inode number; 0 where the file system gives numbers that do not last.
    pub inode: u64,
    /// When it was made, in nanoseconds since 1970; 0 where the file system does not tell. No system call sets it.
    pub birth_ns: u64,
}

impl FileMark {
    /// Whether these may be the marks of one file. Birth times decide where both are known, because some network and
    /// overlay file systems change inode numbers when they are mounted.
    pub fn may_be(self, other: Self) -> bool {
        let both_born = self.birth_ns != 0 && other.birth_ns != 0;
        let both_numbered = self.inode != 0 && other.inode != 0;
        if both_born { self.birth_ns == other.birth_ns } else { !both_numbered || self.inode == other.inode }
    }
}

/// A flat folder of files. The contract of every method: once it returns without error, its effect survives a crash.
pub trait Disks: Debug + Send + Sync + 'static {
    /// Opens a file for a store. Reads return data that is on the disk or will be written to it. They never return data
    /// that a failed sync left in a cache, because no later sync would write that.
    fn open(&self, name: &str, how: Open) -> Result<Disk>;

    /// The bytes of a small file; `None` if it does not exist.
    fn read_small(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Replaces a small file as a whole. After a crash it holds the old bytes or the new ones, never a mixture.
    fn write_small(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Renames the file `from` over `to`, in one step. Open handles stay with their file.
    fn rename(&self, from: &str, to: &str) -> Result<()>;

    /// Removes a file, if it exists. Open handles stay usable.
    fn remove(&self, name: &str) -> Result<()>;

    /// The names of all files except the lock and the folder `lost+found`, sorted.
    fn list(&self) -> Result<Vec<String>>;

    /// How many bytes can still be written.
    fn free_bytes(&self) -> Result<u64>;

    /// What tells the file from a copy of it.
    fn mark(&self, name: &str) -> Result<FileMark>;

    /// The path of a file, for messages to people.
    fn path(&self, name: &str) -> PathBuf;
}

/// The file of one redb database. Cheap to clone. A file is opened once at a time: two stores on one file would damage
/// it.
#[derive(Debug, Clone)]
pub struct Disk {
    name: Arc<str>,
    backend: Arc<dyn StorageBackend>,
}

impl Disk {
    /// A backend that the caller made; `name` stands in messages.
    pub fn new(name: impl Into<Arc<str>>, backend: impl StorageBackend) -> Self {
        Self { name: name.into(), backend: Arc::new(backend) }
    }

    /// The file at `path`, created with mode 0600 if it does not exist.
    pub fn file(path: &Path) -> Result<Self> {
        let file = private_file().create(true).open(path).map_err(|e| StorageError::io(display(path), e))?;
        Self::of_file(path, file)
    }

    /// A file in memory, which is lost with the process.
    pub fn memory(name: &str) -> Self {
        Self::new(name, InMemoryBackend::new())
    }

    pub(super) fn of_file(path: &Path, file: File) -> Result<Self> {
        read_anew(&file).map_err(|e| StorageError::io(display(path), e))?;
        let backend = FileBackend::new(file).map_err(|e| StorageError::engine(&display(path), e.into()))?;
        Ok(Self::new(display(path), backend))
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its size in bytes; 0 if the backend cannot tell.
    pub fn size_bytes(&self) -> u64 {
        self.backend.len().unwrap_or(0)
    }
}

/// Options for a file that only this user can read and write. The standard library adds O_CLOEXEC, so child processes
/// do not inherit it.
pub(super) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Drops the file's pages from the page cache, so that the next reads come from the disk. After a failed sync the cache
/// still holds data that the disk does not, marked as written. A store would build on it, and the next power cut would
/// take it away (P1).
fn read_anew(file: &File) -> std::io::Result<()> {
    file.sync_data()?;
    // This is advice, which a file system may ignore. Those in memory do, and have no disk to differ from.
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    Ok(())
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

type Io<T> = std::result::Result<T, std::io::Error>;
type Lock<T> = std::result::Result<T, BackendError>;

/// redb owns its backend. It gets a clone that shares the file, so that the size can be asked for without a
/// transaction.
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
