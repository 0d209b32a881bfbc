use bytes::Bytes;
use proptest::prelude::*;

use super::states::all;
use crate::storage::{
    DataDir, Disk, Durable, Open, Result, StateFile, StateSlot, StorageError,
    archive::{Loaded, Writer, digest},
    kv::{Read, Write},
};

fn state(pairs: u32) -> StateFile {
    let file = StateFile::open(Disk::memory("state")).unwrap();
    let mut batch = file.begin().unwrap();
    for n in 0..pairs {
        batch.put(&n.to_be_bytes(), &blake3::hash(&n.to_le_bytes()).as_bytes().repeat(20)).unwrap();
    }
    batch.commit(Durable::No).unwrap();
    file
}

fn frames(file: &StateFile) -> Vec<Bytes> {
    let mut writer = Writer::new(file.view().unwrap(), "at index 7".into()).unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = writer.next_frame().unwrap() {
        frames.push(frame);
    }
    assert_eq!(writer.next_frame().unwrap(), None);
    frames
}

fn slot(dir: &DataDir) -> StateSlot {
    StateSlot::open(dir, "state.redb", Open::Fresh).unwrap()
}

fn load(slot: &StateSlot, archive: &[u8], step: usize) -> Result<Loaded> {
    let mut loader = slot.loader()?;
    for part in archive.chunks(step) {
        loader.feed(part)?;
    }
    loader.finish()
}

#[test]
fn an_archive_carries_the_whole_state_however_it_is_cut() {
    let source = state(5_000);
    let frames = frames(&source);
    assert!(frames.len() > 4, "several data frames");
    let archive = frames.concat();
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::create_or_open(folder.path()).unwrap();
    let slot = slot(&dir);
    let old = slot.current().view().unwrap();
    for step in [archive.len(), 1000, 777_777] {
        let loaded = load(&slot, &archive, step).unwrap();
        assert_eq!((&loaded.header[..], loaded.pairs), (&b"at index 7"[..], 5_000));
        assert_eq!(loaded.digest, digest(&source.view().unwrap()).unwrap());
        slot.install(loaded).unwrap();
        assert_eq!(all(&slot.current().view().unwrap()), all(&source.view().unwrap()));
    }
    assert_eq!(old.get(&[0; 4]).unwrap(), None, "an old view stays with the old file");
    drop((old, slot));
    let slot = StateSlot::open(&dir, "state.redb", Open::Existing).unwrap();
    assert_eq!(digest(&slot.current().view().unwrap()).unwrap(), digest(&source.view().unwrap()).unwrap());
}

#[test]
fn an_empty_state_makes_an_archive_too() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::create_or_open(folder.path()).unwrap();
    let loaded = load(&slot(&dir), &frames(&state(0)).concat(), 5).unwrap();
    assert_eq!(loaded.pairs, 0);
}

#[test]
fn a_missing_repeated_or_reordered_frame_is_detected() {
    let frames = frames(&state(5_000));
    let last = frames.len() - 1;
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::create_or_open(folder.path()).unwrap();
    let slot = slot(&dir);
    let refused = |frames: Vec<Bytes>, what: &str| {
        let result = load(&slot, &frames.concat(), usize::MAX).err();
        assert!(matches!(result, Some(StorageError::Damaged { .. })), "{what}: {result:?}");
    };
    let mut swapped = frames.clone();
    swapped.swap(1, 2);
    refused(swapped, "swapped");
    let mut repeated = frames.clone();
    repeated.insert(1, frames[1].clone());
    refused(repeated, "repeated");
    let mut missing = frames.clone();
    missing.remove(last - 1);
    refused(missing, "missing");
    refused(frames[..last].to_vec(), "no trailer");
    refused(frames[1..].to_vec(), "no head");
    refused([&frames[..], &frames[..1]].concat(), "something after the end");
    assert_eq!(dir.disks().list().unwrap(), ["state.redb"], "nothing is left of what was refused");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_flipped_bit_and_any_truncation_of_an_archive_is_detected(place in any::<prop::sample::Index>(), cut: bool) {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::create_or_open(folder.path()).unwrap();
        let mut archive = frames(&state(10)).concat();
        if cut {
            archive.truncate(place.index(archive.len()));
        } else {
            let bit = place.index(archive.len() * 8);
            archive[bit / 8] ^= 1 << (bit % 8);
        }
        let error = load(&slot(&dir), &archive, 100).err();
        // A flip in the format field may look like the archive of a newer program, which is refused too.
        let refused = matches!(error, Some(StorageError::Damaged { .. } | StorageError::TooNew { .. }));
        prop_assert!(refused, "{:?}", error);
    }
}

#[test]
fn a_frame_that_claims_to_be_huge_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::create_or_open(folder.path()).unwrap();
    let slot = slot(&dir);
    let mut loader = slot.loader().unwrap();
    loader.feed(&frames(&state(0))[0]).unwrap();
    assert_eq!(loader.header(), Some(&"at index 7".into()));
    assert!(matches!(loader.feed(&[1, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]), Err(StorageError::Damaged { .. })));
}

#[test]
fn a_half_loaded_file_is_removed_when_the_slot_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::create_or_open(folder.path()).unwrap();
    drop(slot(&dir));
    std::fs::write(dir.path("state.redb.loading-3"), "half").unwrap();
    drop(StateSlot::open(&dir, "state.redb", Open::Existing).unwrap());
    assert_eq!(dir.disks().list().unwrap(), ["state.redb"]);
}
