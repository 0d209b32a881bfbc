//! A load under a ledger, for a cluster of any kind: through whatever happens meanwhile, then the verdict.
//!
//! Two accounts write to one another and to a room, at a steady rate; readers ask the nodes in turn; a subscriber
//! listens. Someone else does the damage, and notes each [`incident`](Probe::incident). At the end every replica that
//! answers is read and held against the [`ledger`](super::ledger), and a [`Report`] says what each metric came to.
//!
//! # Invariants
//! - Only conversations of its own accounts are touched.
//! - Nothing is held without bound: [`ATTEMPTS`] messages, then the writers stop.
//! - A write whose outcome is unknown counts as not acknowledged in time. At the end it is repeated under its
//!   request_id, so that its fate is known before the replicas are compared.
//!
//! Left to others: killing nodes, and showing the report (cli).

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

pub use report::{AVAILABILITY_PERCENT, Change, Gap, Incident, Metric, RECOVERY, Replica, Report};

use super::{
    Cluster,
    ledger::{Checker, Entry, Ledger},
};
use crate::{types::ConversationId, wire::Fault};
use accounts::Accounts;
use watch::Watched;

/// Messages of one run, at most.
pub const ATTEMPTS: usize = 250_000;
/// Messages a second, at most.
pub const RATE: u32 = 1_000;
/// Longest that replicas, digests and the subscriber are waited for at the end, each.
const SETTLE: Duration = Duration::from_secs(15);

/// What a run does.
#[derive(Debug, Clone)]
pub struct Options {
    /// Messages a second in all, 1 to [`RATE`].
    pub rate: u32,
    /// The two accounts to make.
    pub names: [String; 2],
    /// Their password.
    pub password: String,
    /// The title of their room.
    pub room: String,
    /// Whether the accounts and their messages are deleted at the end.
    pub clean: bool,
}

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Since the load began.
    pub elapsed: Duration,
    /// Messages sent, or tried to be.
    pub sent: u64,
    /// Acknowledged in time.
    pub acknowledged: u64,
    /// Given up with an unknown outcome.
    pub unknown: u64,
    /// Refused.
    pub refused: u64,
    /// When the last acknowledgement came.
    pub last: Option<Duration>,
    /// Who leads, and the term; 0 when nobody is known to.
    pub leader: String,
    /// The newest term seen.
    pub term: u64,
    /// Members that answer.
    pub answering: usize,
    /// Members.
    pub nodes: usize,
}

/// What all tasks of a run share.
struct Desk {
    cluster: Cluster,
    accounts: Accounts,
    started: Instant,
    ledger: Mutex<Ledger>,
    watched: Mutex<Watched>,
    told: Mutex<Vec<(ConversationId, Entry)>>,
    /// Attempts whose outcome is unknown, and which account made them.
    lost: Mutex<Vec<(usize, usize)>>,
    incidents: Mutex<Vec<Incident>>,
    counts: tokio::sync::watch::Sender<Counts>,
}

/// Kept beside the ledger, so that a look costs nothing.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    sent: u64,
    acknowledged: u64,
    unknown: u64,
    refused: u64,
    last: Option<Duration>,
    /// When the latest of the attempts acknowledged so far was begun.
    newest: Option<Duration>,
}

impl Desk {
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

/// A panic elsewhere ends that task only; what it had written down stands.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A run under way. Dropping it stops the load; the accounts stay then.
pub struct Probe {
    desk: Arc<Desk>,
    options: Options,
    writers: JoinSet<()>,
    stop_writing: CancellationToken,
    others: JoinSet<()>,
}

impl Probe {
    /// Makes the accounts, then begins writing, reading and listening.
    pub async fn start(cluster: &Cluster, options: Options) -> Result<Self, Fault> {
        let accounts = Accounts::make(cluster, &options).await?;
        let mut ledger = Ledger::default();
        accounts.conversations.iter().for_each(|(conversation, base)| ledger.open(*conversation, *base));
        let membership = cluster.membership().await?;
        let desk = Arc::new(Desk {
            cluster: cluster.clone(),
            accounts,
            started: Instant::now(),
            ledger: Mutex::new(ledger),
            watched: Mutex::new(Watched::new(membership)),
            told: Mutex::default(),
            lost: Mutex::default(),
            incidents: Mutex::default(),
            counts: tokio::sync::watch::Sender::default(),
        });
        let (mut writers, mut others) = (JoinSet::new(), JoinSet::new());
        let stop_writing = CancellationToken::new();
        load::write(&desk, options.rate, &stop_writing, &mut writers);
        load::read(&desk, &mut others);
        others.spawn(load::listen(desk.clone()));
        others.spawn(watch::watch(desk.clone()));
        Ok(Self { desk, options, writers, stop_writing, others })
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let counts = *self.desk.counts.borrow();
        let watched = self.desk.watched();
        Progress {
            elapsed: self.desk.now(),
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

    /// Notes that damage is being done now, from which writes shall have recovered within `bound`. Answers with when.
    pub fn incident(&self, what: impl Into<String>, bound: Duration) -> Duration {
        let at = self.desk.now();
        lock(&self.desk.incidents).push(Incident { what: what.into(), at, bound, recovered: None });
        at
    }

    /// Waits until a write that was begun after `at` is acknowledged; answers with how long after `at` that was, or
    /// nothing if it took longer than `timeout`.
    pub async fn recovered(&self, at: Duration, timeout: Duration) -> Option<Duration> {
        let mut counts = self.desk.counts.subscribe();
        let begun_after = |counts: &Counts| counts.newest.is_some_and(|newest| newest > at);
        let counts = tokio::time::timeout(timeout, counts.wait_for(begun_after)).await.ok()?.ok()?;
        Some(counts.last.unwrap_or(at).saturating_sub(at))
    }

    /// Stops the load, reads every replica that answers, and judges.
    pub async fn finish(mut self) -> Report {
        self.stop_writing.cancel();
        while self.writers.join_next().await.is_some() {}
        let desk = self.desk.clone();
        let end = desk.now();
        load::settle(&desk).await;
        let surveyed = replicas::survey(&desk).await;
        let digests = replicas::digests(&desk, &surveyed).await;
        load::await_stream(&desk).await;
        self.others.shutdown().await;
        if self.options.clean {
            desk.accounts.remove(&self.options.password).await;
        }
        let ledger = desk.ledger();
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
        let told = lock(&desk.told);
        checker.stream("the subscriber", &told);
        let findings = checker.finish();
        let incidents = std::mem::take(&mut *lock(&desk.incidents));
        Report::new(end, &ledger, &desk.watched(), incidents, read, findings).told(told.len())
    }
}
