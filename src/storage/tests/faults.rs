//! Disks that fail while they run: every kind of fault, on the log and on the state (P1, P7).
//!
//! After a failed write or sync nothing becomes durable until the store is opened again. Then everything that was
//! durable before is there. A failed read is an error; it never looks like a missing key.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{done, states::all, wait};
use crate::storage::{
    Blocking, DataDir, Disks, Durable, LogFile, Open, Result, StateSlot, StorageError,
    kv::{Read, Write},
    testing::{Fault, SimDisks},
};

const READS: [Fault; 2] = [Fault::Read, Fault::ShortRead];
const WRITES: [Fault; 4] = [Fault::Write, Fault::ShortWrite, Fault::Sync, Fault::FullSync];
const BOTH: [Blocking; 2] = [Blocking::Pool, Blocking::Inline];

/// How the process ends, and what happens to the disk's cache.
#[derive(Debug, Clone, Copy)]
enum End {
    Kill,
    PowerLoss,
}

const ENDS: [End; 2] = [End::Kill, End::PowerLoss];

impl End {
    fn come(self, disks: &SimDisks) {
        match self {
            Self::Kill => disks.kill(),
            Self::PowerLoss => disks.power_on(),
        }
    }
}

fn dir(disks: &SimDisks) -> DataDir {
    DataDir::on(Arc::new(disks.clone()))
}

fn log(disks: &SimDisks, how: Open, blocking: Blocking) -> Result<LogFile> {
    LogFile::open(&dir(disks), "log.redb", how, blocking)
}

fn state(disks: &SimDisks, how: Open) -> Result<StateSlot> {
    StateSlot::open(&dir(disks), "state.redb", how)
}

/// Keys on many pages. A change of one key leaves most pages as they are.
const KEYS: u8 = 60;

/// Sets some keys to one value.
fn put(slot: &StateSlot, keys: Range<u8>, value: u8, durable: Durable) -> Result<()> {
    let mut batch = slot.current().begin()?;
    for key in keys {
        batch.put(&[key], &[value; 1_000])?;
    }
    batch.commit(durable)
}

/// The value that all these keys have. Fails if only a part of a batch is there.
fn value(slot: &StateSlot, keys: Range<u8>) -> u8 {
    let pairs = all(&slot.current().view().unwrap());
    let value = pairs[&vec![keys.start]][0];
    let whole = keys.clone().all(|key| pairs[&vec![key]] == [value; 1_000]);
    assert!(whole && pairs.len() == KEYS as usize, "half a batch");
    value
}

/// Records so large that a few fill a page.
fn row(index: u64) -> (u64, Bytes) {
    (index, Bytes::from(vec![index as u8; 1_000]))
}

fn append(log: &LogFile, indexes: Range<u64>) -> Result<()> {
    wait(|done| log.append(indexes.map(row).collect(), done))
}

/// The error is of the kind that the disk returned, and it is the same every time.
fn is_what(error: &StorageError, fault: Fault) -> bool {
    match fault {
        Fault::FullSync => matches!(error, StorageError::DiskFull { .. }),
        _ => matches!(error, StorageError::Io { source, .. } if source.raw_os_error() == Some(5)),
    }
}

#[test]
fn every_kind_of_fault_is_tried() {
    assert!(Fault::ALL.iter().all(|fault| READS.contains(fault) != WRITES.contains(fault)));
}

#[test]
fn after_a_failed_write_or_sync_the_log_acknowledges_nothing_until_it_is_opened_again() {
    for fault in WRITES {
        for (blocking, end) in BOTH.into_iter().flat_map(|blocking| ENDS.map(|end| (blocking, end))) {
            let disks = SimDisks::new(2);
            let live = log(&disks, Open::Fresh, blocking).unwrap();
            append(&live, 1..4).unwrap();
            // Makes room in the file first, so that the failing sync is the commit's own and not that of a growing
            // file.
            append(&live, 4..204).unwrap();
            wait(|done| live.truncate_from(4, done)).unwrap();
            wait(|done| live.set("vote", "v".into(), done)).unwrap();
            disks.fail(Some(fault));
            let error = append(&live, 4..44).unwrap_err();
            assert!(is_what(&error, fault), "{fault:?}: {error}");
            disks.fail(None);
            for error in refusals(&live) {
                assert!(is_what(&error, fault), "the disk is well again, the log is not: {error}");
            }
            assert!(is_what(&live.close().unwrap_err(), fault));
            drop(live);
            end.come(&disks);
            found_again(&disks, (fault, blocking, end), blocking);
        }
    }
}

/// What a log returns from every call.
fn refusals(log: &LogFile) -> Vec<StorageError> {
    let answers = [
        append(log, 44..45),
        wait(|done| log.set("vote", "w".into(), done)),
        wait(|done| log.truncate_from(2, done)),
        wait(|done| log.purge_to(1, ("purged", "p".into()), done)),
        log.read(1..2).map(drop),
        log.get("vote").map(drop),
    ];
    answers.map(Result::unwrap_err).into()
}

/// Opens the log after a fault. Everything acknowledged is there, and every other operation as a whole or not at all.
/// Operations that are acknowledged after it survive too.
fn found_again(disks: &SimDisks, what: impl std::fmt::Debug, blocking: Blocking) {
    let live = log(disks, Open::Existing, blocking).unwrap_or_else(|error| panic!("{what:?}: {error}"));
    let last = live.bounds().unwrap().1;
    assert!([3, 43].contains(&last), "{what:?}: up to {last}");
    assert_eq!(live.read(0..99).unwrap(), (1..=last).map(row).collect::<Vec<_>>());
    assert_eq!(live.get("vote").unwrap(), Some("v".into()));
    append(&live, last + 1..last + 4).unwrap();
    disks.power_off();
    drop(live);
    disks.power_on();
    let live = log(disks, Open::Existing, blocking)
        .unwrap_or_else(|error| panic!("{what:?}: what was acknowledged after the fault is lost: {error}"));
    assert_eq!(live.read(0..99).unwrap(), (1..last + 4).map(row).collect::<Vec<_>>(), "{what:?}");
}

#[test]
fn a_batch_of_appends_whose_sync_fails_is_refused_as_a_whole_and_so_is_what_is_queued_behind_it() {
    for fault in WRITES {
        let disks = SimDisks::new(3);
        let live = log(&disks, Open::Fresh, Blocking::Pool).unwrap();
        append(&live, 1..2).unwrap();
        disks.fail(Some(fault));
        let mut results = Vec::new();
        for index in 2..50 {
            let (done, result) = done();
            live.append(vec![row(index)], done);
            results.push(result);
        }
        for result in results {
            let error = result.recv_timeout(Duration::from_secs(30)).unwrap().unwrap_err();
            assert!(is_what(&error, fault), "{fault:?}: {error}");
        }
    }
}

#[test]
fn after_a_failed_write_or_sync_the_state_makes_nothing_durable_until_it_is_opened_again() {
    for fault in WRITES {
        for end in ENDS {
            for by_flush in [false, true] {
                let what = (fault, end, by_flush);
                let disks = SimDisks::new(4);
                let live = state(&disks, Open::Fresh).unwrap();
                // Four commits make room in the file, so that the failing sync is the commit's own.
                (0..4).for_each(|_| put(&live, 0..KEYS, 1, Durable::Yes).unwrap());
                disks.fail(Some(fault));
                let failed = match by_flush {
                    true => put(&live, 0..KEYS, 2, Durable::No).and_then(|()| live.current().flush()),
                    false => put(&live, 0..KEYS, 2, Durable::Yes),
                };
                let error = failed.unwrap_err();
                assert!(is_what(&error, fault), "{what:?}: {error}");
                disks.fail(None);
                for again in [put(&live, 0..1, 3, Durable::Yes), live.current().flush()] {
                    let error = again.unwrap_err();
                    assert!(is_what(&error, fault), "{what:?}: the disk is well again, the state is not: {error}");
                }
                drop(live);
                end.come(&disks);
                let live = state(&disks, Open::Existing).unwrap_or_else(|error| panic!("{what:?}: {error}"));
                let found = value(&live, 0..KEYS);
                assert!([1, 2].contains(&found), "{what:?}");
                put(&live, 0..1, 4, Durable::Yes).unwrap();
                disks.power_off();
                drop(live);
                disks.power_on();
                let live = state(&disks, Open::Existing)
                    .unwrap_or_else(|error| panic!("{what:?}: what was durable after the fault is lost: {error}"));
                assert_eq!((value(&live, 0..1), value(&live, 1..KEYS)), (4, found), "{what:?}");
            }
        }
    }
}

#[test]
fn an_installation_whose_disk_fails_leaves_the_old_state() {
    use crate::storage::archive::Writer;
    let source = state(&SimDisks::new(5), Open::Fresh).unwrap();
    put(&source, 0..KEYS, 2, Durable::No).unwrap();
    for fault in WRITES {
        let disks = SimDisks::new(6);
        let live = state(&disks, Open::Fresh).unwrap();
        put(&live, 0..KEYS, 1, Durable::Yes).unwrap();
        let mut loader = live.loader().unwrap();
        disks.fail(Some(fault));
        let mut writer = Writer::new(source.current().view().unwrap(), Bytes::new()).unwrap();
        let mut load = || -> Result<()> {
            while let Some(frame) = writer.next_frame()? {
                loader.feed(&frame)?;
            }
            Ok(())
        };
        let error = load().and_then(|()| live.install(loader.finish()?)).unwrap_err();
        assert!(is_what(&error, fault), "{fault:?}: {error}");
        disks.fail(None);
        assert_eq!(value(&live, 0..KEYS), 1);
        put(&live, 0..KEYS, 3, Durable::Yes).unwrap();
        drop(live);
        disks.power_on();
        assert_eq!(value(&state(&disks, Open::Existing).unwrap(), 0..KEYS), 3);
        assert_eq!(disks.list().unwrap(), ["state.redb"], "the half-loaded one is gone");
    }
}

fn large(index: u64) -> Bytes {
    Bytes::from(vec![index as u8; 1 << 20])
}

#[test]
fn a_log_that_cannot_be_read_answers_with_an_error_and_never_with_fewer_records() {
    for fault in READS {
        let disks = SimDisks::new(7);
        let live = log(&disks, Open::Fresh, Blocking::Inline).unwrap();
        // More than is cached, so that some of it is read from the disk.
        for index in 1..=24 {
            wait(|done| live.append(vec![(index, large(index))], done)).unwrap();
        }
        live.close().unwrap();
        disks.fail(Some(fault));
        let error = log(&disks, Open::Existing, Blocking::Inline).unwrap_err();
        assert!(is_what(&error, fault), "{fault:?}: {error}");
        disks.fail(None);
        let live = log(&disks, Open::Existing, Blocking::Inline).unwrap();
        disks.fail(Some(fault));
        let mut failed = 0;
        for index in 1..=24 {
            match live.read(index..index + 1) {
                Ok(found) => assert!(found == [(index, large(index))], "{fault:?}: record {index} is another"),
                Err(error) => {
                    assert!(is_what(&error, fault), "{fault:?}: {error}");
                    failed += 1;
                }
            }
        }
        assert!(failed > 0 && live.read(0..99).is_err(), "some of it was not in memory");
        disks.fail(None);
        drop(live);
        disks.power_on();
        let live = log(&disks, Open::Existing, Blocking::Inline).unwrap();
        assert!(live.read(0..99).unwrap() == (1..=24).map(|index| (index, large(index))).collect::<Vec<_>>());
    }
}

#[test]
fn a_state_that_cannot_be_read_answers_with_an_error_and_never_with_an_absence() {
    let keys = 48u64;
    for fault in READS {
        let disks = SimDisks::new(8);
        let live = state(&disks, Open::Fresh).unwrap();
        for key in 0..keys {
            let mut batch = live.current().begin().unwrap();
            batch.put(&key.to_be_bytes(), &large(key)).unwrap();
            batch.commit(Durable::Yes).unwrap();
        }
        drop(live);
        disks.fail(Some(fault));
        let error = state(&disks, Open::Existing).unwrap_err();
        assert!(is_what(&error, fault), "{fault:?}: {error}");
        disks.fail(None);
        let live = state(&disks, Open::Existing).unwrap();
        let view = live.current().view().unwrap();
        disks.fail(Some(fault));
        let failed = (0..keys).filter(|key| unreadable(&view, *key, fault)).count();
        assert!(failed > 0, "some of it was not in memory");
        let mut seen = 0;
        let scanned = view.scan(b"", crate::storage::kv::END, &mut |_, _| {
            seen += 1;
            std::ops::ControlFlow::Continue(())
        });
        assert!(scanned.is_err() && seen < keys, "a scan that could not see everything says so");
        disks.fail(None);
        drop((view, live));
        disks.power_on();
        let view = state(&disks, Open::Existing).unwrap().current().view().unwrap();
        assert!((0..keys).all(|key| !unreadable(&view, key, fault)), "on a fixed disk everything is there");
    }
}

/// Whether some key cannot be read. Every key that can be read has the value that was written.
fn unreadable(view: &dyn Read, key: u64, fault: Fault) -> bool {
    match view.get(&key.to_be_bytes()) {
        Ok(found) => {
            assert!(found.as_deref() == Some(&large(key)[..]), "{fault:?}: key {key} is absent or another");
            false
        }
        Err(error) => {
            assert!(is_what(&error, fault), "{fault:?}: {error}");
            true
        }
    }
}

#[test]
fn a_record_that_cannot_be_read_or_written_is_an_error_and_stays_what_it_was() {
    let message = |term| crate::wire::raft::Vote { term, node_id: 1, committed: false };
    for fault in Fault::ALL {
        let disks = SimDisks::new(9);
        let dir = dir(&disks);
        dir.write_record("identity", &message(1)).unwrap();
        disks.fail(Some(fault));
        let error = match READS.contains(&fault) {
            true => dir.read_record::<crate::wire::raft::Vote>("identity").unwrap_err(),
            false => dir.write_record("identity", &message(2)).unwrap_err(),
        };
        assert!(is_what(&error, fault), "{fault:?}: {error}");
        disks.power_on();
        assert_eq!(dir.read_record("identity").unwrap(), Some(message(1)));
    }
}
