//! A node's data directory: locked by one process, readable by one user.
//!
//! It holds the files of the stores and a few records, small files that are replaced as a whole. Replacing writes a new
//! file `NAME.tmp`, syncs it, renames it over the old one and syncs the directory.
//!
//! | the crash comes | after it |
//! |---|---|
//! | before the rename | the old record; the next open removes `NAME.tmp` |
//! | between the rename and the sync of the directory | the old record or the new one; `write_record` has not returned |
//! | later | the new record |

use std::{
    fmt,
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::UNIX_EPOCH,
};

use super::{
    Result, StorageError,
    disk::{Disk, Disks, FileMark, Open, private_file},
    record,
};

/// A process owns the directory while it holds the lock on the file of this name. Only the owner removes the file, so a
/// process that has locked a file looks whether it still has the name.
const LOCK: &str = "lock";
/// The folder that `mkfs.ext4` puts into the root of a file system. A data directory may be such a root.
const LOST_FOUND: &str = "lost+found";
/// The end of the name of a file that is being written and not renamed into place yet.
const UNFINISHED: &str = ".tmp";

/// A data directory. This process holds its lock until the last clone is dropped.
#[derive(Clone)]
pub struct DataDir {
    disks: Arc<dyn Disks>,
}

impl DataDir {
    /// Opens and locks the directory at `path`, and creates it if it does not exist. Its parent must exist: a parent that
    /// is missing is a disk that is not mounted, or a typing error.
    ///
    /// Fails with `Locked` while another process, or another `DataDir` of this one, holds the lock.
    pub fn create_or_open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let is_new = match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => true,
            Err(_) if path.is_dir() => false,
            Err(e) => return Err(failed("creating", path, e)),
        };
        Ok(Self::on(Arc::new(Directory::lock(path, is_new)?)))
    }

    /// Opens and locks the directory at `path`, which must exist.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self::on(Arc::new(Directory::lock(path.as_ref(), false)?)))
    }

    /// A data directory on disks that the caller made.
    pub fn on(disks: Arc<dyn Disks>) -> Self {
        Self { disks }
    }

    /// The directory's disks.
    pub fn disks(&self) -> &Arc<dyn Disks> {
        &self.disks
    }

    /// The path of the file `name`, for messages and for tools of the operating system.
    pub fn path(&self, name: &str) -> PathBuf {
        self.disks.path(name)
    }

    /// Whether it holds nothing but the lock, and perhaps the `lost+found` of a fresh file system.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.disks.list()?.is_empty())
    }

    /// Opens the file `name` for a [`LogFile`](super::LogFile) or a [`StateFile`](super::StateFile).
    pub fn disk(&self, name: &str, how: Open) -> Result<Disk> {
        self.disks.open(name, how)
    }

    /// Reads the record `name`; `None` if it was never written. A record that fails its checksum is `Damaged`.
    pub fn read_record<M: prost::Message + Default>(&self, name: &str) -> Result<Option<M>> {
        let what = self.path(name).display().to_string();
        self.disks.read_small(name)?.map(|bytes| record::decode(&what, &bytes)).transpose()
    }

    /// Writes the record `name`. It is durable when this returns. After a crash before that, the record is the old one
    /// or the new one.
    pub fn write_record<M: prost::Message>(&self, name: &str, message: &M) -> Result<()> {
        self.disks.write_small(name, &record::encode(message))
    }

    /// How many bytes can still be written to the file system.
    pub fn free_bytes(&self) -> Result<u64> {
        self.disks.free_bytes()
    }
}

impl fmt::Debug for DataDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DataDir").field(&self.disks.path("")).finish()
    }
}

/// A directory of the operating system, locked.
///
/// Dropping it leaves no trace of a command that was refused: if no file is in the directory, or none was written, it
/// removes the lock that it made, and the directory if it made that too.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// Held for its lock, which the operating system releases when the process ends, in whatever way.
    _lock: File,
    /// This process made the lock file.
    is_new_lock: bool,
    /// This process made the directory.
    is_new: bool,
    /// Something was written.
    is_used: AtomicBool,
}

impl Directory {
    /// Locks the directory and removes files whose writing was interrupted.
    fn lock(path: &Path, is_new: bool) -> Result<Self> {
        let (lock, is_new_lock) = loop {
            let (file, is_new_lock) = open_lock(&path.join(LOCK)).map_err(|e| failed("opening", path, e))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(StorageError::Locked { path: path.to_owned() }),
                Err(TryLockError::Error(e)) => return Err(failed("locking", path, e)),
            }
            // The owner before us may have removed the file after we opened it.
            if is_at(&file, &path.join(LOCK)) {
                break (file, is_new_lock);
            }
        };
        let directory =
            Self { path: path.to_owned(), _lock: lock, is_new_lock, is_new, is_used: AtomicBool::new(false) };
        for name in directory.list()?.iter().filter(|name| name.ends_with(UNFINISHED)) {
            directory.remove(name)?;
        }
        Ok(directory)
    }

    /// Makes the names of created, renamed and removed files durable.
    fn sync(&self) -> Result<()> {
        File::open(&self.path).and_then(|d| d.sync_all()).map_err(|e| failed("syncing", &self.path, e))
    }
}

/// Opens the lock file and tells whether this call made it.
fn open_lock(path: &Path) -> io::Result<(File, bool)> {
    match private_file().create_new(true).open(path) {
        Ok(file) => Ok((file, true)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok((private_file().create(true).open(path)?, false)),
        Err(e) => Err(e),
    }
}

/// Whether `path` is the name of the open file.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata().map(id), fs::metadata(path).map(id)), (Ok(open), Ok(named)) if open == named)
}

impl Drop for Directory {
    fn drop(&mut self) {
        let is_used = self.is_used.load(Ordering::Relaxed);
        if !self.is_new_lock || (is_used && !self.list().is_ok_and(|names| names.is_empty())) {
            return;
        }
        // The lock is still held, so no other process owns the directory. What cannot be removed stays: it does no harm.
        let _ = fs::remove_file(self.path(LOCK));
        if self.is_new {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

impl Disks for Directory {
    fn open(&self, name: &str, how: Open) -> Result<Disk> {
        self.is_used.store(true, Ordering::Relaxed);
        let path = self.path(name);
        let file = match how {
            Open::Existing => private_file().open(&path),
            Open::Fresh => private_file().create(true).truncate(true).open(&path),
        };
        let file = file.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StorageError::damaged(path.display().to_string(), "it is missing"),
            _ => failed("opening", &path, e),
        })?;
        match how {
            Open::Fresh => self.sync()?,
            Open::Existing => {
                if file.metadata().map_err(|e| failed("reading", &path, e))?.len() == 0 {
                    return Err(StorageError::damaged(path.display().to_string(), "it is empty"));
                }
            }
        }
        Disk::of_file(&path, file)
    }

    fn read_small(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(name);
        let mut bytes = Vec::new();
        // Reads one byte more than allowed: enough to see that a file is too long.
        match File::open(&path).and_then(|f| f.take(record::BYTES as u64 + 1).read_to_end(&mut bytes)) {
            Ok(_) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("reading", &path, e)),
        }
    }

    fn write_small(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.is_used.store(true, Ordering::Relaxed);
        let unfinished = format!("{name}{UNFINISHED}");
        let path = self.path(&unfinished);
        let mut file =
            private_file().create(true).truncate(true).open(&path).map_err(|e| failed("creating", &path, e))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| failed("writing", &path, e))?;
        self.rename(&unfinished, name)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let path = self.path(to);
        fs::rename(self.path(from), &path).map_err(|e| failed("replacing", &path, e))?;
        self.sync()
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Ok(()) => self.sync(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(failed("removing", &path, e)),
        }
    }

    fn list(&self) -> Result<Vec<String>> {
        let failed = |e| failed("listing", &self.path, e);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_of_the_file_system = name == LOST_FOUND && entry.file_type().map_err(failed)?.is_dir();
            if name != LOCK && !is_of_the_file_system {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn free_bytes(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(&self.path).map_err(|e| failed("measuring", &self.path, e.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn mark(&self, name: &str) -> Result<FileMark> {
        let path = self.path(name);
        let found = fs::metadata(&path).map_err(|e| failed("reading", &path, e))?;
        let born = found.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let birth_ns = born.and_then(|born| u64::try_from(born.as_nanos()).ok()).unwrap_or(0);
        Ok(FileMark { inode: if numbers_last(&path) { found.ino() } else { 0 }, birth_ns })
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }
}

/// Whether the file system of `path` gives a file the same inode number for as long as it exists. File systems in user
/// space often number files anew with every mount.
#[cfg(target_os = "linux")]
fn numbers_last(path: &Path) -> bool {
    const FUSE: u32 = 0x6573_5546;
    rustix::fs::statfs(path).is_ok_and(|found| u32::try_from(found.f_type).is_ok_and(|kind| kind != FUSE))
}

#[cfg(not(target_os = "linux"))]
fn numbers_last(_path: &Path) -> bool {
    true
}

fn failed(doing: &str, path: &Path, e: io::Error) -> StorageError {
    StorageError::io(format!("{doing} {}", path.display()), e)
}
