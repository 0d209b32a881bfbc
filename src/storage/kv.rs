//! Ordered bytes: all that the chat state machine sees of a disk.
//!
//! There is one keyspace, so a snapshot, a backup or a digest is one scan. The traits are small and object-safe:
//! commands run unchanged on a map in memory (in tests), on redb, or on a layer between them.

use std::{collections::BTreeMap, ops::ControlFlow};

use super::Result;

/// Above every key, since no key begins with 0xff. So `b""..END` is the whole keyspace.
pub const END: &[u8] = &[0xff];

/// Called with each key and value. `Break` ends the scan.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// A consistent view: every read sees the same state.
pub trait Read {
    /// The value at `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Visits the keys in `start..end`, ascending.
    fn scan(&self, start: &[u8], end: &[u8], visit: Visit<'_>) -> Result<()>;

    /// Visits the keys in `start..end`, descending.
    fn scan_back(&self, start: &[u8], end: &[u8], visit: Visit<'_>) -> Result<()>;
}

/// A batch of changes. Its own reads see them.
pub trait Write: Read {
    /// Sets `key` to `value`.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Removes `key`, if it exists.
    fn delete(&mut self, key: &[u8]) -> Result<()>;
}

/// A map in memory, for golden scripts, models and property tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryKv(BTreeMap<Vec<u8>, Vec<u8>>);

impl Read for MemoryKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: Visit<'_>) -> Result<()> {
        if start < end {
            for (key, value) in self.0.range(start.to_vec()..end.to_vec()) {
                if visit(key, value).is_break() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn scan_back(&self, start: &[u8], end: &[u8], visit: Visit<'_>) -> Result<()> {
        if start < end {
            for (key, value) in self.0.range(start.to_vec()..end.to_vec()).rev() {
                if visit(key, value).is_break() {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Write for MemoryKv {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.0.remove(key);
        Ok(())
    }
}
