use bytes::Bytes;

use super::{append, done, record, wait};
use crate::storage::{Blocking, DataDir, Disk, LogFile, Open, StorageError};

const BOTH: [Blocking; 2] = [Blocking::Pool, Blocking::Inline];

#[test]
fn records_and_values_are_there_after_a_clean_close() {
    for blocking in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::create_or_open(folder.path()).unwrap();
        let log = LogFile::open(&dir, "log.redb", Open::Fresh, blocking).unwrap();
        append(&log, 1..4).unwrap();
        wait(|done| log.set("vote", "v1".into(), done)).unwrap();
        log.set_lazily("committed", "c3".into());
        log.close().unwrap();

        let log = LogFile::open(&dir, "log.redb", Open::Existing, blocking).unwrap();
        assert_eq!(log.bounds(), Some((1, 3)));
        assert_eq!(log.read(0..10).unwrap(), [record(1), record(2), record(3)]);
        assert_eq!(log.get("vote").unwrap(), Some("v1".into()));
        assert_eq!(log.get("committed").unwrap(), Some("c3".into()));
        assert_eq!(log.get("nothing").unwrap(), None);
        append(&log, 4..6).unwrap();
        assert_eq!(log.read(2..5).unwrap(), [record(2), record(3), record(4)], "from disk and memory");
    }
}

#[test]
fn what_is_appended_is_readable_at_once() {
    let log = LogFile::on(Disk::memory("log"), None, Blocking::Pool).unwrap();
    for index in 1..200 {
        let (done, _result) = done();
        log.append(vec![record(index)], done);
        assert_eq!(log.read(index..index + 1).unwrap(), [record(index)]);
    }
}

#[test]
fn an_append_with_a_gap_or_over_an_existing_record_is_refused_and_changes_nothing() {
    let log = LogFile::on(Disk::memory("log"), None, Blocking::Inline).unwrap();
    append(&log, 5..8).unwrap();
    for wrong in [9, 7, 1] {
        assert!(matches!(append(&log, wrong..wrong + 1), Err(StorageError::Io { .. })), "{wrong}");
    }
    assert_eq!(log.bounds(), Some((5, 7)));
    append(&log, 8..9).unwrap();
}

#[test]
fn truncated_records_do_not_come_back_and_are_written_anew() {
    for blocking in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::create_or_open(folder.path()).unwrap();
        let log = LogFile::open(&dir, "log.redb", Open::Fresh, blocking).unwrap();
        append(&log, 1..10).unwrap();
        wait(|done| log.truncate_from(5, done)).unwrap();
        assert_eq!(log.bounds(), Some((1, 4)));
        wait(|done| log.append(vec![(5, "other".into())], done)).unwrap();
        log.close().unwrap();
        let log = LogFile::open(&dir, "log.redb", Open::Existing, blocking).unwrap();
        assert_eq!(log.read(4..100).unwrap(), [record(4), (5, "other".into())]);
        wait(|done| log.truncate_from(0, done)).unwrap();
        assert_eq!(log.bounds(), None);
        append(&log, 1..2).unwrap();
        assert_eq!(log.read(0..100).unwrap(), [record(1)]);
    }
}

#[test]
fn a_purge_beyond_the_end_empties_the_log_and_the_next_append_starts_it_anew() {
    for blocking in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::create_or_open(folder.path()).unwrap();
        let log = LogFile::open(&dir, "log.redb", Open::Fresh, blocking).unwrap();
        append(&log, 1..10_000).unwrap();
        wait(|done| log.purge_to(4_000, ("purged", "at 4000".into()), done)).unwrap();
        assert_eq!(log.bounds(), Some((4_001, 9_999)));
        assert_eq!(log.read(0..4_002).unwrap(), [record(4_001)]);
        wait(|done| log.purge_to(20_000, ("purged", "at 20000".into()), done)).unwrap();
        assert_eq!(log.bounds(), None);
        append(&log, 20_001..20_003).unwrap();
        log.close().unwrap();
        // The close did not wait until all purged rows were removed.
        let log = LogFile::open(&dir, "log.redb", Open::Existing, blocking).unwrap();
        assert_eq!(log.bounds(), Some((20_001, 20_002)));
        assert_eq!(log.get("purged").unwrap(), Some("at 20000".into()));
        assert_eq!(log.read(0..u64::MAX).unwrap(), [record(20_001), record(20_002)]);
    }
}

#[test]
fn a_closed_log_refuses_everything() {
    for blocking in BOTH {
        let log = LogFile::on(Disk::memory("log"), None, blocking).unwrap();
        append(&log, 1..2).unwrap();
        log.close().unwrap();
        log.close().unwrap();
        assert!(append(&log, 2..3).is_err());
        assert!(log.read(1..2).is_err());
        assert!(wait(|done| log.set("vote", Bytes::new(), done)).is_err());
    }
}

#[test]
fn recent_records_stay_in_memory_only_up_to_the_limit() {
    let log = LogFile::on(Disk::memory("log"), None, Blocking::Inline).unwrap();
    let large = Bytes::from(vec![7; 1 << 20]);
    for index in 1..=40 {
        wait(|done| log.append(vec![(index, large.clone())], done)).unwrap();
    }
    let cached = log.cached_bytes();
    assert!(cached <= crate::types::limits::LOG_CACHE_BYTES && cached > 16 << 20, "{cached}");
    assert!(log.read(1..41).unwrap().iter().enumerate().all(|(i, (index, r))| *index == i as u64 + 1 && *r == large));
}

#[test]
fn a_read_stops_at_its_limit_of_bytes_but_brings_at_least_one_record() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::create_or_open(folder.path()).unwrap();
    let log = LogFile::open(&dir, "log.redb", Open::Fresh, Blocking::Inline).unwrap();
    append(&log, 1..5).unwrap();
    log.close().unwrap();
    let log = LogFile::open(&dir, "log.redb", Open::Existing, Blocking::Inline).unwrap();
    append(&log, 5..9).unwrap();
    // "record n" has eight bytes. Records 1 to 4 are on disk only, the others in memory too.
    for (start, bytes, count) in
        [(1, 0, 1), (1, 16, 2), (1, 23, 2), (1, 32, 4), (1, 47, 5), (4, 16, 2), (5, 1, 1), (6, 99, 3)]
    {
        let read = log.read_some(start..100, bytes).unwrap();
        assert_eq!(read, (start..start + count).map(record).collect::<Vec<_>>(), "{bytes} bytes from {start}");
    }
}
