//! Simulated disks: files in memory that fail the way disks fail. For tests only.
//!
//! The model:
//!
//! - A write is in the cache until a sync of its file. When the power goes, each write since then is kept, lost, or
//!   torn into sectors of which some are kept, each on its own. So writes may arrive in any order.
//! - Creating, renaming and removing files is durable when the call returns, as [`Disks`](super::Disks) demands. If the
//!   power goes during such a call, it has happened or not.
//! - After a failed sync the cache still shows the data, and no later sync writes it, as on Linux.
//!
//! Everything follows from the seed and the order of the calls.

mod disks;
mod sim;

pub use disks::{GoBack, Image, SimDisks};
pub use sim::{Counts, Fault};
