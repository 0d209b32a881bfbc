//! Floor 1: what is kept on disk. Knows no chat and no consensus.
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

pub use blocking::Blocking;
pub use directory::DataDir;
pub use disk::{Disk, Disks, Open};
pub use error::{Result, StorageError};
pub use log::{Done, LogFile};
pub use slot::StateSlot;
pub use state::{Durable, PAIR_BYTES, StateBatch, StateFile, StateView};
