//! Reasons for requests that the gRPC library rejects before a service sees them.
//!
//! The library answers a body that is not valid protobuf (for example text that is not UTF-8) with INTERNAL, and one
//! that is too large with OUT_OF_RANGE, neither with a reason. This layer turns both into INVALID_ARGUMENT, so that the
//! client learns that the request is at fault. It recognizes them by the library's messages, which a test holds.

use http::{HeaderMap, Response};
use tonic::{Code, Status, body::Body};

use crate::{
    types::limits,
    wire::{Fault, Reason},
};

/// Replaces such an answer; passes every other answer through.
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
    // A trailers-only response has its status among the headers; ours carry details.
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

    /// A health request whose text need not be UTF-8.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Raw {
        #[prost(bytes = "vec", tag = "1")]
        service: Vec<u8>,
    }

    /// The answer of a server like ours to `request`, over a connection in memory.
    async fn answer(request: Raw) -> Status {
        let (near, far) = tokio::io::duplex(1024);
        let (_, health) = tonic_health::server::health_reporter();
        let layer = tower::util::MapResponseLayer::new(explain);
        let serving = tonic::transport::Server::builder()
            .layer(layer)
            .add_service(health.max_decoding_message_size(64))
            .serve_with_incoming(futures::stream::iter([Ok::<_, std::io::Error>(far)]));
        tokio::spawn(serving);
        let mut near = Some(near);
        let connector = tower::service_fn(move |_| {
            let near = near.take().ok_or(std::io::Error::other("connected already"));
            async move { near.map(hyper_util::rt::TokioIo::new) }
        });
        let endpoint = tonic::transport::Endpoint::from_static("http://in.memory");
        let channel = endpoint.connect_with_connector(connector).await.unwrap();
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let codec = tonic_prost::ProstCodec::<Raw, Raw>::default();
        client.unary(tonic::Request::new(request), path, codec).await.unwrap_err()
    }

    #[tokio::test]
    async fn answers_of_the_library_itself_are_recognized() {
        let no_text = Fault::from_status(&answer(Raw { service: vec![0xff] }).await);
        assert_eq!(no_text.reason, Reason::InvalidArgument, "{no_text}");
        let too_large = Fault::from_status(&answer(Raw { service: vec![b'x'; 100] }).await);
        assert_eq!(too_large.reason, Reason::InvalidArgument, "{too_large}");
        assert!(too_large.next.is_some());
        let unknown = answer(Raw { service: b"nobody".to_vec() }).await;
        assert_eq!(unknown.code(), Code::NotFound, "left alone");
    }

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
