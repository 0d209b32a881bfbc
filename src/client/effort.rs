//! One operation: its deadline, its attempts, and what to say when it gives up.

use std::{error::Error, future::Future, time::Duration};

use tokio::time::{Instant, sleep};
use tonic::{Code, ConnectError, Status};

use super::backoff::Backoff;
use crate::{
    fault_injection::{self, Bug},
    types::Entropy,
    wire::{Address, Fault, Reason},
};

/// Longest time that one attempt is given at first; doubled whenever one runs out, so that a slow but healthy cluster
/// is not asked in vain for ever.
pub(super) const ATTEMPT: Duration = Duration::from_millis(1500);

/// The metadata key of a fault after which a write may or may not have taken effect.
const OUTCOME: &str = "outcome";
const UNKNOWN: &str = "unknown";

/// Whether a write that ended with `fault` may have taken effect all the same. Repeating it with the same request_id
/// is safe and tells.
pub fn outcome_is_unknown(fault: &Fault) -> bool {
    fault.metadata.get(OUTCOME).is_some_and(|outcome| outcome == UNKNOWN)
}

/// What an operation does to the cluster, which decides what an unanswered attempt means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    /// Bears a request_id, so that a repetition takes effect at most once.
    Write,
    /// An operator's: bears no request_id, but looks first at what is there already.
    Command,
}

/// One operation on its way to its deadline.
pub(super) struct Effort {
    kind: Kind,
    whole: Duration,
    deadline: Instant,
    attempt: Duration,
    backoff: Backoff,
    last: Option<Fault>,
    /// Some attempt may have reached a node without its answer reaching us.
    unanswered: bool,
}

impl Effort {
    pub(super) fn new(kind: Kind, whole: Duration, attempt: Duration, entropy: &Entropy) -> Self {
        Self {
            kind,
            whole,
            deadline: Instant::now() + whole,
            attempt,
            backoff: Backoff::new(entropy.clone()),
            last: None,
            unanswered: false,
        }
    }

    pub(super) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// How long the next attempt may take.
    pub(super) fn attempt_timeout(&self) -> Duration {
        self.attempt.min(self.remaining())
    }

    /// Runs one attempt at `address`, with [`Effort::attempt_timeout`] as its limit.
    pub(super) async fn attempt<T>(
        &mut self,
        address: &Address,
        running: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Fault> {
        let timeout = self.attempt_timeout();
        let fault = match tokio::time::timeout(timeout, running).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => {
                self.unanswered |= may_have_taken_effect(self.kind, &status);
                fault_of(address, &status)
            }
            Err(_) => {
                self.unanswered = true;
                Fault::new(Reason::Timeout, format!("{address} gave no answer within {}", seconds(timeout)))
            }
        };
        if fault.reason == Reason::Timeout {
            self.attempt *= 2;
        }
        self.last = Some(fault.clone());
        Err(fault)
    }

    /// Takes note of a fault that no attempt met, such as that no leader is known.
    pub(super) fn note(&mut self, fault: Fault) {
        self.last = Some(fault);
    }

    /// Waits before the next attempt, as long as the last fault asks. At the deadline, or when the wait would outlast
    /// it, gives up.
    pub(super) async fn pause(&mut self) -> Result<(), Fault> {
        let asked = self.last.as_ref().and_then(|fault| fault.retry_after);
        let remaining = self.remaining();
        if remaining.is_zero() || asked.is_some_and(|asked| asked >= remaining) {
            return Err(self.give_up());
        }
        sleep(self.backoff.delay().max(asked.unwrap_or_default()).min(remaining)).await;
        if self.remaining().is_zero() { Err(self.give_up()) } else { Ok(()) }
    }

    fn give_up(&mut self) -> Fault {
        let whole = seconds(self.whole);
        let last = self.last.take().unwrap_or_else(|| Fault::new(Reason::Timeout, "no node was asked in time"));
        if self.kind == Kind::Read || !self.unanswered || fault_injection::enabled(Bug::TimeoutIsRefusal) {
            let message = format!("gave up after {whole}: {}", last.message);
            // What nodes advise on a lost quorum is about writes and their request_id.
            let next = last.next.filter(|_| (self.kind, last.reason) != (Kind::Command, Reason::NoQuorum));
            return Fault { message, next, ..last };
        }
        let next = match self.kind {
            Kind::Command => "`chat-admin status` shows whether it took effect; repeating the command is safe",
            _ => "safe to repeat: with the same request_id it takes effect at most once",
        };
        let mut fault = Fault::new(
            Reason::Timeout,
            format!("no acknowledgement within {whole}: the outcome is unknown ({})", last.message),
        )
        .next(next);
        fault.metadata.insert(OUTCOME.into(), UNKNOWN.into());
        fault
    }
}

/// A duration as people say it.
fn seconds(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_millis(millis)).to_string()
}

/// Reads a status; one that this side of the connection made says that the node could not be spoken with.
pub(super) fn fault_of(address: &Address, status: &Status) -> Fault {
    if !is_local(status) {
        return Fault::from_status(status);
    }
    match status.code() {
        Code::Cancelled | Code::DeadlineExceeded => {
            Fault::new(Reason::Timeout, format!("{address} gave no answer in time"))
        }
        // An HTTP/2 connection that was ended with ENHANCE_YOUR_CALM, which says why.
        Code::ResourceExhausted => Fault::new(Reason::Overloaded, format!("{address} refuses: {}", root_cause(status))),
        _ => Fault::new(Reason::Unreachable, format!("{address} cannot be reached: {}", root_cause(status))),
    }
}

/// Whether our own side of the connection made this status: it has a cause, or no server of ours would say so.
fn is_local(status: &Status) -> bool {
    status.details().is_empty() && (status.source().is_some() || status.code() == Code::Unknown)
}

/// Whether a write or a command that met this status may have taken effect.
fn may_have_taken_effect(kind: Kind, status: &Status) -> bool {
    if is_local(status) {
        return !causes(status).any(|cause| cause.is::<ConnectError>());
    }
    // These may be met half way. The others are met before anything is proposed, or after the outcome is certain.
    let reason = Fault::from_status(status).reason;
    // The quorum is asked after before a command is begun.
    if (kind, reason) == (Kind::Command, Reason::NoQuorum) {
        return false;
    }
    matches!(reason, Reason::Timeout | Reason::NoQuorum | Reason::ShuttingDown | Reason::Quarantined | Reason::Internal)
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let mut next = status.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

fn root_cause(status: &Status) -> String {
    causes(status).last().map_or_else(|| status.message().to_owned(), ToString::to_string)
}
