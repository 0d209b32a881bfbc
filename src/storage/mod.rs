//! Floor 1: what is kept on disk. Knows no chat and no consensus.

mod error;
pub mod kv;

pub use error::{Result, StorageError};
