use std::{fs, os::unix::fs::PermissionsExt};

use crate::{
    storage::{DataDir, Open, StorageError},
    wire::store::Identity,
};

fn identity() -> Identity {
    Identity { name: "n1".into(), node_id: 7, ..Identity::default() }
}

#[test]
fn a_second_open_of_a_directory_is_refused_until_the_first_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let first = DataDir::create_or_open(folder.path()).unwrap();
    assert!(matches!(DataDir::open(folder.path()), Err(StorageError::Locked { .. })));
    drop(first);
    DataDir::open(folder.path()).unwrap();
}

#[test]
fn a_directory_that_is_not_there_is_not_opened_but_created_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    assert!(DataDir::open(&path).is_err());
    assert!(DataDir::create_or_open(path.join("b")).is_err(), "its parent does not exist");
    assert!(!path.exists(), "and is not created");
    let dir = DataDir::create_or_open(&path).unwrap();
    assert!(dir.is_empty().unwrap());
    assert!(dir.free_bytes().unwrap() > 0);
}

#[test]
fn a_directory_that_was_never_written_to_is_left_as_it_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let names = |path: &std::path::Path| fs::read_dir(path).unwrap().count();
    let path = folder.path().join("new");
    drop(DataDir::create_or_open(&path).unwrap());
    assert!(!path.exists(), "it was created for nothing");
    fs::create_dir(&path).unwrap();
    drop(DataDir::create_or_open(&path).unwrap());
    assert_eq!(names(&path), 0, "it was empty");
    fs::write(path.join("thesis"), "of somebody").unwrap();
    drop(DataDir::open(&path).unwrap());
    assert_eq!(names(&path), 1, "it holds files of somebody else");
    fs::remove_file(path.join("thesis")).unwrap();
    DataDir::open(&path).unwrap().write_record("identity", &identity()).unwrap();
    drop(DataDir::open(&path).unwrap());
    assert_eq!(names(&path), 2, "a node's directory keeps its lock");
}

#[test]
fn nobody_else_can_read_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let dir = DataDir::create_or_open(&path).unwrap();
    dir.write_record("identity", &identity()).unwrap();
    drop(dir.disk("log.redb", Open::Fresh).unwrap());
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.clone()), 0o700);
    for name in ["lock", "identity", "log.redb"] {
        assert_eq!(mode(path.join(name)), 0o600, "{name}");
    }
}

#[test]
fn a_record_reads_back_and_is_replaced_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::create_or_open(folder.path()).unwrap();
    assert_eq!(dir.read_record::<Identity>("identity").unwrap(), None);
    dir.write_record("identity", &Identity::default()).unwrap();
    dir.write_record("identity", &identity()).unwrap();
    assert_eq!(dir.read_record("identity").unwrap(), Some(identity()));
    assert!(!dir.is_empty().unwrap());
}

#[test]
fn every_flipped_bit_and_every_truncation_of_a_record_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::create_or_open(folder.path()).unwrap();
    dir.write_record("identity", &identity()).unwrap();
    let good = fs::read(dir.path("identity")).unwrap();
    let refused = |bytes: &[u8], what: String| {
        fs::write(dir.path("identity"), bytes).unwrap();
        let result = dir.read_record::<Identity>("identity");
        assert!(matches!(result, Err(StorageError::Damaged { .. })), "{what}: {result:?}");
    };
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        refused(&bad, format!("bit {bit}"));
    }
    for length in 0..good.len() {
        refused(&good[..length], format!("{length} bytes"));
    }
    refused(&vec![0; 2 << 20], "too long".into());
}

#[test]
fn a_record_that_was_not_finished_is_swept_away() {
    let folder = tempfile::tempdir().unwrap();
    drop(DataDir::create_or_open(folder.path()).unwrap());
    fs::write(folder.path().join("identity.tmp"), "half").unwrap();
    assert!(DataDir::open(folder.path()).unwrap().is_empty().unwrap());
}

#[test]
fn a_fresh_file_system_is_empty_in_spite_of_its_lost_and_found() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("lost+found")).unwrap();
    let dir = DataDir::create_or_open(folder.path()).unwrap();
    assert!(dir.is_empty().unwrap());
    fs::create_dir(folder.path().join("lost+found.old")).unwrap();
    assert!(!dir.is_empty().unwrap(), "another folder is not accepted");
    fs::remove_dir(folder.path().join("lost+found.old")).unwrap();
    fs::remove_dir(folder.path().join("lost+found")).unwrap();
    fs::write(folder.path().join("lost+found"), "").unwrap();
    assert!(!dir.is_empty().unwrap(), "nor is a file of that name");
}

#[test]
fn a_store_that_is_missing_or_empty_is_damage_and_not_a_new_store() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::create_or_open(folder.path()).unwrap();
    let refused = || matches!(dir.disk("log.redb", Open::Existing), Err(StorageError::Damaged { .. }));
    assert!(refused());
    fs::write(dir.path("log.redb"), "").unwrap();
    assert!(refused());
}
