//! Floor 1: what a node keeps on disk. Knows no chat and no consensus.
//!
//! # On disk
//!
//! One directory per node (mode 0700, files 0600), held by one process through a lock on the file `lock` ([`DataDir`]).
//! The owners of the other files choose their names; by convention:
//!
//! | file | content | made by |
//! |---|---|---|
//! | `identity` | one protobuf message: magic, format, length, payload, CRC-32; replaced as a whole | [`DataDir::write_record`] |
//! | `log.redb` | table `records`, u64 index to `crc32 \| record`; table `values`, name to `crc32 \| value` | [`LogFile`] |
//! | `log.redb.witness` | the number of the last durable commit in `log.redb`: magic, u64, CRC-32 | [`LogFile`] |
//! | `state.redb` | table `rows`, key to `crc32 \| value` | [`StateSlot`], [`StateFile`] |
//! | `state.redb.loading-N` | a state being loaded; renamed over the live one when complete, otherwise removed at the next start | [`archive::Loader`] |
//! | `*.tmp` | a record being written; removed at the next start | [`DataDir`] |
//!
//! Both redb files have a table `format` with one row: the kind of file and its format number. A file that a newer
//! program wrote is refused as [`StorageError::TooNew`].
//!
//! # Guarantees
//!
//! - **Durable (P1)**: when [`Done`] is called with `Ok`, or a commit with [`Durable::Yes`], [`StateFile::flush`],
//!   [`DataDir::write_record`] or [`StateSlot::install`] returns, the data is on disk. A crash loses none of it and
//!   leaves no half of it.
//! - **Fail-stop**: after the first disk error a store refuses everything until it is opened again. It never retries a
//!   failed sync, and an open reads the disk instead of what a failed sync left in the cache.
//! - **Honest (P7)**: opening verifies every page of a redb file. Every row has its own CRC-32 over key and value,
//!   checked at every read, so that a bit that flips while the process runs is found too. A file that is missing or
//!   empty although it should exist is damage, not a new store ([`Open`]). A full disk is [`StorageError::DiskFull`]
//!   and keeps everything acknowledged before.
//!
//! redb commits in one phase, with one sync. After a crash the last commit may be torn, and redb goes back to the one
//! before it. A page of the last commit that the disk damaged *after* it was synced looks the same. The log's witness
//! tells the two apart. One case is left: if a power cut takes the last writes of the witness as well, and a bit flips
//! in the pages of the last commit, that commit is rolled back with a warning in the log instead of an error. The state
//! needs no witness: what it loses is replayed from the log, or the log begins too late for that, which is an error.
//!
//! # Left to others
//!
//! What keys, records and values mean; when to flush, purge and install; which thread calls what. Everything here
//! blocks, except [`LogFile::append`] and the other calls that take a [`Done`], and belongs into [`Blocking::run`].
//!
//! # Seams
//!
//! [`Disks`] is a folder and [`Disk`] one file of it. `testing::SimDisks` keeps both in memory and fails the way disks
//! fail. With [`Blocking::Inline`] no thread is started, so that a whole simulated cluster runs in one.

pub mod archive;
mod blocking;
mod directory;
mod disk;
mod engine;
mod error;
pub mod kv;
mod label;
mod log;
mod log_table;
mod record;
mod slot;
mod state;
#[doc(hidden)]
pub mod testing;
mod witness;

pub use blocking::Blocking;
pub use directory::DataDir;
pub use disk::{Disk, Disks, FileMark, Open};
pub use error::{Result, StorageError};
pub use log::{Done, LogFile};
pub use slot::StateSlot;
pub use state::{Durable, PAIR_BYTES, StateBatch, StateFile, StateView};

#[cfg(test)]
mod tests;
