//! The limit of open files.
//!
//! A connection takes a file descriptor, and so does each file of a store. Connections must leave enough descriptors
//! for the stores: a store that cannot open a file looks broken, and a node with a broken store quarantines itself.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for the data directory, a snapshot being received, peer connections in both directions and the
/// program itself.
const RESERVED: u64 = 256;
/// Connections allowed however low the limit is: without any the node could not be administered.
const FEWEST: usize = 16;

/// Raises the process's limit to its hard limit, and returns how many of the configured `most` connections fit.
pub fn connection_limit(most: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    // `None` means unlimited, which some systems report as the hard limit and refuse to set.
    let raised = Rlimit { current: limit.maximum, ..limit };
    if setrlimit(Resource::Nofile, raised).is_ok() {
        limit = raised;
    }
    let room = limit.current.map_or(most, room);
    if room < most {
        tracing::warn!(most, room, "fewer connections than configured: raise the limit of open files (ulimit -n)");
    }
    room.min(most)
}

fn room(files: u64) -> usize {
    usize::try_from(files.saturating_sub(RESERVED)).unwrap_or(usize::MAX).max(FEWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_enough_files_for_the_node_itself() {
        assert_eq!(room(1_024), 768);
        assert_eq!(room(100), FEWEST);
        assert_eq!(room(u64::MAX), usize::try_from(u64::MAX - RESERVED).unwrap());
        assert!(connection_limit(1_000_000_000) < 1_000_000_000 || getrlimit(Resource::Nofile).current.is_none());
        assert_eq!(connection_limit(1), 1);
    }
}
