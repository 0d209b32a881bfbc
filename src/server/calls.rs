//! Calls: bounded in number from the first byte of each until its answer has left, and in the time they may take to
//! arrive.
//!
//! Here and not where they are worked on, because a request that is still arriving and an answer that nobody takes cost
//! as much memory as one that is being worked on, and are not seen there. What peers say to each other is not counted:
//! their streams live long, and a flood of clients must not part them.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body, transport::server::TcpConnectInfo};
use tower::{Layer, Service};

use super::{
    desk::overloaded,
    places::{Place, Places},
    rates::Origin,
};
use crate::{
    types::limits,
    wire::{Fault, Reason},
};

/// Whose calls are not counted.
const PEERS: &str = "/chat.raft.v1.RaftService/";

/// Gives every call a place, or refuses it.
#[derive(Clone)]
pub(super) struct BoundCalls(pub Places);

impl<S> Layer<S> for BoundCalls {
    type Service = BoundedCalls<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BoundedCalls { inner, places: self.0.clone() }
    }
}

/// What a call holds until its answer has left. Cheap to clone; all clones are the same call's.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(Arc<Mutex<Vec<Place>>>);

impl Held {
    /// Holds one more place.
    pub fn hold(&self, place: Place) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(place);
    }
}

/// The services behind it.
#[derive(Clone)]
pub(super) struct BoundedCalls<S> {
    inner: S,
    places: Places,
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
        let held = Held::default();
        match self.places.take(origin(&request)) {
            Ok(place) => held.hold(place),
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

/// A request's body, which has so long to arrive.
struct Arriving {
    body: Body,
    until: Instant,
    late: Option<Pin<Box<Sleep>>>,
}

impl Arriving {
    fn new(body: Body) -> Self {
        Self { body, until: Instant::now() + limits::ARRIVAL, late: None }
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
        let until = self.until;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep_until(until)));
        late.as_mut().poll(cx).map(|()| {
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

/// An answer's body, which keeps what its call holds until it is gone.
struct Leaving {
    body: Body,
    _held: Held,
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

    /// A body that never says anything.
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
    async fn a_request_that_does_not_arrive_is_given_up_by_name() {
        let begun = Instant::now();
        let mut body = Body::new(Arriving::new(Body::new(Silent)));
        let status = frame(&mut body).await.unwrap().unwrap_err();
        assert_eq!(Fault::from_status(&status).reason, Reason::Timeout);
        assert_eq!(begun.elapsed().as_secs(), limits::ARRIVAL.as_secs());
    }

    #[tokio::test]
    async fn an_answer_that_nobody_takes_keeps_its_place_and_peers_need_none() {
        let answer = |_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::new(Silent))) };
        let mut service = BoundCalls(Places::new(1)).layer(service_fn(answer));
        let untaken = service.call(request("/chat.v1.MessageService/ListMessages")).await.unwrap();
        assert_eq!(code(&untaken), None);
        let refused = service.call(request("/chat.v1.MessageService/ListMessages")).await.unwrap();
        assert_eq!(code(&refused), Some(tonic::Code::ResourceExhausted));
        let peer = service.call(request("/chat.raft.v1.RaftService/Append")).await.unwrap();
        assert_eq!(code(&peer), None);
        drop(untaken);
        assert_eq!(code(&service.call(request("/chat.v1.MessageService/ListMessages")).await.unwrap()), None);
    }

    #[test]
    fn a_body_that_is_there_needs_no_clock() {
        let mut arriving = Arriving { body: Body::empty(), until: Instant::now(), late: None };
        let polled = Pin::new(&mut arriving).poll_frame(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(None)) && arriving.late.is_none());
    }
}
