//! Group commit, and a log that several threads use.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, mpsc},
    thread,
    time::Duration,
};

use bytes::Bytes;
use redb::{StorageBackend, backends::InMemoryBackend};

use super::{append, done, record, wait};
use crate::storage::{Blocking, Disk, LogFile};

/// A disk whose syncs wait while its gate is shut.
#[derive(Debug, Clone, Default)]
struct Gated(Arc<(Mutex<Gate>, Condvar)>);

#[derive(Debug, Default)]
struct Gate {
    disk: Option<Arc<InMemoryBackend>>,
    shut: bool,
    waiting: bool,
    syncs: u64,
}

impl Gated {
    fn new() -> Self {
        let gated = Self::default();
        gated.0.0.lock().unwrap().disk = Some(Arc::new(InMemoryBackend::new()));
        gated
    }

    fn disk(&self) -> Arc<InMemoryBackend> {
        self.0.0.lock().unwrap().disk.clone().unwrap()
    }

    fn shut(&self, shut: bool) {
        self.0.0.lock().unwrap().shut = shut;
        self.0.1.notify_all();
    }

    /// Waits until a sync waits at the gate.
    fn until_waiting(&self) {
        let gate = self.0.0.lock().unwrap();
        let waited = self.0.1.wait_timeout_while(gate, Duration::from_secs(30), |gate| !gate.waiting).unwrap();
        assert!(waited.0.waiting, "no sync came");
    }

    fn syncs(&self) -> u64 {
        self.0.0.lock().unwrap().syncs
    }
}

impl StorageBackend for Gated {
    fn len(&self) -> io::Result<u64> {
        self.disk().len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk().read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk().set_len(len)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk().write(offset, data)
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut gate = self.0.0.lock().unwrap();
        gate.syncs += 1;
        while gate.shut {
            gate.waiting = true;
            self.0.1.notify_all();
            gate = self.0.1.wait(gate).unwrap();
        }
        gate.waiting = false;
        Ok(())
    }
}

#[test]
fn all_that_queues_up_during_a_sync_shares_the_next_one() {
    let disk = Gated::new();
    let log = LogFile::on(Disk::new("log", disk.clone()), None, Blocking::Pool).unwrap();
    disk.shut(true);
    let (results, received) = mpsc::channel();
    let report = |index: u64| {
        let results = results.clone();
        Box::new(move |result| results.send((index, result)).unwrap())
    };
    log.append(vec![record(1)], report(1));
    disk.until_waiting();
    for index in 2..=1_000 {
        log.append(vec![record(index)], report(index));
    }
    assert_eq!(log.bounds(), Some((1, 1_000)), "all are readable");
    assert!(received.try_recv().is_err(), "nothing is acknowledged before its sync");
    let before = disk.syncs();
    disk.shut(false);
    for expected in 1..=1_000 {
        let (index, result) = received.recv_timeout(Duration::from_secs(30)).unwrap();
        result.unwrap();
        assert_eq!(index, expected, "callbacks come in order");
    }
    // One sync for the transaction, and some because the file grows.
    assert!(disk.syncs() - before < 10, "{} syncs", disk.syncs() - before);
}

#[test]
fn an_append_waits_while_the_queue_is_full_and_goes_on_afterwards() {
    let disk = Gated::new();
    let log = LogFile::on(Disk::new("log", disk.clone()), None, Blocking::Pool).unwrap();
    disk.shut(true);
    let (first, first_result) = done();
    log.append(vec![record(1)], first);
    disk.until_waiting();
    let (progress, appended) = mpsc::channel();
    let appender = {
        let log = log.clone();
        thread::spawn(move || {
            for index in 2..=100 {
                log.append(vec![(index, Bytes::from(vec![0; 1 << 20]))], done().0);
                progress.send(index).unwrap();
            }
        })
    };
    // The queue stops growing somewhat above 64 MiB.
    for index in 2..=66 {
        assert_eq!(appended.recv_timeout(Duration::from_secs(30)).unwrap(), index);
    }
    assert!(appended.try_recv().is_err());
    assert_eq!(log.bounds(), Some((1, 66)));
    disk.shut(false);
    first_result.recv_timeout(Duration::from_secs(30)).unwrap().unwrap();
    appender.join().unwrap();
    append(&log, 101..102).unwrap();
    assert_eq!(log.bounds(), Some((1, 101)));
}

#[test]
fn readers_beside_a_writer_that_truncates_see_one_version_of_the_log() {
    let log = LogFile::on(Disk::memory("log"), None, Blocking::Pool).unwrap();
    let version = |version: u64, index: u64| (index, Bytes::from(format!("{version} {index}")));
    wait(|done| log.append((1..=50).map(|index| version(0, index)).collect(), done)).unwrap();
    let stop = Arc::new(Mutex::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (log, stop) = (log.clone(), stop.clone());
            thread::spawn(move || {
                let mut reads = 0;
                while !*stop.lock().unwrap() {
                    let mut last = (0, 0);
                    for (index, record) in log.read(0..u64::MAX).unwrap() {
                        let text = String::from_utf8(record.to_vec()).unwrap();
                        let (version, at) = text.split_once(' ').unwrap();
                        let now = (version.parse::<u64>().unwrap(), index);
                        assert_eq!(at, index.to_string());
                        assert!(now.0 >= last.0 && now.1 > last.1, "{now:?} after {last:?}");
                        last = now;
                    }
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    for round in 1..300 {
        let index = 30 + round % 20;
        log.truncate_from(index + 1, done().0);
        log.append((index + 1..=50).map(|index| version(round, index)).collect(), done().0);
        if round % 10 == 0 {
            log.purge_to(round / 10, ("purged", Bytes::new()), done().0);
        }
    }
    wait(|done| log.set("vote", Bytes::new(), done)).unwrap();
    *stop.lock().unwrap() = true;
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
}

#[test]
fn the_last_clone_dropped_writes_what_is_queued() {
    let disk = Gated::new();
    let log = LogFile::on(Disk::new("log", disk.clone()), None, Blocking::Pool).unwrap();
    let (done, result) = done();
    log.append(vec![record(1)], done);
    log.set_lazily("committed", "1".into());
    drop(log);
    result.try_recv().expect("called before the drop returned").unwrap();
}
