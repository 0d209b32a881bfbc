//! The state: power loss at every step of commits and installations, and disks that fail (P1, P7).

use std::sync::Arc;

use bytes::Bytes;

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

/// The value of a whole batch; all of its keys must agree.
fn value(slot: &StateSlot) -> u64 {
    let pairs = all(&slot.current().view().unwrap());
    let mut values: Vec<_> = pairs.values().map(|v| u64::from_be_bytes(v[..8].try_into().unwrap())).collect();
    values.dedup();
    assert!(values.len() <= 1 && (pairs.len() == 8 || pairs.is_empty()), "half a batch: {values:?}");
    values.first().copied().unwrap_or(0)
}

#[test]
fn the_state_after_power_loss_is_a_commit_not_older_than_the_last_flush() {
    let history = |disks: &SimDisks, slot: &StateSlot| -> (u64, u64) {
        let mut flushed = 0;
        for n in 1..=12 {
            let durable = if n % 4 == 0 { Durable::Yes } else { Durable::No };
            if put(slot, n, durable).is_err() {
                return (flushed, n);
            }
            if n % 4 == 0 || n % 7 == 0 && slot.current().flush().is_ok() {
                flushed = n;
            }
            assert!(disks.is_powered() || n >= flushed);
        }
        (flushed, 12)
    };
    let disks = SimDisks::new(6);
    let live = slot(&disks, Open::Fresh).unwrap();
    let before = disks.counts().steps;
    history(&disks, &live);
    let steps = disks.counts().steps - before;
    for at in 1..=steps {
        let disks = SimDisks::new(at);
        let live = slot(&disks, Open::Fresh).unwrap();
        disks.power_off_after(at);
        let (flushed, last) = history(&disks, &live);
        drop(live);
        disks.power_on();
        let found = value(&slot(&disks, Open::Existing).unwrap());
        assert!((flushed..=last).contains(&found), "at {at}: found {found}, flushed {flushed}, last {last}");
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
