//! The state: power loss at every step of commits and installations, and disks that fail (P1, P7).

use std::{collections::BTreeMap, mem, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;

use super::states::all;
use crate::storage::{
    DataDir, Disks, Durable, Open, Result, StateSlot, StorageError,
    archive::{Writer, digest},
    kv::Write,
    testing::SimDisks,
};

fn slot(disks: &SimDisks, how: Open) -> Result<StateSlot> {
    StateSlot::open(&DataDir::on(Arc::new(disks.clone())), "state.redb", how)
}

fn put(slot: &StateSlot, value: u64, durable: Durable) -> Result<()> {
    let mut batch = slot.current().begin()?;
    for key in 0..8u64 {
        batch.put(&key.to_be_bytes(), &[&value.to_be_bytes()[..], &[0; 300]].concat())?;
    }
    batch.commit(durable)
}

/// The value that all keys of a batch have. They must agree.
fn value(slot: &StateSlot) -> u64 {
    let pairs = all(&slot.current().view().unwrap());
    let mut values: Vec<_> = pairs.values().map(|v| u64::from_be_bytes(v[..8].try_into().unwrap())).collect();
    values.dedup();
    assert!(values.len() <= 1 && (pairs.len() == 8 || pairs.is_empty()), "half a batch: {values:?}");
    values.first().copied().unwrap_or(0)
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, usize),
    Delete(u8),
    Commit(Durable),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..0xff, prop_oneof![4 => 0usize..300, 1 => 2_000usize..20_000]).prop_map(|(k, n)| Step::Put(k, n)),
        3 => (0u8..0xff).prop_map(Step::Delete),
        4 => Just(Step::Commit(Durable::No)),
        2 => Just(Step::Commit(Durable::Yes)),
        1 => Just(Step::Flush),
    ]
}

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Every committed state, of which the last may only have begun, and which one was made durable last.
struct History {
    commits: Vec<Pairs>,
    durable: usize,
}

impl History {
    fn from(start: Pairs) -> Self {
        Self { commits: vec![start], durable: 0 }
    }

    /// Runs until the end or the first error.
    fn run(&mut self, disks: &SimDisks, slot: &StateSlot, steps: &[Step]) -> Result<()> {
        let mut changes = BTreeMap::new();
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Put(key, length) => {
                    let value = [&number.to_be_bytes()[..], &vec![*key; *length]].concat();
                    changes.insert(vec![*key], Some(value));
                }
                Step::Delete(key) => drop(changes.insert(vec![*key], None)),
                Step::Commit(durable) => self.commit(slot, mem::take(&mut changes), *durable)?,
                Step::Flush => slot.current().flush()?,
            }
            if matches!(step, Step::Commit(Durable::Yes) | Step::Flush) {
                assert!(disks.is_powered(), "nothing is called durable that was written without power");
                self.durable = self.commits.len() - 1;
            }
        }
        Ok(())
    }

    fn commit(
        &mut self,
        slot: &StateSlot,
        changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
        durable: Durable,
    ) -> Result<()> {
        let mut batch = slot.current().begin()?;
        let mut after = self.commits.last().cloned().unwrap_or_default();
        for (key, value) in changes {
            match value {
                Some(value) => {
                    batch.put(&key, &value)?;
                    after.insert(key, value);
                }
                None => {
                    batch.delete(&key)?;
                    after.remove(&key);
                }
            }
        }
        self.commits.push(after);
        batch.commit(durable)
    }

    /// Whether the state found is a whole commit, and not older than the last durable one.
    fn allows(&self, found: &Pairs) -> bool {
        self.commits[self.durable..].contains(found)
    }
}

/// Points of one history at which the power is cut, spread over all of its steps.
const POINTS: u64 = 12;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 500, ..ProptestConfig::default() })]
    #[test]
    fn the_state_after_power_loss_is_a_commit_not_older_than_the_last_durable_one(
        steps in prop::collection::vec(step(), 80..200),
        seed: u64,
    ) {
        let disks = SimDisks::new(seed);
        let live = slot(&disks, Open::Fresh).unwrap();
        let before = disks.counts().steps;
        History::from(Pairs::new()).run(&disks, &live, &steps).unwrap();
        let end = disks.counts().steps - before;
        let apart = end / POINTS + 1;
        for at in (1 + seed % apart..=end).step_by(apart as usize) {
            let disks = SimDisks::new(seed ^ at);
            let mut live = slot(&disks, Open::Fresh).unwrap();
            let mut found = Pairs::new();
            // It goes on from the state found, through another power cut.
            for at in [at, at / 2 + 1] {
                disks.power_off_after(at);
                let mut history = History::from(found);
                let ended = history.run(&disks, &live, &steps);
                // Near the end of a history there may be nothing left to do for the second power cut.
                prop_assert_eq!(ended.is_ok(), disks.is_powered());
                drop(live);
                disks.power_on();
                live = slot(&disks, Open::Existing).unwrap();
                found = all(&live.current().view().unwrap());
                let (commits, durable) = (history.commits.len(), history.durable);
                prop_assert!(history.allows(&found), "lost at {at}: {commits} commits, {durable} durable: {found:?}");
            }
        }
    }
}

#[test]
fn power_loss_at_any_step_of_an_installation_leaves_the_old_state_or_the_new() {
    let source = SimDisks::new(7);
    let source = slot(&source, Open::Fresh).unwrap();
    put(&source, 2, Durable::No).unwrap();
    let mut archive = Vec::new();
    let mut writer = Writer::new(source.current().view().unwrap(), Bytes::new()).unwrap();
    while let Some(frame) = writer.next_frame().unwrap() {
        archive.extend_from_slice(&frame);
    }
    let install = |slot: &StateSlot| -> Result<()> {
        let mut loader = slot.loader()?;
        loader.feed(&archive)?;
        slot.install(loader.finish()?)?;
        put(slot, 3, Durable::Yes)
    };
    let (mut old, mut new, mut steps) = (0, 0, 1);
    loop {
        let disks = SimDisks::new(steps);
        let live = slot(&disks, Open::Fresh).unwrap();
        put(&live, 1, Durable::Yes).unwrap();
        disks.power_off_after(steps);
        let installed = install(&live);
        drop(live);
        if installed.is_ok() {
            break;
        }
        disks.power_on();
        let live = slot(&disks, Open::Existing).unwrap();
        match value(&live) {
            1 => old += 1,
            2 | 3 => new += 1,
            other => panic!("found {other}"),
        }
        assert_eq!(disks.contents("state.redb.loading-0"), None, "strays are removed");
        install(&live).unwrap();
        assert_eq!(value(&live), 3);
        steps += 1;
    }
    assert!(old > 3 && new > 3, "both were seen: {old} old, {new} new");
}

#[test]
fn a_disk_that_fills_up_during_a_load_leaves_the_live_state_in_use() {
    let source = slot(&SimDisks::new(13), Open::Fresh).unwrap();
    let mut batch = source.current().begin().unwrap();
    for n in 0..4_000u32 {
        batch.put(&n.to_be_bytes(), &[7; 1_000]).unwrap();
    }
    batch.commit(Durable::No).unwrap();
    let mut writer = Writer::new(source.current().view().unwrap(), Bytes::new()).unwrap();
    let disks = SimDisks::new(14);
    let live = slot(&disks, Open::Fresh).unwrap();
    put(&live, 1, Durable::Yes).unwrap();
    disks.set_capacity(Some(disks.contents("state.redb").unwrap().len() as u64 + (3 << 20)));
    let mut loader = live.loader().unwrap();
    let mut failed = None;
    while let (None, Some(frame)) = (&failed, writer.next_frame().unwrap()) {
        failed = loader.feed(&frame).err();
    }
    let failed = failed.or_else(|| loader.finish().err());
    assert!(matches!(failed, Some(StorageError::DiskFull { .. })), "{failed:?}");
    assert_eq!(disks.list().unwrap(), ["state.redb"], "its space is free again");
    put(&live, 2, Durable::Yes).unwrap();
    assert_eq!(value(&live), 2);
}

#[test]
fn a_full_disk_is_named_as_such_every_time() {
    let disks = SimDisks::new(15);
    let live = slot(&disks, Open::Fresh).unwrap();
    disks.set_capacity(Some(disks.contents("state.redb").unwrap().len() as u64));
    let fill = || -> Result<()> {
        let mut batch = live.current().begin()?;
        for n in 0..4_000u32 {
            batch.put(&n.to_be_bytes(), &[7; 1_000])?;
        }
        batch.commit(Durable::Yes)
    };
    for _ in 0..3 {
        assert!(matches!(fill(), Err(StorageError::DiskFull { .. })));
    }
}

#[test]
fn a_bit_flipped_anywhere_in_a_closed_state_is_damage_or_harmless() {
    let disks = SimDisks::new(8);
    let live = slot(&disks, Open::Fresh).unwrap();
    put(&live, 9, Durable::Yes).unwrap();
    let good = digest(&live.current().view().unwrap()).unwrap();
    drop(live);
    let image = disks.contents("state.redb").unwrap();
    let mut detected = 0;
    for bit in (0..image.len() * 8).step_by(image.len() * 8 / 1_500 + 1).chain(0..512 * 8) {
        disks.kill();
        disks.corrupt("state.redb", |bytes| {
            bytes.clone_from(&image);
            bytes[bit / 8] ^= 1 << (bit % 8);
        });
        match slot(&disks, Open::Existing).and_then(|slot| digest(&slot.current().view()?)) {
            Ok(found) => assert_eq!(found, good, "bit {bit}"),
            Err(StorageError::Damaged { .. }) => detected += 1,
            Err(other) => panic!("bit {bit}: {other}"),
        }
    }
    assert!(detected > 100, "only {detected} flips were detected");
}
