//! Sets log time back, at an operator's request, after a wrong clock has carried it ahead (ADR 0070).

use std::time::Duration;

use crate::{
    machine::query,
    node::Node,
    types::{Consistency, limits},
    wire::{
        Fault, Reason,
        store::{self, command::Verb, outcome},
    },
};

/// How long the read and the write may take, each.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What [`Node::correct_time`] did, or would do.
#[derive(Debug, Clone, Copy)]
pub struct CorrectedTime {
    /// Log time before and after, and from when on new requests are accepted.
    pub change: store::TimeCorrected,
    /// The time by the clocks of a majority.
    pub cluster_ms: u64,
    /// Whether log time was ahead of them.
    pub was_ahead: bool,
}

impl Node {
    /// Sets log time back to what the clocks of a majority show, if it is ahead of that by more than the bound. Only the
    /// leader can. With `validate_only` it changes nothing.
    ///
    /// `clients_ahead` is the operator's word on how far ahead of the right time a client's clock has been.
    pub async fn correct_time(
        &self,
        validate_only: bool,
        clients_ahead: Option<Duration>,
    ) -> Result<CorrectedTime, Fault> {
        let replica = self.replica()?;
        replica.leadership.ensure_leader()?;
        let cluster_ms = replica.clocks.cluster_ms().ok_or_else(|| {
            Fault::new(Reason::NoQuorum, "the clocks of a majority of the voters are not known")
                .next("bring voters back")
        })?;
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let clients_ahead_ms = clients_ahead.map(millis);
        let look =
            move |state: &dyn crate::storage::kv::Read| query::time_correction(state, cluster_ms, clients_ahead_ms);
        let (change, _) = replica.reader.query(Consistency::Linearizable, TIMEOUT, look).await?;
        let was_ahead = change.from_ms > cluster_ms.saturating_add(2 * millis(limits::CLOCK_OFFSET));
        if validate_only || !(was_ahead || clients_ahead.is_some()) {
            return Ok(CorrectedTime { change, cluster_ms, was_ahead });
        }
        // A replica that does not know the command would refuse it and from then on differ.
        let metrics = replica.leadership.metrics();
        if !replica.clocks.all_report(metrics.membership_config.nodes().map(|(id, _)| *id)) {
            let message = "a member does not answer or runs an older version, which does not know this command";
            return Err(
                Fault::new(Reason::Unsafe, message).next("bring every member up with this version, or remove it")
            );
        }
        tracing::warn!(from_ms = change.from_ms, to_ms = change.to_ms, "setting log time back, as an operator asks");
        let verb = store::CorrectTime { time_ms: cluster_ms, clients_ahead_ms };
        let command = store::Command { verb: Some(Verb::CorrectTime(verb)), ..Default::default() };
        let proposed = replica.proposer.propose(command, TIMEOUT).await?;
        let Some(outcome::Result::TimeCorrected(change)) = proposed.outcome.result else {
            return Err(Fault::new(Reason::Internal, "the correction of log time had no outcome"));
        };
        replica.clocks.record_log_time(change.to_ms);
        Ok(CorrectedTime { change, cluster_ms, was_ahead })
    }
}
