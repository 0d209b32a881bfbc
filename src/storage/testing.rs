//! Disks of a simulation: files in memory that fail the way disks fail. For tests only.
//!
//! The model: a write is in the cache until a sync of its file. When the power goes, each write since then is on its
//! own kept, lost, or torn into sectors of which some are kept, as the seed decides, so writes arrive in any order.
//! Creating, renaming and removing files is durable when the call returns, as [`Disks`] demands; power that goes
//! during such a call has had it happen or not. Everything follows from the seed.

use std::{
    collections::BTreeMap,
    io, mem,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

use super::{Disk, Disks, Open, Result, StorageError};

/// What a disk writes as a whole or not at all, in bytes.
const SECTOR: usize = 512;

/// A flat folder of simulated files. Cheap to clone; clones are the same folder.
#[derive(Debug, Clone)]
pub struct SimDisks(Arc<Mutex<Sim>>);

#[derive(Debug)]
struct Sim {
    rng: u64,
    files: BTreeMap<String, Inode>,
    contents: Vec<Content>,
    /// Handles of an earlier boot are dead.
    boot: u64,
    powered: bool,
    power_off_after: Option<u64>,
    counts: Counts,
    capacity: Option<u64>,
    failing: Option<Fault>,
}

/// Which [`Content`] a name stands for.
type Inode = usize;

/// What has been done to the disks so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Writes, changes of length, syncs, and changes of names: the points at which the power may go.
    pub steps: u64,
    /// Syncs alone.
    pub syncs: u64,
}

/// What fails from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Reads answer EIO.
    Read,
    /// Writes answer EIO.
    Write,
    /// Syncs answer EIO, and what they should have synced is lost, as Linux does.
    Sync,
    /// Reads bring the first half of what was asked for, then answer EIO.
    ShortRead,
    /// Writes write the first half of their bytes, then answer EIO.
    ShortWrite,
    /// Syncs answer ENOSPC, as where space is allotted late, and what they should have synced is lost.
    FullSync,
}

impl Fault {
    /// Every fault there is.
    pub const ALL: [Self; 6] = [Self::Read, Self::Write, Self::Sync, Self::ShortRead, Self::ShortWrite, Self::FullSync];

    /// What a read answers; the same below for a write and a sync.
    fn of_read(self) -> Option<io::Error> {
        matches!(self, Self::Read | Self::ShortRead).then(eio)
    }

    fn of_write(self) -> Option<io::Error> {
        matches!(self, Self::Write | Self::ShortWrite).then(eio)
    }

    fn of_sync(self) -> Option<io::Error> {
        match self {
            Self::Sync => Some(eio()),
            Self::FullSync => Some(io::ErrorKind::StorageFull.into()),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// In order, since the last sync.
    unsynced: Vec<Change>,
    /// A sync failed: what is read is not what a later sync would write.
    stale: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl SimDisks {
    /// An empty folder whose faults follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Sim {
            rng: seed,
            files: BTreeMap::new(),
            contents: Vec::new(),
            boot: 0,
            powered: true,
            power_off_after: None,
            counts: Counts::default(),
            capacity: None,
            failing: None,
        })))
    }

    /// Lets the power go at the `steps`th step from now (see [`Counts::steps`]); that step may have had an effect.
    pub fn power_off_after(&self, steps: u64) {
        let mut sim = self.lock();
        sim.power_off_after = Some(sim.counts.steps + steps);
    }

    /// Takes back [`power_off_after`](Self::power_off_after), if the power has not gone yet.
    pub fn keep_power(&self) {
        self.lock().power_off_after = None;
    }

    /// Lets the power go now: everything answers EIO until [`power_on`](Self::power_on).
    pub fn power_off(&self) {
        self.lock().power_off();
    }

    /// Whether the power is on.
    pub fn is_powered(&self) -> bool {
        self.lock().powered
    }

    /// After [`power_off`](Self::power_off): what survived can be opened anew; old handles stay dead.
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

    /// Kills the process without touching the disk: old handles die, what was written stays in the cache.
    pub fn kill(&self) {
        self.lock().boot += 1;
    }

    /// What has been done so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Lets an operation fail from now on, or none.
    pub fn fail(&self, fault: Option<Fault>) {
        self.lock().failing = fault;
    }

    /// Limits the bytes of all files together; more answers ENOSPC.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// The bytes of all files together.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used()
    }

    /// The bytes of a file as they are read; none if it is not there.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let sim = self.lock();
        sim.files.get(name).map(|inode| sim.contents[*inode].live.clone())
    }

    /// Puts other bytes into a file, synced: damage at rest.
    pub fn corrupt(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut sim = self.lock();
        if let Some(inode) = sim.files.get(name).copied() {
            let content = &mut sim.contents[inode];
            change(&mut content.live);
            content.durable = content.live.clone();
            content.unsynced.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sim> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sim {
    /// splitmix64.
    fn random(&mut self) -> u64 {
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.rng;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn power_off(&mut self) {
        self.powered = false;
        for inode in 0..self.contents.len() {
            let changes = std::mem::take(&mut self.contents[inode].unsynced);
            // Some losses keep everything or nothing; the others decide for each change.
            let mood = self.random() % 4;
            for change in changes {
                let fate = match mood {
                    0 => 0,
                    1 => 1,
                    _ => self.random() % 3,
                };
                match (fate, change) {
                    (0, _) => {}
                    (1, change) => self.contents[inode].harden(&change),
                    (_, Change::Write(offset, data)) => self.tear(inode, offset, &data),
                    (_, length) => self.contents[inode].harden(&length),
                }
            }
            let content = &mut self.contents[inode];
            content.live = content.durable.clone();
        }
    }

    /// Keeps some of the sectors of a write.
    fn tear(&mut self, inode: Inode, offset: usize, data: &[u8]) {
        let mut start = 0;
        while start < data.len() {
            let end = data.len().min((offset + start) / SECTOR * SECTOR + SECTOR - offset);
            if self.random().is_multiple_of(2) {
                self.contents[inode].harden(&Change::Write(offset + start, data[start..end].to_vec()));
            }
            start = end;
        }
    }

    /// Counts a step; the power may go at it. Answers whether the step happens.
    fn step(&mut self) -> io::Result<bool> {
        self.counts.steps += 1;
        if self.power_off_after.is_some_and(|at| self.counts.steps >= at) {
            return Ok(false);
        }
        Ok(true)
    }

    fn alive(&self, boot: u64) -> io::Result<()> {
        if self.powered && self.boot == boot { Ok(()) } else { Err(eio()) }
    }

    fn used(&self) -> u64 {
        self.files.values().map(|inode| self.contents[*inode].live.len() as u64).sum()
    }

    fn fits(&self, more: usize) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if self.used() + more as u64 > capacity => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn change(&mut self, inode: Inode, change: Change) -> io::Result<()> {
        if let Some(error) = self.failing.and_then(Fault::of_write) {
            if let (Some(Fault::ShortWrite), Change::Write(offset, data)) = (self.failing, change) {
                let half = data[..data.len() / 2].to_vec();
                self.contents[inode].change(Change::Write(offset, half));
            }
            return Err(error);
        }
        let length = self.contents[inode].live.len();
        self.fits(change.end().saturating_sub(length))?;
        let happens = self.step()?;
        self.contents[inode].change(change);
        if happens {
            return Ok(());
        }
        self.power_off();
        Err(eio())
    }

    fn sync(&mut self, inode: Inode) -> io::Result<()> {
        if let Some(error) = self.failing.and_then(Fault::of_sync) {
            // The cache forgets the dirty pages; a later sync would succeed without them.
            let content = &mut self.contents[inode];
            content.unsynced.clear();
            content.stale = true;
            return Err(error);
        }
        self.counts.syncs += 1;
        if !self.step()? {
            self.power_off();
            return Err(eio());
        }
        self.contents[inode].sync();
        Ok(())
    }

    /// Changes names; when the power goes at it, it has happened or not.
    fn rename_step(&mut self, change: impl FnOnce(&mut Self)) -> io::Result<()> {
        if !self.powered {
            return Err(eio());
        }
        if self.step()? {
            change(self);
            return Ok(());
        }
        if self.random().is_multiple_of(2) {
            change(self);
        }
        self.power_off();
        Err(eio())
    }

    fn create(&mut self, name: &str, bytes: &[u8]) {
        self.contents.push(Content { live: bytes.to_vec(), durable: bytes.to_vec(), ..Content::default() });
        self.files.insert(name.to_owned(), self.contents.len() - 1);
    }
}

impl Content {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    fn harden(&mut self, change: &Change) {
        change.apply(&mut self.durable);
    }

    /// The cache lets go of what is not to be written any more.
    fn read_anew(&mut self) {
        if mem::take(&mut self.stale) {
            self.live = self.durable.clone();
            self.unsynced.iter().for_each(|change| change.apply(&mut self.live));
        }
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            change.apply(&mut self.durable);
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Write(offset, data) => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
        }
    }

    fn end(&self) -> usize {
        match self {
            Self::Length(length) => *length,
            Self::Write(offset, data) => offset + data.len(),
        }
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Disks for SimDisks {
    fn open(&self, name: &str, how: Open) -> Result<Disk> {
        let mut sim = self.lock();
        if how == Open::Fresh {
            sim.rename_step(|sim| sim.create(name, b"")).map_err(|e| StorageError::io(name, e))?;
        }
        sim.alive(sim.boot).map_err(|e| StorageError::io(name, e))?;
        let inode = *sim.files.get(name).ok_or_else(|| StorageError::damaged(name, "it is missing"))?;
        sim.contents[inode].read_anew();
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

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/simulated").join(name)
    }
}

/// One open file, of one boot.
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
