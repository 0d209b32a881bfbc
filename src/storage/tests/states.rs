use std::{collections::BTreeMap, ops::ControlFlow};

use proptest::prelude::*;

use crate::storage::{
    DataDir, Disk, Durable, Open, PAIR_BYTES, StateFile,
    kv::{self, MemoryKv, Read, Write},
};

pub(super) fn all(view: &dyn Read) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut pairs = BTreeMap::new();
    view.scan(b"", kv::END, &mut |key, value| {
        pairs.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    })
    .unwrap();
    pairs
}

#[test]
fn a_batch_is_seen_as_a_whole_after_its_commit_and_a_view_never_changes() {
    let file = StateFile::open(Disk::memory("state")).unwrap();
    let mut batch = file.begin().unwrap();
    batch.put(b"a", b"1").unwrap();
    batch.put(b"b", b"2").unwrap();
    let before = file.view().unwrap();
    batch.commit(Durable::No).unwrap();
    let after = file.view().unwrap();
    assert_eq!(before.get(b"a").unwrap(), None);
    assert_eq!(after.get(b"a").unwrap(), Some(b"1".to_vec()));
    let mut batch = file.begin().unwrap();
    batch.delete(b"a").unwrap();
    drop(batch);
    assert_eq!(file.view().unwrap().get(b"a").unwrap(), Some(b"1".to_vec()), "a dropped batch changes nothing");
}

#[test]
fn what_was_flushed_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::create_or_open(folder.path()).unwrap();
    let file = StateFile::open(dir.disk("state.redb", Open::Fresh).unwrap()).unwrap();
    let mut batch = file.begin().unwrap();
    batch.put(b"k", b"v").unwrap();
    batch.commit(Durable::No).unwrap();
    file.flush().unwrap();
    let view = file.view().unwrap();
    assert!(file.size_bytes() > 0);
    drop(file);
    assert_eq!(view.get(b"k").unwrap(), Some(b"v".to_vec()), "a view keeps its file open");
    drop(view);
    let file = StateFile::open(dir.disk("state.redb", Open::Existing).unwrap()).unwrap();
    assert_eq!(file.view().unwrap().get(b"k").unwrap(), Some(b"v".to_vec()));
}

#[test]
fn oversized_pairs_and_reserved_keys_are_refused() {
    let file = StateFile::open(Disk::memory("state")).unwrap();
    let mut batch = file.begin().unwrap();
    assert!(batch.put(b"k", &vec![0; PAIR_BYTES]).is_err());
    assert!(batch.put(kv::END, b"").is_err());
    batch.put(b"k", &vec![0; PAIR_BYTES - 1]).unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Scan(Vec<u8>, Vec<u8>, usize, bool),
    Commit,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0u8..4, 0..3)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (key(), prop::collection::vec(any::<u8>(), 0..4)).prop_map(|(k, v)| Step::Put(k, v)),
        2 => key().prop_map(Step::Delete),
        4 => (key(), key(), 1usize..6, any::<bool>()).prop_map(|(a, b, n, back)| Step::Scan(a, b, n, back)),
        1 => Just(Step::Commit),
    ]
}

fn some(view: &dyn Read, start: &[u8], end: &[u8], limit: usize, back: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut pairs = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        pairs.push((key.to_vec(), value.to_vec()));
        if pairs.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    if back { view.scan_back(start, end, &mut visit) } else { view.scan(start, end, &mut visit) }.unwrap();
    pairs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_batch_reads_like_a_map_in_memory(steps in prop::collection::vec(step(), 1..60)) {
        let file = StateFile::open(Disk::memory("state")).unwrap();
        let mut model = MemoryKv::default();
        let mut batch = file.begin().unwrap();
        for step in steps {
            match step {
                Step::Put(key, value) => {
                    batch.put(&key, &value).unwrap();
                    model.put(&key, &value).unwrap();
                    prop_assert_eq!(batch.get(&key).unwrap(), Some(value));
                }
                Step::Delete(key) => {
                    batch.delete(&key).unwrap();
                    model.delete(&key).unwrap();
                    prop_assert_eq!(batch.get(&key).unwrap(), None);
                }
                Step::Scan(start, end, limit, back) => {
                    prop_assert_eq!(
                        some(&batch, &start, &end, limit, back),
                        some(&model, &start, &end, limit, back)
                    );
                }
                Step::Commit => {
                    batch.commit(Durable::No).unwrap();
                    batch = file.begin().unwrap();
                }
            }
            prop_assert_eq!(all(&batch), all(&model));
        }
    }
}
