//! What came of a command.

use prost_types::Timestamp;

use crate::wire::{
    Fault, Reason,
    store::{self, outcome::Result as Outcome},
};

/// What happened, or the refusal as the fault that the client gets.
pub(in crate::server) fn accepted(outcome: store::Outcome) -> Result<Outcome, Fault> {
    match outcome.result {
        Some(Outcome::Refusal(refusal)) => Err(refused(refusal)),
        Some(result) => Ok(result),
        None => Err(mismatch()),
    }
}

/// A reason that this program does not know comes from a newer one; it keeps its words.
fn refused(refusal: store::Refusal) -> Fault {
    let reason = Reason::parse(&refusal.reason).unwrap_or(Reason::Internal);
    let fault = Fault::new(reason, refusal.message);
    match reason {
        Reason::SessionInvalid => fault.next("log in again"),
        Reason::RequestTooOld => {
            fault.next("look whether the write took effect; if not, send it with a new request_id")
        }
        Reason::RequestIdReused => fault.next("mint a new request_id for each new write"),
        _ => fault,
    }
}

/// The outcome is of another verb than the command: only a fault of ours can bring that about.
pub(in crate::server) fn mismatch() -> Fault {
    Fault::new(Reason::Internal, "the outcome does not fit the request")
        .next("report this; repeating the call with the same request_id is safe")
}

/// Unix milliseconds as a timestamp; one beyond what a timestamp can hold is its last second.
pub(in crate::server) fn time(ms: u64) -> Timestamp {
    // 9999-12-31T23:59:59Z, the end of google.protobuf.Timestamp.
    const LAST: i64 = 253_402_300_799;
    let seconds = i64::try_from(ms / 1_000).unwrap_or(LAST).min(LAST);
    Timestamp { seconds, nanos: i32::try_from(ms % 1_000).unwrap_or(0) * 1_000_000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_reason_and_words() {
        let outcome = |reason: &str| store::Outcome {
            result: Some(Outcome::Refusal(store::Refusal { reason: reason.into(), message: "m".into() })),
        };
        for reason in Reason::ALL {
            let fault = accepted(outcome(reason.as_str())).unwrap_err();
            assert_eq!((fault.reason, fault.message.as_str()), (*reason, "m"));
        }
        assert_eq!(accepted(outcome("FROM_THE_FUTURE")).unwrap_err().reason, Reason::Internal);
    }

    #[test]
    fn an_outcome_without_result_is_a_fault_of_ours() {
        assert_eq!(accepted(store::Outcome::default()).unwrap_err().reason, Reason::Internal);
    }

    #[test]
    fn times_stay_within_what_a_timestamp_holds() {
        assert_eq!(time(1_234), Timestamp { seconds: 1, nanos: 234_000_000 });
        assert!(time(u64::MAX).to_string().starts_with("9999-12-31T23:59:59"));
    }
}
