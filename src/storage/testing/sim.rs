//! The simulated disk itself: files as bytes in a cache and on the platter, and the ways to lose the difference.

use std::{collections::BTreeMap, io, mem};

/// What a disk writes as a whole or not at all, in bytes.
const SECTOR: usize = 512;

/// All files of one folder, and the faults to come.
///
/// Invariants:
/// - An inode is never given to another content, so that a handle of a removed file stays valid.
/// - Of each content, `live` is `durable` with `unsynced` applied, unless a sync of it failed (`stale`).
/// - Everything that is decided at random comes from `rng`, in the order of the calls. The same seed and the same calls
///   give the same disk.
#[derive(Debug)]
pub(super) struct Sim {
    seed: u64,
    rng: u64,
    pub(super) files: BTreeMap<String, Inode>,
    pub(super) contents: Vec<Content>,
    /// Counts process starts. Handles of an earlier boot are dead.
    pub(super) boot: u64,
    pub(super) powered: bool,
    /// The step at which the power goes, as a value of [`Counts::steps`].
    pub(super) power_off_after: Option<u64>,
    pub(super) counts: Counts,
    /// The most bytes in all files together.
    pub(super) capacity: Option<u64>,
    pub(super) failing: Option<Fault>,
}

/// Which [`Content`] a name stands for: its position in [`Sim::contents`].
pub(super) type Inode = usize;

/// How much has been done to the disks so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Writes, changes of length, syncs, and changes of names: the points at which the power can go.
    pub steps: u64,
    /// Syncs alone.
    pub syncs: u64,
}

/// A kind of operation that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Reads return EIO.
    Read,
    /// Writes return EIO.
    Write,
    /// Syncs return EIO, and the data that they should have synced is lost, as on Linux.
    Sync,
    /// Reads fill the first half of the buffer, then return EIO.
    ShortRead,
    /// Writes write the first half of their bytes, then return EIO.
    ShortWrite,
    /// Syncs return ENOSPC, as file systems do that allocate late, and the data that they should have synced is lost.
    FullSync,
}

impl Fault {
    /// Every fault there is.
    pub const ALL: [Self; 6] = [Self::Read, Self::Write, Self::Sync, Self::ShortRead, Self::ShortWrite, Self::FullSync];

    /// The error that this fault gives to a read.
    pub(super) fn of_read(self) -> Option<io::Error> {
        matches!(self, Self::Read | Self::ShortRead).then(eio)
    }

    /// The error that this fault gives to a write.
    pub(super) fn of_write(self) -> Option<io::Error> {
        matches!(self, Self::Write | Self::ShortWrite).then(eio)
    }

    /// The error that this fault gives to a sync.
    pub(super) fn of_sync(self) -> Option<io::Error> {
        match self {
            Self::Sync => Some(eio()),
            Self::FullSync => Some(io::ErrorKind::StorageFull.into()),
            _ => None,
        }
    }
}

/// The bytes of one file.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// What a read returns: the cache.
    pub(super) live: Vec<u8>,
    /// What survives a power cut: the platter.
    pub(super) durable: Vec<u8>,
    /// The changes since the last sync, in order.
    pub(super) unsynced: Vec<Change>,
    /// When it was made, as far as a number can tell that differs for every file of every folder.
    pub(super) birth: u64,
    /// Whether a sync failed: the cache then holds data that no later sync writes.
    stale: bool,
}

/// A change of one file.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// Writes these bytes at an offset.
    Write(usize, Vec<u8>),
    /// Sets the length.
    Length(usize),
}

impl Sim {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            rng: seed,
            files: BTreeMap::new(),
            contents: Vec::new(),
            boot: 0,
            powered: true,
            power_off_after: None,
            counts: Counts::default(),
            capacity: None,
            failing: None,
        }
    }

    /// The next random number (splitmix64).
    fn random(&mut self) -> u64 {
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.rng)
    }

    /// Cuts the power: decides for each change since the last sync of its file whether it survives.
    pub(super) fn power_off(&mut self) {
        self.powered = false;
        for inode in 0..self.contents.len() {
            let changes = mem::take(&mut self.contents[inode].unsynced);
            // Some power cuts keep every change of a file or none; the others decide for each change.
            let policy = self.random() % 4;
            for change in changes {
                let fate = match policy {
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

    /// Counts a step. Returns false if the power goes at it.
    fn step(&mut self) -> io::Result<bool> {
        self.counts.steps += 1;
        if self.power_off_after.is_some_and(|at| self.counts.steps >= at) {
            return Ok(false);
        }
        Ok(true)
    }

    /// Refuses a handle of an earlier boot, and everything while the power is off.
    pub(super) fn alive(&self, boot: u64) -> io::Result<()> {
        if self.powered && self.boot == boot { Ok(()) } else { Err(eio()) }
    }

    pub(super) fn used(&self) -> u64 {
        self.files.values().map(|inode| self.contents[*inode].live.len() as u64).sum()
    }

    pub(super) fn fits(&self, more: usize) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if self.used() + more as u64 > capacity => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn change(&mut self, inode: Inode, change: Change) -> io::Result<()> {
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

    pub(super) fn sync(&mut self, inode: Inode) -> io::Result<()> {
        if let Some(error) = self.failing.and_then(Fault::of_sync) {
            // The cache forgets that these pages are dirty, so a later sync succeeds without writing them.
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

    /// Changes names. If the power goes at this step, the change has happened or not.
    pub(super) fn rename_step(&mut self, change: impl FnOnce(&mut Self)) -> io::Result<()> {
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

    pub(super) fn create(&mut self, name: &str, bytes: &[u8]) {
        let birth = mix(self.seed ^ mix(self.contents.len() as u64 + 1));
        self.contents.push(Content { live: bytes.to_vec(), durable: bytes.to_vec(), birth, ..Content::default() });
        self.files.insert(name.to_owned(), self.contents.len() - 1);
    }
}

/// The finaliser of splitmix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Content {
    /// Puts other bytes on the platter and into the cache.
    pub(super) fn restore(&mut self, birth: u64, bytes: &[u8]) {
        *self = Self { live: bytes.to_vec(), durable: bytes.to_vec(), birth, ..Self::default() };
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    /// Makes a change durable.
    fn harden(&mut self, change: &Change) {
        change.apply(&mut self.durable);
    }

    /// Drops the data in the cache that no sync will write any more.
    pub(super) fn drop_stale_cache(&mut self) {
        if mem::take(&mut self.stale) {
            self.live = self.durable.clone();
            self.unsynced.iter().for_each(|change| change.apply(&mut self.live));
        }
    }

    fn sync(&mut self) {
        for change in mem::take(&mut self.unsynced) {
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
