//! Tests of the whole room, one file for each subject.

mod archives;
mod crashes;
mod directories;
mod faults;
mod grouping;
mod logs;
mod measures;
mod state_crashes;
mod states;

use std::sync::mpsc;

use bytes::Bytes;

use super::{Done, LogFile, Result};

/// A callback, and the channel for its result.
fn done() -> (Done, mpsc::Receiver<Result<()>>) {
    let (sender, receiver) = mpsc::channel();
    (Box::new(move |result| drop(sender.send(result))), receiver)
}

/// Runs an operation and waits until it is durable.
fn wait(operation: impl FnOnce(Done)) -> Result<()> {
    let (done, result) = done();
    operation(done);
    result.recv_timeout(std::time::Duration::from_secs(30)).expect("the callback is called")
}

fn record(index: u64) -> (u64, Bytes) {
    (index, Bytes::from(format!("record {index}")))
}

fn append(log: &LogFile, indexes: impl Iterator<Item = u64>) -> Result<()> {
    wait(|done| log.append(indexes.map(record).collect(), done))
}
