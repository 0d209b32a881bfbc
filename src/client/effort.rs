//! One operation: its deadline, its attempts, and the fault that it ends with when it gives up.

use std::{error::Error, future::Future, time::Duration};

use tokio::time::{Instant, sleep};
use tonic::{Code, ConnectError, Status};

use super::backoff::Backoff;
use crate::{
    fault_injection::{self, Bug},
    types::Entropy,
    wire::{Address, Fault, Reason},
};

/// Timeout of the first attempt. It doubles whenever an attempt times out, so a slow but healthy cluster is served at
/// last.
pub(super) const ATTEMPT: Duration = Duration::from_millis(1500);

/// Key of a fault's metadata that is set when the write may or may not have taken effect.
const OUTCOME: &str = "outcome";
const UNKNOWN: &str = "unknown";

/// Whether a write that ended with `fault` may have taken effect. Repeating it with the same request_id is safe and
/// settles the question.
///
/// ```no_run
/// # async fn example(session: quorate::client::Session) -> Result<(), quorate::wire::Fault> {
/// use quorate::client::{Recipient, outcome_is_unknown};
///
/// let (id, bob) = (session.cluster().request_id(), Recipient::Username("bob".into()));
/// // Each attempt is bounded by the session's timeout. All bear one id, so bob gets the message once.
/// while let Err(fault) = session.send_as(id, &bob, "hello").await {
///     if !outcome_is_unknown(&fault) {
///         return Err(fault); // not sent
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub fn outcome_is_unknown(fault: &Fault) -> bool {
    fault.metadata.get(OUTCOME).is_some_and(|outcome| outcome == UNKNOWN)
}

/// What an operation does to the cluster. It decides what an attempt without an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Changes nothing.
    Read,
    /// Bears a request_id, so a repetition takes effect at most once.
    Write,
    /// An operator's command. Bears no request_id; the server checks how far it is done already.
    Command,
}

/// The state of one operation until its deadline.
///
/// # Invariants
/// - No attempt and no wait goes beyond `deadline`.
/// - `unanswered` never goes back to false: once one attempt may have taken effect, no later refusal proves otherwise.
/// - A write or command that gives up while `unanswered` is set ends as TIMEOUT with an unknown outcome; in every other
///   case the last fault is reported, and the operation took no effect.
pub(super) struct Effort {
    kind: Kind,
    /// The whole timeout, for the message.
    whole: Duration,
    deadline: Instant,
    /// Timeout of the next attempt; see [`ATTEMPT`].
    attempt: Duration,
    backoff: Backoff,
    /// Why the last attempt failed, or why there was none.
    last: Option<Fault>,
    /// Whether some attempt may have reached a node whose answer did not reach this client.
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

    /// Time left until the deadline.
    pub(super) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Timeout of the next attempt.
    pub(super) fn attempt_timeout(&self) -> Duration {
        self.attempt.min(self.remaining())
    }

    /// Runs one attempt at `address`, for at most [`Effort::attempt_timeout`].
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

    /// Records why no attempt could be made, such as that no leader is known.
    pub(super) fn note(&mut self, fault: Fault) {
        self.last = Some(fault);
    }

    /// Waits before the next attempt: the backoff, or longer if the last fault asks for it.
    ///
    /// # Errors
    /// Gives up at the deadline, or at once if the wait would outlast it.
    pub(super) async fn pause(&mut self) -> Result<(), Fault> {
        let asked = self.last.as_ref().and_then(|fault| fault.retry_after);
        let remaining = self.remaining();
        if remaining.is_zero() || asked.is_some_and(|asked| asked >= remaining) {
            return Err(self.give_up());
        }
        sleep(self.backoff.delay().max(asked.unwrap_or_default()).min(remaining)).await;
        if self.remaining().is_zero() { Err(self.give_up()) } else { Ok(()) }
    }

    /// The fault that the operation ends with.
    fn give_up(&mut self) -> Fault {
        let whole = seconds(self.whole);
        let last = self.last.take().unwrap_or_else(|| Fault::new(Reason::Timeout, "no node was asked in time"));
        if self.kind == Kind::Read || !self.unanswered || fault_injection::enabled(Bug::TimeoutIsRefusal) {
            let message = format!("gave up after {whole}: {}", last.message);
            // A node's advice on a lost quorum is about writes and their request_id, which a command does not have.
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

/// A duration for people, in whole milliseconds.
fn seconds(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_millis(millis)).to_string()
}

/// Converts a status. One that was made on this side of the connection means that the node could not be talked to.
pub(super) fn fault_of(address: &Address, status: &Status) -> Fault {
    if !is_local(status) {
        return Fault::from_status(status);
    }
    match status.code() {
        Code::Cancelled | Code::DeadlineExceeded => {
            Fault::new(Reason::Timeout, format!("{address} gave no answer in time"))
        }
        // The node closed the HTTP/2 connection with ENHANCE_YOUR_CALM (RFC 9113, section 7) and a reason.
        Code::ResourceExhausted => Fault::new(Reason::Overloaded, format!("{address} refuses: {}", root_cause(status))),
        _ => Fault::new(Reason::Unreachable, format!("{address} cannot be reached: {}", root_cause(status))),
    }
}

/// Whether this side of the connection made the status: it has a cause, or a code that our servers never send.
fn is_local(status: &Status) -> bool {
    status.details().is_empty() && (status.source().is_some() || status.code() == Code::Unknown)
}

/// Whether a write or command that ended with this status may have taken effect.
fn may_have_taken_effect(kind: Kind, status: &Status) -> bool {
    if is_local(status) {
        // If no connection came about, nothing was sent.
        return !causes(status).any(|cause| cause.is::<ConnectError>());
    }
    let reason = Fault::from_status(status).reason;
    // The leader checks its quorum before it begins a command.
    if (kind, reason) == (Kind::Command, Reason::NoQuorum) {
        return false;
    }
    // These may occur after the write was proposed. The others occur before that, or once the outcome is certain.
    matches!(reason, Reason::Timeout | Reason::NoQuorum | Reason::ShuttingDown | Reason::Quarantined | Reason::Internal)
}

/// The chain of errors below a status.
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
