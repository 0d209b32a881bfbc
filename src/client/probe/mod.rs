//! A probe: a load on a running cluster, and the verdict on how the cluster kept its promises.
//!
//! Two accounts write to each other and to a room at a steady rate, readers read from each node in turn, and a
//! subscriber listens. The caller does the damage and records each [`incident`](Probe::incident). At the end the probe
//! reads every replica that answers, checks all of it against the [`ledger`](super::ledger), and returns a [`Report`].
//!
//! # Invariants
//! - The probe touches only conversations of its own accounts.
//! - Memory is bounded: the writers stop after [`ATTEMPTS`] messages.
//! - A write of unknown outcome counts as not acknowledged in time. At the end the probe repeats it under its
//!   request_id, so its outcome is known before the replicas are compared.
//! - Times count from the start of the run, by the monotonic clock of this process. No node's clock is trusted.
//!
//! It leaves the damage to the caller and the display to `cli`.

mod accounts;
mod load;
mod replicas;
mod report;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

pub use report::{AVAILABILITY_PERCENT, Gap, Incident, Metric, RECOVERY, Replica, Report};
pub use watch::Change;

use super::{
    Cluster,
    ledger::{Checker, Entry, Ledger},
};
use crate::{types::ConversationId, wire::Fault};
use accounts::Accounts;
use watch::Watched;

/// Most messages of one run.
pub const ATTEMPTS: usize = 250_000;
/// Highest rate, in messages per second.
pub const RATE: u32 = 1_000;
/// Longest wait at the end for the replicas, for the digests, and for the subscriber (each).
const SETTLE: Duration = Duration::from_secs(15);

/// The options of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Messages per second in all, 1 to [`RATE`].
    pub rate: u32,
    /// The names of the two accounts to create.
    pub names: [String; 2],
    /// Their password.
    pub password: String,
    /// The title of their room.
    pub room: String,
    /// Whether to delete the accounts and their messages at the end.
    pub clean: bool,
}

/// The state of a run, for display.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Time since the load began.
    pub elapsed: Duration,
    /// Messages sent, whatever the outcome.
    pub sent: u64,
    /// Messages acknowledged in time.
    pub acknowledged: u64,
    /// Messages given up with an unknown outcome.
    pub unknown: u64,
    /// Messages refused.
    pub refused: u64,
    /// When the last acknowledgement came, from the start of the run.
    pub last: Option<Duration>,
    /// The name of the leader; empty if none is known.
    pub leader: String,
    /// The newest term seen.
    pub term: u64,
    /// Number of members that answer.
    pub answering: usize,
    /// Number of members.
    pub nodes: usize,
}

/// The state that all tasks of a run share.
///
/// Invariant: a mutex is held for moments and never across an await, and no task holds two of them, except
/// [`Probe::finish`] once the tasks have ended.
struct Run {
    cluster: Cluster,
    accounts: Accounts,
    started: Instant,
    ledger: Mutex<Ledger>,
    watched: Mutex<Watched>,
    /// The messages that the subscriber received, in order.
    received: Mutex<Vec<(ConversationId, Entry)>>,
    /// The attempts of unknown outcome: number in the ledger, and index of the account that made it.
    lost: Mutex<Vec<(usize, usize)>>,
    incidents: Mutex<Vec<Incident>>,
    counts: tokio::sync::watch::Sender<Counts>,
}

/// Running totals, so that [`Probe::progress`] need not walk the ledger.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    sent: u64,
    acknowledged: u64,
    unknown: u64,
    refused: u64,
    last: Option<Duration>,
    /// When the latest of the acknowledged attempts was begun.
    newest: Option<Duration>,
}

impl Run {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        lock(&self.watched)
    }
}

/// Locks a mutex, even a poisoned one: a panic ends one task, and what it had recorded stays valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A run under way. Dropping it stops the load and leaves the accounts behind.
pub struct Probe {
    run: Arc<Run>,
    options: Options,
    writers: JoinSet<()>,
    stop_writing: CancellationToken,
    others: JoinSet<()>,
}

impl Probe {
    /// Creates the accounts, then starts to write, read and listen.
    pub async fn start(cluster: &Cluster, options: Options) -> Result<Self, Fault> {
        let accounts = Accounts::make(cluster, &options).await?;
        let mut ledger = Ledger::default();
        accounts.conversations.iter().for_each(|(conversation, base)| ledger.open(*conversation, *base));
        let membership = cluster.membership().await?;
        let run = Arc::new(Run {
            cluster: cluster.clone(),
            accounts,
            started: Instant::now(),
            ledger: Mutex::new(ledger),
            watched: Mutex::new(Watched::new(membership)),
            received: Mutex::default(),
            lost: Mutex::default(),
            incidents: Mutex::default(),
            counts: tokio::sync::watch::Sender::default(),
        });
        let (mut writers, mut others) = (JoinSet::new(), JoinSet::new());
        let stop_writing = CancellationToken::new();
        load::write(&run, options.rate, &stop_writing, &mut writers);
        load::read(&run, &mut others);
        others.spawn(load::listen(run.clone()));
        others.spawn(watch::watch(run.clone()));
        Ok(Self { run, options, writers, stop_writing, others })
    }

    /// The state of the run so far.
    pub fn progress(&self) -> Progress {
        let counts = *self.run.counts.borrow();
        let watched = self.run.watched();
        Progress {
            elapsed: self.run.now(),
            sent: counts.sent,
            acknowledged: counts.acknowledged,
            unknown: counts.unknown,
            refused: counts.refused,
            last: counts.last,
            leader: watched.leader().to_owned(),
            term: watched.term(),
            answering: watched.answering(),
            nodes: watched.members().len(),
        }
    }

    /// Records that damage is done now. Writes must recover within `bound`. Returns the time of the incident.
    pub fn incident(&self, what: impl Into<String>, bound: Duration) -> Duration {
        let at = self.run.now();
        lock(&self.run.incidents).push(Incident { what: what.into(), at, bound, recovered: None });
        at
    }

    /// Waits until a write that was begun after `at` is acknowledged. Returns how long after `at` that was, or `None`
    /// after `timeout`.
    pub async fn recovered(&self, at: Duration, timeout: Duration) -> Option<Duration> {
        let mut counts = self.run.counts.subscribe();
        let begun_after = |counts: &Counts| counts.newest.is_some_and(|newest| newest > at);
        let counts = tokio::time::timeout(timeout, counts.wait_for(begun_after)).await.ok()?.ok()?;
        Some(counts.last.unwrap_or(at).saturating_sub(at))
    }

    /// Stops the load, reads every replica that answers, and returns the verdict.
    pub async fn finish(mut self) -> Report {
        self.stop_writing.cancel();
        while self.writers.join_next().await.is_some() {}
        let run = self.run.clone();
        let end = run.now();
        load::settle(&run).await;
        let surveyed = replicas::survey(&run).await;
        let digests = replicas::digests(&run, &surveyed).await;
        load::await_stream(&run).await;
        self.others.shutdown().await;
        if self.options.clean {
            run.accounts.remove(&self.options.password).await;
        }
        let ledger = run.ledger();
        let mut checker = Checker::new(&ledger);
        let mut read = Vec::new();
        for (name, timelines) in surveyed {
            let messages = timelines.as_ref().map(|timelines| timelines.values().map(Vec::len).sum());
            let digest = digests.get(&name).cloned();
            if let Some(timelines) = timelines {
                checker.replica(&name, timelines);
            }
            read.push(Replica { name, messages, digest });
        }
        let received = lock(&run.received);
        checker.stream("the subscriber", &received);
        let findings = checker.finish();
        let incidents = std::mem::take(&mut *lock(&run.incidents));
        Report::new(end, &ledger, &run.watched(), incidents, read, findings).events(received.len())
    }
}
