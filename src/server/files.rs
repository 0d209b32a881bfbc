//! Open files: a connection is one, and so is everything that the node keeps on disk. A flood of the ones must leave
//! enough for the others, for a store that cannot be opened looks like one that is broken.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For the data directory, a snapshot on its way, the peers' connections both ways, and the program itself.
const RESERVED: u64 = 256;
/// Connections that are taken however little there is.
const FEWEST: usize = 16;

/// Raises the limit as far as this process may, and answers with how many of `most` connections it leaves room for.
pub(super) fn connections(most: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    // None stands for no limit, which not every system grants.
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
        assert!(connections(1_000_000_000) < 1_000_000_000 || getrlimit(Resource::Nofile).current.is_none());
        assert_eq!(connections(1), 1);
    }
}
