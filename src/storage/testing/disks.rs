//! The simulated folder as stores see it.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

use super::sim::{Change, Counts, Fault, Inode, Sim};
use crate::storage::{Disk, Disks, FileMark, Open, Result, StorageError};

/// A flat folder of simulated files. Cheap to clone; all clones are the same folder.
#[derive(Debug, Clone)]
pub struct SimDisks(Arc<Mutex<Sim>>);

/// What a folder held at some moment.
#[derive(Debug, Clone)]
pub struct Image(BTreeMap<String, SavedFile>);

#[derive(Debug, Clone)]
struct SavedFile {
    inode: Inode,
    birth: u64,
    bytes: Vec<u8>,
}

impl Image {
    /// Whether there was such a file.
    pub fn holds(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// How a folder goes back in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoBack {
    /// A backup is copied into it.
    Copy,
    /// The device is reset to a snapshot of its own.
    Device,
}

impl SimDisks {
    /// An empty folder whose faults follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Sim::new(seed))))
    }

    /// Cuts the power at the `steps`th step from now (see [`Counts::steps`]). That step may or may not have an effect.
    pub fn power_off_after(&self, steps: u64) {
        let mut sim = self.lock();
        sim.power_off_after = Some(sim.counts.steps + steps);
    }

    /// Cancels [`power_off_after`](Self::power_off_after) if the power is still on.
    pub fn keep_power(&self) {
        self.lock().power_off_after = None;
    }

    /// Cuts the power now. Everything returns EIO until [`power_on`](Self::power_on).
    pub fn power_off(&self) {
        self.lock().power_off();
    }

    /// Whether the power is on.
    pub fn is_powered(&self) -> bool {
        self.lock().powered
    }

    /// Turns the power on, cutting it first if it was on. What survived can be opened again; old handles stay dead.
    pub fn power_on(&self) {
        let mut sim = self.lock();
        if sim.powered {
            sim.power_off();
        }
        sim.boot += 1;
        sim.powered = true;
        sim.power_off_after = None;
        sim.failing = None;
    }

    /// Kills the process and leaves the disk alone: old handles die, and written data stays in the cache.
    pub fn kill(&self) {
        self.lock().boot += 1;
    }

    /// What has been done to the disks so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Makes one kind of operation fail from now on, or none.
    pub fn fail(&self, fault: Option<Fault>) {
        self.lock().failing = fault;
    }

    /// Limits the bytes of all files together. More returns ENOSPC.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// How many bytes all files have together.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used()
    }

    /// The bytes of a file as a read returns them; `None` if it does not exist.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let sim = self.lock();
        sim.files.get(name).map(|inode| sim.contents[*inode].live.clone())
    }

    /// Changes the bytes of a file on the platter and in the cache: damage at rest.
    pub fn corrupt(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut sim = self.lock();
        if let Some(inode) = sim.files.get(name).copied() {
            let content = &mut sim.contents[inode];
            change(&mut content.live);
            content.durable = content.live.clone();
            content.unsynced.clear();
        }
    }

    /// What the platters hold now.
    pub fn image(&self) -> Image {
        let sim = self.lock();
        let file = |(name, inode): (&String, &Inode)| {
            let content = &sim.contents[*inode];
            (name.clone(), SavedFile { inode: *inode, birth: content.birth, bytes: content.durable.clone() })
        };
        Image(sim.files.iter().map(file).collect())
    }

    /// Puts an image in the place of all files; handles that are open die. A copy consists of new files; a device that was
    /// reset holds the very files of then.
    pub fn go_back(&self, image: &Image, how: GoBack) {
        let mut sim = self.lock();
        sim.boot += 1;
        sim.files.clear();
        for (name, saved) in &image.0 {
            match how {
                GoBack::Copy => sim.create(name, &saved.bytes),
                GoBack::Device => {
                    sim.contents[saved.inode].restore(saved.birth, &saved.bytes);
                    sim.files.insert(name.clone(), saved.inode);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sim> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disks for SimDisks {
    fn open(&self, name: &str, how: Open) -> Result<Disk> {
        let mut sim = self.lock();
        if how == Open::Fresh {
            sim.rename_step(|sim| sim.create(name, b"")).map_err(|e| StorageError::io(name, e))?;
        }
        sim.alive(sim.boot).map_err(|e| StorageError::io(name, e))?;
        let inode = *sim.files.get(name).ok_or_else(|| StorageError::damaged(name, "it is missing"))?;
        sim.contents[inode].drop_stale_cache();
        if how == Open::Existing && sim.contents[inode].live.is_empty() {
            return Err(StorageError::damaged(name, "it is empty"));
        }
        let file = SimFile { disks: self.clone(), inode, boot: sim.boot };
        Ok(Disk::new(name, file))
    }

    fn read_small(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let sim = self.lock();
        let failing = sim.failing.and_then(Fault::of_read).map_or(Ok(()), Err);
        failing.and_then(|()| sim.alive(sim.boot)).map_err(|e| StorageError::io(name, e))?;
        Ok(sim.files.get(name).map(|inode| sim.contents[*inode].live.clone()))
    }

    fn write_small(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut sim = self.lock();
        let failing = sim.failing.and_then(|fault| fault.of_write().or(fault.of_sync())).map_or(Ok(()), Err);
        failing
            .and_then(|()| sim.fits(bytes.len()))
            .and_then(|()| sim.rename_step(|sim| sim.create(name, bytes)))
            .map_err(|e| StorageError::io(name, e))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let mut sim = self.lock();
        let inode = *sim.files.get(from).ok_or_else(|| StorageError::io(from, io::ErrorKind::NotFound.into()))?;
        let change = |sim: &mut Sim| {
            sim.files.remove(from);
            sim.files.insert(to.to_owned(), inode);
        };
        sim.rename_step(change).map_err(|e| StorageError::io(to, e))
    }

    fn remove(&self, name: &str) -> Result<()> {
        let mut sim = self.lock();
        let change = |sim: &mut Sim| {
            sim.files.remove(name);
        };
        sim.rename_step(change).map_err(|e| StorageError::io(name, e))
    }

    fn list(&self) -> Result<Vec<String>> {
        Ok(self.lock().files.keys().cloned().collect())
    }

    fn free_bytes(&self) -> Result<u64> {
        let sim = self.lock();
        Ok(sim.capacity.unwrap_or(1 << 40).saturating_sub(sim.used()))
    }

    fn mark(&self, name: &str) -> Result<FileMark> {
        let sim = self.lock();
        let failing = sim.failing.and_then(Fault::of_read).map_or(Ok(()), Err);
        failing.and_then(|()| sim.alive(sim.boot)).map_err(|e| StorageError::io(name, e))?;
        let inode = *sim.files.get(name).ok_or_else(|| StorageError::damaged(name, "it is missing"))?;
        Ok(FileMark { inode: inode as u64 + 1, birth_ns: sim.contents[inode].birth })
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/simulated").join(name)
    }
}

/// An open file. It works during one boot only.
#[derive(Debug)]
struct SimFile {
    disks: SimDisks,
    inode: Inode,
    boot: u64,
}

impl SimFile {
    fn alive(&self) -> io::Result<MutexGuard<'_, Sim>> {
        let sim = self.disks.lock();
        sim.alive(self.boot)?;
        Ok(sim)
    }
}

impl StorageBackend for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.alive()?.contents[self.inode].live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let sim = self.alive()?;
        let start = position(offset)?;
        let bytes = sim.contents[self.inode].live.get(start..start + out.len());
        let bytes = bytes.ok_or(io::ErrorKind::UnexpectedEof);
        if let Some(error) = sim.failing.and_then(Fault::of_read) {
            if let (Some(Fault::ShortRead), Ok(bytes)) = (sim.failing, bytes) {
                let half = bytes.len() / 2;
                out[..half].copy_from_slice(&bytes[..half]);
            }
            return Err(error);
        }
        out.copy_from_slice(bytes?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.alive()?.change(self.inode, Change::Length(position(len)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.alive()?.sync(self.inode)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.alive()?.change(self.inode, Change::Write(position(offset)?, data.to_vec()))
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}
