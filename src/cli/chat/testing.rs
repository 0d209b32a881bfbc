//! The parsers of the files and lines that `chat` reads, for the fuzzers only.

use std::path::Path;

use super::{cluster_contexts::ClusterContexts, pipe, saved_sessions::SavedSessions};

/// Whether the saved sessions in `directory` can be read.
pub fn reads_sessions(directory: &Path) -> bool {
    SavedSessions::in_directory(Some(directory.to_owned())).select(&[], Some("alice")).is_ok()
}

/// Whether `line` is a message for `chat send --json -`.
pub fn is_input_message(line: &[u8]) -> bool {
    pipe::parse(line).is_ok()
}

/// Whether the contexts in `directory` can be read.
pub fn reads_contexts(directory: &Path) -> bool {
    ClusterContexts::in_directory(Some(directory.to_owned())).servers_in_use().is_ok()
}
