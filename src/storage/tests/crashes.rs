//! The log: power loss at every step of random histories, and disks that fail (P1, P7).

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
};

use bytes::Bytes;
use proptest::prelude::*;

use super::{append, record, wait};
use crate::storage::{Blocking, DataDir, LogFile, Open, Result, StorageError, testing::SimDisks};

#[derive(Debug, Clone)]
enum Step {
    Append(u8),
    Vote,
    Committed,
    TruncateBy(u8),
    PurgeBy(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u8..5).prop_map(Step::Append),
        2 => Just(Step::Vote),
        2 => Just(Step::Committed),
        2 => (0u8..5).prop_map(Step::TruncateBy),
        1 => (0u8..9).prop_map(Step::PurgeBy),
    ]
}

/// What a log must hold.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    records: BTreeMap<u64, Bytes>,
    last: u64,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    purged: Option<Bytes>,
    /// Set lazily; the next operation writes it too.
    lazy: Option<Bytes>,
}

impl Model {
    fn of(log: &LogFile) -> Result<Self> {
        let records: BTreeMap<_, _> = log.read(0..u64::MAX)?.into_iter().collect();
        assert_eq!(log.bounds(), records.keys().next().copied().zip(records.keys().last().copied()));
        let (vote, committed, purged) = (log.get("vote")?, log.get("committed")?, log.get("purged")?);
        Ok(Self { last: 0, records, vote, committed, purged, lazy: None })
    }

    /// The same, compared with the disk.
    fn agrees(&self, found: &Self) -> bool {
        (&self.records, &self.vote, &self.purged, &self.committed)
            == (&found.records, &found.vote, &found.purged, &found.committed)
    }

    /// An operation, or the close, writes the lazy value too.
    fn take_lazy_along(&mut self) {
        self.committed = self.lazy.take().or(self.committed.take());
    }
}

/// Runs the history of this number until its end or the first error. Returns the two states that may be found
/// afterwards: the last acknowledged one, and the one that was being written.
fn run(log: &LogFile, name: &str, steps: &[Step], mut model: Model) -> (Model, Model) {
    // A value that was only set lazily is lost with the power.
    model.lazy = None;
    for (number, step) in steps.iter().enumerate() {
        let before = model.clone();
        let unique = Bytes::from(format!("step {number} of the {name} run"));
        if !matches!(step, Step::Committed) {
            model.take_lazy_along();
        }
        let result = match step {
            Step::Append(count) => {
                let records: Vec<_> = (1..=u64::from(*count))
                    .map(|n| (model.last + n, Bytes::from(unique.repeat(1 + number % 3 * 200))))
                    .collect();
                model.records.extend(records.clone());
                model.last += u64::from(*count);
                wait(|done| log.append(records, done))
            }
            Step::Vote => {
                model.vote = Some(unique.clone());
                wait(|done| log.set("vote", unique, done))
            }
            Step::Committed => {
                model.lazy = Some(unique.clone());
                log.set_lazily("committed", unique);
                Ok(())
            }
            Step::TruncateBy(count) => {
                let first = model.records.keys().next().copied().unwrap_or(model.last + 1);
                let index = model.last.saturating_sub(u64::from(*count)).max(first - 1);
                model.records.split_off(&(index + 1));
                model.last = index;
                wait(|done| log.truncate_from(index + 1, done))
            }
            Step::PurgeBy(count) => {
                let first = model.records.keys().next().copied().unwrap_or(model.last + 1);
                let index = first - 1 + u64::from(*count);
                model.records = model.records.split_off(&(index + 1));
                model.last = model.last.max(index);
                model.purged = Some(unique.clone());
                wait(|done| log.purge_to(index, ("purged", unique), done))
            }
        };
        if result.is_err() {
            assert!(append(log, model.last + 1..model.last + 2).is_err(), "nothing succeeds after a failure");
            return (before, model);
        }
    }
    let before = model.clone();
    model.take_lazy_along();
    (before, model)
}

fn open(disks: &SimDisks, how: Open) -> Result<LogFile> {
    LogFile::open(&DataDir::on(Arc::new(disks.clone())), "log.redb", how, Blocking::Inline)
}

/// Points of one history at which the power is cut, spread over all of its steps. Other histories cover other points.
const POINTS: u64 = 12;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 500, ..ProptestConfig::default() })]
    #[test]
    fn what_was_acknowledged_survives_power_loss_at_any_step(
        steps in prop::collection::vec(step(), 60..120),
        seed: u64,
    ) {
        let disks = SimDisks::new(seed);
        let log = open(&disks, Open::Fresh).unwrap();
        let opened = disks.counts().steps;
        run(&log, "first", &steps, Model::default());
        let end = disks.counts().steps - opened;
        prop_assert!(end > steps.len() as u64, "most operations write and sync");
        let apart = end / POINTS;
        for at in (1 + seed % apart..=end).step_by(apart as usize) {
            let disks = SimDisks::new(seed ^ at);
            let log = open(&disks, Open::Fresh).unwrap();
            disks.power_off_after(at);
            let (acknowledged, written) = run(&log, "first", &steps, Model::default());
            prop_assert!(!disks.is_powered(), "the same history takes the same steps");
            drop(log);
            disks.power_on();
            let log = open(&disks, Open::Existing).unwrap();
            let found = Model::of(&log).unwrap();
            prop_assert!(
                acknowledged.agrees(&found) || written.agrees(&found),
                "power lost at step {at}: found {found:?}, acknowledged {acknowledged:?}, written {written:?}"
            );
            // It goes on from there, through another power cut.
            let kept = if acknowledged.agrees(&found) { acknowledged } else { written };
            disks.power_off_after(at / 2 + 3);
            let (acknowledged, written) = run(&log, "second", &steps, kept);
            drop(log);
            disks.power_on();
            let found = Model::of(&open(&disks, Open::Existing).unwrap()).unwrap();
            prop_assert!(acknowledged.agrees(&found) || written.agrees(&found), "second loss after {at}");
        }
    }
}

#[test]
fn power_loss_under_group_commit_keeps_a_run_of_operations_that_holds_all_acknowledged_ones() {
    let votes = |upto: u64| upto / 3;
    let mut grouped = 0;
    for at in 1..60 {
        let disks = SimDisks::new(at);
        let dir = DataDir::on(Arc::new(disks.clone()));
        let log = LogFile::open(&dir, "log.redb", Open::Fresh, Blocking::Pool).unwrap();
        disks.power_off_after(at * 2);
        let (sender, results) = mpsc::channel();
        // Every third operation is a vote, the others append one record each.
        for number in 1..=600u64 {
            let sender = sender.clone();
            let done = Box::new(move |result: Result<()>| sender.send((number, result.is_ok())).unwrap());
            match number % 3 {
                0 => log.set("vote", number.to_string().into(), done),
                _ => log.append(vec![record(number - votes(number))], done),
            }
        }
        let _ = log.close();
        drop((log, sender));
        // The refusal of a new append may overtake the callbacks of a batch that is failing. Successes come in order.
        let mut results: Vec<_> = results.iter().collect();
        let acknowledged = results.iter().take_while(|(_, ok)| *ok).count() as u64;
        let successes = results.iter().filter(|(_, ok)| *ok).map(|(number, _)| *number);
        assert!(successes.eq(1..=acknowledged), "nothing succeeds after a failure: {results:?}");
        results.sort();
        assert!(results.iter().map(|(number, _)| *number).eq(1..=600), "every callback comes, once");
        disks.power_on();
        let log = open(&disks, Open::Existing).unwrap();
        let last = log.bounds().map_or(0, |(_, last)| last);
        let vote = log.get("vote").unwrap().map_or(0, |v| str::from_utf8(&v).unwrap().parse().unwrap());
        // The last operation found: the vote, or the append of the last record.
        let upto = vote.max(last + last.saturating_sub(1) / 2);
        assert_eq!((last, vote), (upto - votes(upto), votes(upto) * 3), "a run of whole operations");
        assert!(upto >= acknowledged, "power lost at {at}: {acknowledged} acknowledged, {upto} found");
        assert_eq!(log.read(0..u64::MAX).unwrap(), (1..=last).map(record).collect::<Vec<_>>());
        grouped = grouped.max(upto);
    }
    assert!(grouped > 3, "some of the histories got somewhere");
}

#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged() {
    let disks = SimDisks::new(1);
    let log = open(&disks, Open::Fresh).unwrap();
    append(&log, 1..100).unwrap();
    disks.kill();
    assert!(append(&log, 100..101).is_err());
    assert_eq!(open(&disks, Open::Existing).unwrap().bounds(), Some((1, 99)));
}

#[test]
fn a_full_disk_stops_acknowledgements_and_keeps_the_data() {
    let disks = SimDisks::new(3);
    let log = open(&disks, Open::Fresh).unwrap();
    append(&log, 1..4).unwrap();
    disks.set_capacity(Some(disks.contents("log.redb").unwrap().len() as u64 + 4096));
    let large = Bytes::from(vec![1; 1 << 20]);
    let mut last = 3;
    let error = loop {
        match wait(|done| log.append(vec![(last + 1, large.clone())], done)) {
            Ok(()) => last += 1,
            Err(error) => break error,
        }
        assert!(last < 100);
    };
    assert!(matches!(error, StorageError::DiskFull { .. }), "{error}");
    drop(log);
    disks.kill();
    disks.set_capacity(None);
    let log = open(&disks, Open::Existing).unwrap();
    assert_eq!(log.bounds(), Some((1, last)));
    append(&log, last + 1..last + 2).unwrap();
}

/// Opens and reads all of a damaged log. Everything that it returns must be what was written.
fn served(disks: &SimDisks) -> Result<Model> {
    Model::of(&open(disks, Open::Existing)?)
}

#[test]
fn a_bit_flipped_anywhere_in_a_closed_log_is_damage_or_harmless() {
    let disks = SimDisks::new(4);
    let log = open(&disks, Open::Fresh).unwrap();
    append(&log, 1..60).unwrap();
    wait(|done| log.set("vote", "v".into(), done)).unwrap();
    let good = Model::of(&log).unwrap();
    log.close().unwrap();
    drop(log);
    let image = disks.contents("log.redb").unwrap();
    let mut detected = 0;
    let bits: Vec<_> = (0..image.len() * 8).step_by(image.len() * 8 / 1_500 + 1).chain(0..512 * 8).collect();
    for bit in bits {
        disks.kill();
        disks.corrupt("log.redb", |bytes| {
            bytes.clone_from(&image);
            bytes[bit / 8] ^= 1 << (bit % 8);
        });
        match served(&disks) {
            Ok(found) => assert!(good.agrees(&found), "bit {bit} of byte {}: {found:?}", bit / 8),
            Err(StorageError::Damaged { .. }) => detected += 1,
            Err(other) => panic!("bit {bit}: {other}"),
        }
    }
    assert!(detected > 100, "only {detected} flips were detected");
}

#[test]
fn a_bit_flipped_after_a_crash_is_damage_or_harmless() {
    let disks = SimDisks::new(12);
    let log = open(&disks, Open::Fresh).unwrap();
    append(&log, 1..60).unwrap();
    append(&log, 60..70).unwrap();
    let good = Model::of(&log).unwrap();
    disks.kill();
    drop(log);
    let image = disks.contents("log.redb").unwrap();
    let mut rolled_back = 0;
    for bit in (0..image.len() * 8).step_by(image.len() * 8 / 1_500 + 1).chain(0..512 * 8) {
        disks.kill();
        disks.corrupt("log.redb", |bytes| {
            bytes.clone_from(&image);
            bytes[bit / 8] ^= 1 << (bit % 8);
        });
        match served(&disks) {
            Ok(found) => assert!(good.agrees(&found), "bit {bit}: {found:?}"),
            Err(StorageError::Damaged { detail, .. }) => rolled_back += usize::from(detail.contains("made durable")),
            Err(other) => panic!("bit {bit}: {other}"),
        }
    }
    assert!(rolled_back > 0, "redb rolled nothing back: the witness had nothing to say");
}

#[test]
fn a_log_that_lags_behind_its_witness_is_damage_and_so_is_a_damaged_witness() {
    let disks = SimDisks::new(13);
    let log = open(&disks, Open::Fresh).unwrap();
    append(&log, 1..10).unwrap();
    log.close().unwrap();
    let old = disks.contents("log.redb").unwrap();
    let log = open(&disks, Open::Existing).unwrap();
    append(&log, 10..20).unwrap();
    log.close().unwrap();
    let (new, witness) = (disks.contents("log.redb").unwrap(), disks.contents("log.redb.witness").unwrap());
    let opened = |log: &[u8], witness: &[u8]| {
        disks.kill();
        disks.corrupt("log.redb", |bytes| *bytes = log.to_vec());
        disks.corrupt("log.redb.witness", |bytes| *bytes = witness.to_vec());
        open(&disks, Open::Existing).map(|log| log.bounds())
    };
    assert_eq!(opened(&new, &witness).unwrap(), Some((1, 19)));
    let error = opened(&old, &witness).unwrap_err().to_string();
    assert!(error.contains("though commit 2 had been made durable"), "{error}");
    for bit in 0..witness.len() * 8 {
        let mut flipped = witness.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(opened(&new, &flipped), Err(StorageError::Damaged { .. })), "bit {bit}");
    }
    assert!(matches!(opened(&new, &witness[..10]), Err(StorageError::Damaged { .. })));
    assert!(matches!(opened(&new, &[]), Err(StorageError::Damaged { .. })));
}

#[test]
fn a_truncated_log_is_damage() {
    let disks = SimDisks::new(5);
    let log = open(&disks, Open::Fresh).unwrap();
    append(&log, 1..60).unwrap();
    log.close().unwrap();
    let image = disks.contents("log.redb").unwrap();
    for length in (0..image.len()).step_by(image.len() / 50) {
        disks.kill();
        disks.corrupt("log.redb", |bytes| *bytes = image[..length].to_vec());
        assert!(matches!(served(&disks), Err(StorageError::Damaged { .. })), "{length} bytes");
    }
}

#[test]
fn a_row_altered_while_the_store_runs_is_damage_and_not_served() {
    let disks = SimDisks::new(9);
    let log = open(&disks, Open::Fresh).unwrap();
    // More than redb caches, so that some of it is read from the disk.
    let large = |index: u64| Bytes::from(vec![index as u8; 1 << 20]);
    for index in 1..=24 {
        wait(|done| log.append(vec![(index, large(index))], done)).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let log = open(&disks, Open::Existing).unwrap();
    disks.corrupt("log.redb", |bytes| {
        // Flip bits inside large values, so that the structure of the pages stays whole.
        for at in (0..bytes.len() - 4096).step_by(1 << 16).collect::<Vec<_>>() {
            if bytes[at] > 0 && bytes[at..at + 4096].iter().all(|byte| *byte == bytes[at]) {
                bytes[at] ^= 0x40;
            }
        }
    });
    let mut detected = 0;
    for index in 1..=24 {
        match log.read(index..index + 1) {
            Err(StorageError::Damaged { .. }) => detected += 1,
            Ok(records) => assert_eq!(records[0].1, large(index), "a page still in the cache is what was written"),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(detected > 0);
}

#[test]
fn the_same_seed_loses_the_same_writes() {
    let image = |seed| {
        let disks = SimDisks::new(seed);
        let log = open(&disks, Open::Fresh).unwrap();
        disks.power_off_after(10);
        let _ = append(&log, 1..9);
        drop(log);
        disks.power_on();
        disks.contents("log.redb").unwrap()
    };
    assert_eq!(image(11), image(11));
    assert!((0..20).any(|seed| image(seed) != image(11)));
}
