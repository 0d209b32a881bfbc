//! openraft's own storage suite on our log and state machine, and what a crash may not do to them.

use openraft::testing::log::{StoreBuilder, Suite};

use super::{LogStore, StateMachine, types::TypeConfig};
use crate::storage::{Blocking, DataDir, LogFile, Open, StateSlot};

struct Builder(Blocking);

/// Keeps the directory until the test is over.
struct Guard(#[allow(dead_code)] tempfile::TempDir);

type StorageError = openraft::StorageError<TypeConfig>;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, StateMachine), StorageError> {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::create_or_open(folder.path().join("data")).unwrap();
        let log = LogFile::open(dir.disk("log.redb", Open::Fresh).unwrap(), self.0).unwrap();
        let slot = StateSlot::open(&dir, "state.redb", Open::Fresh).unwrap();
        let machine = StateMachine::new(slot, self.0, |_| ()).unwrap();
        Ok((Guard(folder), LogStore::new(log), machine))
    }
}

#[test]
fn openrafts_storage_suite_passes_with_the_writer_thread() {
    runtime().block_on(Suite::test_all(Builder(Blocking::Pool))).unwrap();
}

#[test]
fn openrafts_storage_suite_passes_inline() {
    runtime().block_on(Suite::test_all(Builder(Blocking::Inline))).unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
