//! One membership change under way: how it begins, what it reports, how it ends.

use std::{sync::Arc, time::Duration};

use openraft::async_runtime::WatchReceiver;
use tokio::sync::mpsc;

use super::{
    checks::Judged,
    faults::{change_in_progress, check_failed, membership_changed},
    liveness,
    lock::ChangeLockGuard,
};
use crate::{
    client::fault_tolerance,
    membership::{Change, Layout},
    node::{
        Node,
        consensus::{
            Replica,
            metrics::{self, REACHABLE},
        },
    },
    raft::types::{LogId, Member, Metrics},
    types::NodeId,
    wire::{
        Fault, Reason,
        admin::{ChangeProgress, Check, change_progress::Phase},
    },
};

/// Progress of a membership change: messages until it is done, or a fault.
pub type Progress = mpsc::Receiver<Result<ChangeProgress, Fault>>;

/// Progress messages that may wait for a slow reader; further ones are dropped.
const PROGRESS_QUEUE: usize = 64;

/// How long a change waits for another one to take its second step.
const UNIFORM_TIMEOUT: Duration = Duration::from_secs(5);

/// One membership change on this leader.
///
/// # Invariants
///
/// - It holds the [`ChangeLock`](super::ChangeLock) of its nodes until it is dropped.
/// - Every step is a compare-and-set on the membership that the step was judged on, so two changes never mix: the later
///   one fails with ETAG_MISMATCH, or judges again.
/// - It keeps no state that the next leader would need. If this leader dies, the cluster has a learner more, or a joint
///   membership that the next leader completes (`consensus::background`); the same command then continues from there.
/// - The last message, or the fault, is sent exactly once, by `finish`. Messages before it may be lost.
pub struct ChangeOperation {
    /// This node, the leader.
    pub node: Node,
    /// Its replica.
    pub replica: Arc<Replica>,
    /// Whether to run the checks only.
    pub validate_only: bool,
    progress: mpsc::Sender<Result<ChangeProgress, Fault>>,
    /// The membership that the operator has seen, if an etag named it. The first step is conditional on it.
    seen: Option<LogId>,
    _lock: ChangeLockGuard,
}

impl Node {
    /// Begins a change about the nodes called `names`.
    ///
    /// Fails unless this node leads with a quorum and the membership is still the one that `etag` names (any, if it is
    /// empty).
    pub(super) async fn begin_change(
        &self,
        names: &[&str],
        etag: &str,
        validate_only: bool,
    ) -> Result<(ChangeOperation, Progress), Fault> {
        let replica = self.replica()?;
        replica.leadership.ensure_leader()?;
        if !replica.leadership.has_quorum() {
            return Err(replica.leadership.no_quorum());
        }
        wait_until_uniform(&replica).await?;
        self.begin_without_quorum(names, etag, validate_only)
    }

    /// Like [`Node::begin_change`], for a change that may be needed to get the quorum back.
    pub(super) fn begin_without_quorum(
        &self,
        names: &[&str],
        etag: &str,
        validate_only: bool,
    ) -> Result<(ChangeOperation, Progress), Fault> {
        let replica = self.replica()?;
        replica.leadership.ensure_leader()?;
        let lock = self.inner.change_lock.acquire(names)?;
        let (progress, receiver) = mpsc::channel(PROGRESS_QUEUE);
        let seen = check_etag(etag, &replica.leadership.metrics())?;
        let operation = ChangeOperation { node: self.clone(), replica, validate_only, progress, seen, _lock: lock };
        Ok((operation, receiver))
    }
}

/// The log id of the membership in `metrics`, if `etag` names it; nothing for no etag.
fn check_etag(etag: &str, metrics: &Metrics) -> Result<Option<LogId>, Fault> {
    match etag {
        "" => Ok(None),
        _ if etag == metrics::etag(metrics) => Ok(*metrics.membership_config.log_id()),
        _ => Err(membership_changed(metrics)),
    }
}

/// Waits until no change is between its two steps.
///
/// A leader that died may have left one there, and this leader completes it. The command that began it, given again,
/// should find it done.
async fn wait_until_uniform(replica: &Replica) -> Result<(), Fault> {
    let mut metrics = replica.raft.metrics();
    let uniform = async {
        while metrics::is_joint(&metrics.borrow_watched()) {
            if metrics.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(UNIFORM_TIMEOUT, uniform).await.map_err(|_| change_in_progress())
}

impl ChangeOperation {
    /// openraft's current metrics.
    pub fn metrics(&self) -> Metrics {
        self.replica.leadership.metrics()
    }

    /// The membership that the first step is conditional on: the one that the operator has seen, or the current one.
    pub fn expected_membership(&self) -> Option<LogId> {
        self.seen.or(*self.metrics().membership_config.log_id())
    }

    /// Whether a change is between its two steps.
    pub fn is_joint(&self) -> bool {
        metrics::is_joint(&self.metrics())
    }

    /// Whether the node `id` votes.
    pub fn is_voter(&self, id: NodeId) -> bool {
        metrics::is_voter(&self.metrics(), id)
    }

    /// The membership, and which nodes answer now.
    pub async fn probe_voters(&self) -> Layout {
        liveness::probe_voters(&self.replica).await
    }

    /// Like [`Self::probe_voters`], before learners are promoted.
    pub async fn probe_for_promotion(&self) -> Layout {
        liveness::probe_for_promotion(&self.replica, self.node.settings().config.election_timeout_max).await
    }

    /// The member of this name, ignoring case.
    pub fn member(&self, name: &str) -> Option<(NodeId, Member)> {
        let metrics = self.metrics();
        let mut members = metrics.membership_config.nodes();
        let found = members.find(|(_, member)| member.name.eq_ignore_ascii_case(name));
        found.map(|(id, member)| (*id, member.clone()))
    }

    /// The member of this name, or a fault that lists the members.
    pub fn require_member(&self, name: &str) -> Result<(NodeId, Member), Fault> {
        self.member(name).ok_or_else(|| {
            let metrics = self.metrics();
            let names: Vec<_> = metrics.membership_config.nodes().map(|(_, member)| member.name.clone()).collect();
            Fault::new(Reason::NodeNotFound, format!("no node of this cluster is called {name}"))
                .next(format!("its nodes are {}", names.join(", ")))
        })
    }

    /// A progress message with the current tolerance and etag.
    pub fn message(&self, phase: Phase) -> ChangeProgress {
        let metrics = self.metrics();
        ChangeProgress {
            phase: phase.into(),
            tolerance: Some(fault_tolerance(&self.replica.layout(&metrics, |_| REACHABLE).tolerance())),
            etag: metrics::etag(&metrics),
            ..Default::default()
        }
    }

    /// Sends a progress message. A reader that lags misses messages, but never the last.
    pub fn report(&self, message: ChangeProgress) {
        let _ = self.progress.try_send(Ok(message));
    }

    /// Sends the last message, or the fault.
    pub async fn finish(&self, result: Result<ChangeProgress, Fault>) {
        match &result {
            Ok(_) => tracing::info!(node = self.metrics().id, "membership change done"),
            Err(fault) => tracing::warn!(reason = fault.reason.as_str(), %fault, "membership change not done"),
        }
        let _ = self.progress.send(result).await;
    }

    /// The last message of a change that is done.
    pub fn done(&self, note: impl Into<String>) -> ChangeProgress {
        ChangeProgress { note: note.into(), ..self.message(Phase::Done) }
    }

    /// Reports the checks and fails if one of them failed. Returns the last message of a dry run, or nothing if the change
    /// is to be made.
    pub fn report_checks(&self, judged: Judged) -> Result<Option<ChangeProgress>, Fault> {
        self.report(ChangeProgress { checks: judged.checks.clone(), ..self.message(Phase::Checks) });
        match judged.refusal() {
            Some(fault) => Err(fault),
            None => Ok(self.validate_only.then(|| self.dry_run_result(&judged.layout, &judged.change))),
        }
    }

    /// Reports checks that do not depend on the voters, and fails if one of them failed.
    pub fn require_passed(&self, checks: Vec<Check>) -> Result<(), Fault> {
        let refusal = checks.iter().find(|check| !check.ok).map(check_failed);
        self.report(ChangeProgress { checks, ..self.message(Phase::Checks) });
        refusal.map_or(Ok(()), Err)
    }

    /// The last message of a dry run: the tolerance that the cluster would have after the change.
    fn dry_run_result(&self, before: &Layout, change: &Change) -> ChangeProgress {
        let after = before.after(change).ok().map(|after| fault_tolerance(&after.tolerance()));
        ChangeProgress { tolerance: after, ..self.done("every check passed; nothing was changed") }
    }
}
