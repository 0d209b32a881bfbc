//! Outcomes of commands and refusals of queries, as the client gets them.

use prost_types::Timestamp;

use crate::{
    machine::{QueryError, Refusal},
    server::faults::session_invalid,
    storage,
    wire::{
        Fault, Reason,
        store::{self, outcome::Result as Outcome},
    },
};

/// The result of an applied command, or its refusal as a fault.
///
/// Refusals travel through the log as reason and message, without advice: `refused` adds it.
pub(super) fn accepted(outcome: store::Outcome) -> Result<Outcome, Fault> {
    match outcome.result {
        Some(Outcome::Refusal(refusal)) => Err(refused(refusal)),
        Some(result) => Ok(result),
        None => Err(mismatch()),
    }
}

/// A reason that this version does not know comes from a newer leader; the fault keeps the message.
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

/// Splits the answer of a query: a refusal becomes the caller's fault, a storage error stays one and stops the node.
pub(super) fn answered<T>(answer: Result<T, QueryError>) -> storage::Result<Result<T, Fault>> {
    Ok(QueryError::part(answer)?.map_err(query_refused))
}

fn query_refused(Refusal { reason, field, message }: Refusal) -> Fault {
    match (reason, field) {
        (Reason::SessionInvalid, _) => session_invalid(&message),
        (_, field) => Fault { field: field.map(str::to_owned), ..Fault::new(reason, message) },
    }
}

/// INTERNAL: the outcome belongs to another verb than the command. Only a bug can cause that.
pub(super) fn mismatch() -> Fault {
    Fault::new(Reason::Internal, "the outcome does not fit the request")
        .next("report this; repeating the call with the same request_id is safe")
}

/// Unix milliseconds as a timestamp. A time beyond the range of a timestamp becomes its last second.
pub(super) fn time(ms: u64) -> Timestamp {
    // 9999-12-31T23:59:59Z, the end of the range of google.protobuf.Timestamp.
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
    fn an_outcome_without_a_result_is_an_internal_fault() {
        assert_eq!(accepted(store::Outcome::default()).unwrap_err().reason, Reason::Internal);
    }

    #[test]
    fn a_refused_query_names_its_field_and_a_session_that_is_over_says_what_to_do() {
        let fault = |reason, field| {
            let refusal = Refusal { field, ..Refusal::new(reason, "m") };
            answered::<()>(Err(refusal.into())).unwrap().unwrap_err()
        };
        assert_eq!(fault(Reason::InvalidArgument, Some("page_token")), Fault::invalid("page_token", "m"));
        assert_eq!(fault(Reason::AccountNotFound, None), Fault::new(Reason::AccountNotFound, "m"));
        assert_eq!(fault(Reason::SessionInvalid, None), session_invalid("m"));
    }

    #[test]
    fn times_stay_within_what_a_timestamp_holds() {
        assert_eq!(time(1_234), Timestamp { seconds: 1, nanos: 234_000_000 });
        assert!(time(u64::MAX).to_string().starts_with("9999-12-31T23:59:59"));
    }
}
