//! Benchmarks, which check nothing: `cargo test --release --lib storage::tests::measures -- --ignored --nocapture`.

use std::{sync::mpsc, time::Instant};

use bytes::Bytes;
use redb::{Builder, Durability, TableDefinition, backends::InMemoryBackend};

use crate::storage::{
    Blocking, DataDir, Disk, Durable, LogFile, Open, StateFile,
    kv::{Read, Write},
};

#[test]
#[ignore = "a measurement"]
fn appends_per_second_by_how_many_are_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::create_or_open(folder.path()).unwrap();
    let log = LogFile::open(&dir, "log.redb", Open::Fresh, Blocking::Pool).unwrap();
    let record = Bytes::from(vec![7; 256]);
    let mut index = 0;
    for in_flight in [1, 16, 64, 256, 1_024] {
        let (sender, receiver) = mpsc::channel();
        let started = Instant::now();
        let (mut appended, mut batches, mut outstanding) = (0, 0, 0);
        while started.elapsed().as_millis() < 1_000 {
            while outstanding < in_flight {
                index += 1;
                outstanding += 1;
                let sender = sender.clone();
                log.append(vec![(index, record.clone())], Box::new(move |r| sender.send(r).unwrap()));
            }
            receiver.recv().unwrap().unwrap();
            let more = receiver.try_iter().count();
            outstanding -= 1 + more;
            appended += 1 + more;
            batches += 1;
        }
        receiver.iter().take(outstanding).for_each(|result| result.unwrap());
        println!("{in_flight} in flight: {appended} appends/s, about {batches} wake-ups");
    }
}

/// 64 commands of 8 gets and 6 puts each, in one batch.
const COMMANDS: u64 = 64;

fn keys(round: u64, command: u64, n: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&(n % 6).to_be_bytes());
    key[8..16].copy_from_slice(&(command * 37 % 50).to_be_bytes());
    key[16..].copy_from_slice(&round.to_be_bytes());
    key
}

#[test]
#[ignore = "a measurement"]
fn a_batch_over_an_overlay_against_a_table_opened_per_access() {
    const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
    const ROUNDS: u64 = 200;
    let value = [1; 100];

    let file = StateFile::open(Disk::memory("state")).unwrap();
    let started = Instant::now();
    for round in 0..ROUNDS {
        let mut batch = file.begin().unwrap();
        for command in 0..COMMANDS {
            (0..8).for_each(|n| drop(batch.get(&keys(round / 2, command, n)).unwrap()));
            (0..6).for_each(|n| batch.put(&keys(round, command, n), &value).unwrap());
        }
        batch.commit(Durable::No).unwrap();
    }
    println!("overlay:          {:?} per batch", started.elapsed() / ROUNDS as u32);

    let db = Builder::new().create_with_backend(InMemoryBackend::new()).unwrap();
    let started = Instant::now();
    for round in 0..ROUNDS {
        let mut write = db.begin_write().unwrap();
        write.set_durability(Durability::None).unwrap();
        for command in 0..COMMANDS {
            for n in 0..8 {
                let table = write.open_table(TABLE).unwrap();
                let _ = redb::ReadableTable::get(&table, &keys(round / 2, command, n)[..]).unwrap();
            }
            for n in 0..6 {
                write.open_table(TABLE).unwrap().insert(&keys(round, command, n)[..], &value[..]).unwrap();
            }
        }
        write.commit().unwrap();
    }
    println!("table per access: {:?} per batch", started.elapsed() / ROUNDS as u32);
}
