//! Floor 1: what is kept on disk. Knows no chat and no consensus.
//!
//! # On disk
//!
//! One directory per node (mode 0700, files 0600), held by one process through a lock on the file `lock`
//! ([`DataDir`]). The names of the other files are their owners' choice; by convention:
//!
//! | file | what | made by |
//! |---|---|---|
//! | `identity` | one protobuf message: magic, format, length, payload, CRC-32; replaced as a whole | [`DataDir::write_record`] |
//! | `log.redb` | [`LogFile`]: table `records`, u64 index to `crc32 \| record`; table `values`, name to `crc32 \| value`; `.purged` is the log's own | [`LogFile`] |
//! | `log.redb.witness` | the number of the last commit that was durable in `log.redb`: magic, u64, CRC-32 | [`LogFile`] |
//! | `state.redb` | [`StateFile`]: table `rows`, key to `crc32 \| value` | [`StateSlot`] |
//! | `state.redb.loading-N` | a state being loaded; renamed over the live one when complete, removed at the next start if not | [`archive::Loader`] |
//! | `*.tmp` | a record being written; removed at the next start | [`DataDir`] |
//!
//! Both redb files have a table `format` with one row, the kind of file and its format number; what a newer program
//! wrote is refused as [`StorageError::TooNew`].
//!
//! # What is promised
//!
//! - **Durable (P1)**: [`Done`] with `Ok`, a commit with [`Durable::Yes`], [`StateFile::flush`],
//!   [`DataDir::write_record`] and [`StateSlot::install`] have reached the disk when they say so, and nothing that
//!   they cover is lost or half there after a crash.
//! - **Fail-stop**: after the first error of the disk a store refuses everything until it is opened again. A sync that
//!   failed is never tried again, and an open reads the disk rather than what such a sync has left in the cache.
//! - **Honest (P7)**: opening verifies every page of a redb file, and every row read is checked against a CRC-32 of
//!   its own over key and value, so that a flip while the process runs shows too. A file that is missing or empty
//!   although it should exist is damage, not a new store ([`Open`]). A full disk is [`StorageError::DiskFull`], and
//!   what was acknowledged before stays.
//!
//! redb commits in one phase, with one sync. A crash may leave the last commit torn, and redb then goes back to the one
//! before. A page of the last commit that the disk damaged *after* a crash looks the same; the log's witness tells the
//! two apart. A limit: a power cut may take the last writes of the witness as well, and with a flip in the last commit's
//! pages besides, that commit is rolled back (and a warning logged) rather than reported. The state needs no witness:
//! what it loses is in the log, or the log begins too late, which is reported.
//!
//! # What is left to others
//!
//! What keys, records and values mean; when to flush, purge and install; which thread calls what: everything but
//! [`LogFile::append`] and its kin blocks and belongs into [`Blocking::run`].
//!
//! # Seams
//!
//! [`Disks`] is a folder and [`Disk`] one file of it: `testing::SimDisks` puts both into memory and fails as disks
//! do. With [`Blocking::Inline`] no thread is started, so that a whole cluster runs in one.

pub mod archive;
mod blocking;
mod directory;
mod disk;
mod engine;
mod error;
pub mod kv;
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
pub use disk::{Disk, Disks, Open};
pub use error::{Result, StorageError};
pub use log::{Done, LogFile};
pub use slot::StateSlot;
pub use state::{Durable, PAIR_BYTES, StateBatch, StateFile, StateView};

#[cfg(test)]
mod tests;
