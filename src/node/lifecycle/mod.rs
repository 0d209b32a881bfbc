//! How a node is created, started, adopted, backed up, restored, recovered and stopped.
//!
//! | file | from | to |
//! |---|---|---|
//! | `init` | an empty directory | a cluster of one voter, stopped |
//! | `start` | a directory | a running node: a member, or an empty node that waits |
//! | `adopt` | a running empty node | a running member |
//! | `stop` | a running node | a directory whose log and state are durable |
//! | `backup` | a running member | an archive of its state; a digest; a snapshot |
//! | `restore` | a backup and an empty directory | a new cluster of one voter, stopped |
//! | `recover` | the directory of one survivor | the same cluster with one voter, stopped |
//! | `inspect` | a directory | a report, without changing anything |
//! | `leftovers` | (not a transition) | the refusal of a directory that has lost its identity |
//! | `join` | (not a transition) | what nodes tell each other before and after membership |

mod adopt;
mod backup;
mod init;
mod inspect;
mod join;
mod leftovers;
mod recover;
mod restore;
mod start;
mod start_error;
mod stop;

pub use self::{
    adopt::{PendingAdoption, checked_adoption},
    inspect::inspect,
    join::{PROTOCOL, checked_inspection, inspect_remote},
    recover::{Compared, Recovery, Survivor},
    start_error::StartError,
};
