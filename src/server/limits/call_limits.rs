//! Bounds on calls in progress.
//!
//! A call takes a permit when its headers arrive and keeps it until its answer has left. Its request must arrive within
//! [`limits::ARRIVAL`]. Both are checked in a layer around the services, because a request that never ends and an
//! answer that nobody reads occupy memory before and after the service runs.
//!
//! Calls between peers are not counted. Their streams live long, and a flood of clients must not cut replication.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body, transport::server::TcpConnectInfo};
use tower::{Layer, Service};

use super::{
    origin::Origin,
    quotas::{HeldPermits, Quota},
};
use crate::{
    server::faults::overloaded,
    types::limits,
    wire::{Fault, Reason},
};

/// The path of the service between peers.
const PEERS: &str = "/chat.raft.v1.RaftService/";

/// Layer that gives each call a permit of the quota, or answers OVERLOADED.
#[derive(Clone)]
pub(in crate::server) struct BoundCalls(pub Quota);

impl<S> Layer<S> for BoundCalls {
    type Service = BoundedCalls<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BoundedCalls { inner, quota: self.0.clone() }
    }
}

/// The services behind the layer.
#[derive(Clone)]
pub(in crate::server) struct BoundedCalls<S> {
    inner: S,
    quota: Quota,
}

impl<S> Service<Request<Body>> for BoundedCalls<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Send + 'static, Future: Send + 'static>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if request.uri().path().starts_with(PEERS) {
            return Box::pin(self.inner.call(request));
        }
        let held = HeldPermits::default();
        match self.quota.take(origin(&request)) {
            Ok(permit) => held.add(permit),
            Err(full) => {
                let refused = Status::from(overloaded(&format!("too many calls are under way: {full}"))).into_http();
                return Box::pin(std::future::ready(Ok(refused)));
            }
        }
        request.extensions_mut().insert(held.clone());
        let answering = self.inner.call(request.map(|body| Body::new(Arriving::new(body))));
        Box::pin(async move { Ok(answering.await?.map(|body| Body::new(Leaving { body, _held: held }))) })
    }
}

fn origin(request: &Request<Body>) -> Option<Origin> {
    let connection = request.extensions().get::<TcpConnectInfo>()?;
    connection.remote_addr().map(|address| Origin::of(address.ip()))
}

/// A request's body with a deadline for its arrival. The timer starts only when a read has to wait, because most
/// requests arrive with their headers and never need it.
struct Arriving {
    body: Body,
    deadline: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Arriving {
    fn new(body: Body) -> Self {
        Self { body, deadline: Instant::now() + limits::ARRIVAL, timer: None }
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_ready() {
            return frame;
        }
        let deadline = self.deadline;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        timer.as_mut().poll(cx).map(|()| {
            let fault = Fault::new(Reason::Timeout, "the request did not arrive in time");
            Some(Err(fault.next("send a request without pauses").into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body. It is dropped when the last byte has left or the client has gone away, and the call's permits with
/// it.
struct Leaving {
    body: Body,
    _held: HeldPermits,
}

impl http_body::Body for Leaving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, task::Waker};

    use http_body::Body as _;
    use tower::service_fn;

    use super::*;

    /// A body that never yields a frame.
    struct Silent;

    impl http_body::Body for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    fn request(path: &str) -> Request<Body> {
        Request::builder().uri(path).body(Body::new(Silent)).unwrap()
    }

    async fn frame(body: &mut Body) -> Option<Result<Frame<Bytes>, Status>> {
        std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
    }

    fn code(response: &Response<Body>) -> Option<tonic::Code> {
        Status::from_header_map(response.headers()).map(|status| status.code())
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_arrive_ends_with_a_timeout() {
        let begun = Instant::now();
        let mut body = Body::new(Arriving::new(Body::new(Silent)));
        let status = frame(&mut body).await.unwrap().unwrap_err();
        assert_eq!(Fault::from_status(&status).reason, Reason::Timeout);
        assert_eq!(begun.elapsed().as_secs(), limits::ARRIVAL.as_secs());
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_keeps_its_permit_and_peers_need_none() {
        let answer = |_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::new(Silent))) };
        let mut service = BoundCalls(Quota::new(1)).layer(service_fn(answer));
        let unread = service.call(request("/chat.v1.MessageService/ListMessages")).await.unwrap();
        assert_eq!(code(&unread), None);
        let refused = service.call(request("/chat.v1.MessageService/ListMessages")).await.unwrap();
        assert_eq!(code(&refused), Some(tonic::Code::ResourceExhausted));
        let peer = service.call(request("/chat.raft.v1.RaftService/Append")).await.unwrap();
        assert_eq!(code(&peer), None);
        drop(unread);
        assert_eq!(code(&service.call(request("/chat.v1.MessageService/ListMessages")).await.unwrap()), None);
    }

    #[test]
    fn a_body_that_has_arrived_starts_no_timer() {
        let mut arriving = Arriving { body: Body::empty(), deadline: Instant::now(), timer: None };
        let polled = Pin::new(&mut arriving).poll_frame(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(None)) && arriving.timer.is_none());
    }
}
