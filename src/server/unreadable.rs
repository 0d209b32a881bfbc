//! Requests that never become a message.
//!
//! The gRPC library answers these itself: a body that is no valid protobuf (text that is no UTF-8, say) with INTERNAL,
//! one that is too large with OUT_OF_RANGE, neither with a reason. A client should learn that the request is at fault.

use http::{HeaderMap, Response};
use tonic::{Code, Status, body::Body};

use crate::{
    types::limits,
    wire::{Fault, Reason},
};

/// Gives such an answer its reason; leaves every other answer alone.
pub(super) fn explain(response: Response<Body>) -> Response<Body> {
    match fault(response.headers()) {
        Some(fault) => {
            tracing::debug!(reason = fault.reason.as_str(), message = %fault.message, "refused an unreadable request");
            Status::from(fault).into_http()
        }
        None => response,
    }
}

fn fault(headers: &HeaderMap) -> Option<Fault> {
    // Only an answer without a body has its status among the headers.
    if headers.get("grpc-status").is_none() || headers.contains_key("grpc-status-details-bin") {
        return None;
    }
    let status = Status::from_header_map(headers)?;
    let message = status.message();
    match status.code() {
        Code::Internal if message.contains("decode Protobuf") => {
            Some(Fault::new(Reason::InvalidArgument, format!("the request cannot be read: {message}")))
        }
        Code::OutOfRange if message.contains("message length too large") => Some(
            Fault::new(Reason::InvalidArgument, format!("the request cannot be read: {message}"))
                .next(format!("send at most {} bytes in one request", limits::REQUEST_BYTES)),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(status: Status) -> Status {
        let response = explain(status.into_http());
        Status::from_header_map(response.headers()).unwrap()
    }

    #[test]
    fn text_that_is_not_utf_8_is_the_callers_fault() {
        let status = explained(Status::internal("failed to decode Protobuf message: invalid string value"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(Fault::from_status(&status).reason, Reason::InvalidArgument);
    }

    #[test]
    fn an_oversized_request_is_the_callers_fault() {
        let words = "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes";
        let status = explained(Status::out_of_range(words));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(Fault::from_status(&status).next.unwrap().contains("bytes"));
    }

    #[test]
    fn answers_with_a_reason_of_their_own_are_left_alone() {
        let ours = Fault::new(Reason::Internal, "decode Protobuf");
        assert_eq!(explained(ours.into()).code(), Code::Internal);
        assert_eq!(explained(Status::unimplemented("no")).code(), Code::Unimplemented);
    }
}
