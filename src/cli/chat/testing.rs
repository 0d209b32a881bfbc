//! What `chat` makes of the files and lines that it reads. For tests only.

use std::path::Path;

use super::{clusters::Clusters, contexts::Contexts, pipe};

/// Whether the kept sessions in `directory` can be read.
pub fn reads_sessions(directory: &Path) -> bool {
    Contexts::at(Some(directory.to_owned())).select(&[], Some("alice")).is_ok()
}

/// Whether `line` is a message to send.
pub fn is_order(line: &[u8]) -> bool {
    pipe::order(line).is_ok()
}

/// Whether the names of clusters in `directory` can be read.
pub fn reads_clusters(directory: &Path) -> bool {
    Clusters::at(Some(directory.to_owned())).in_use().is_ok()
}
