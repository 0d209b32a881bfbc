//! The standard health service (`grpc.health.v1`): liveness and readiness.
//!
//! Service `""` is SERVING as long as the process answers. Service `quorate` follows the node's readiness: whether a
//! load balancer should send clients to it.

use tokio::sync::watch;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::server::shutdown::Shutdown;

/// Name of the service whose health is this node's readiness.
const READINESS: &str = "quorate";

/// Keeps the readiness up to date until the server stops or the node is gone, and leaves it at NOT_SERVING.
pub(in crate::server) async fn follow(
    reporter: HealthReporter,
    mut readiness: watch::Receiver<bool>,
    mut shutdown: Shutdown,
) {
    loop {
        let ready = *readiness.borrow_and_update();
        set(&reporter, ready).await;
        tokio::select! {
            changed = readiness.changed() => if changed.is_err() { break },
            () = shutdown.requested() => break,
        }
    }
    set(&reporter, false).await;
}

async fn set(reporter: &HealthReporter, ready: bool) {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    reporter.set_service_status(READINESS, status).await;
}

#[cfg(test)]
mod tests {
    use tonic_health::pb::{HealthCheckRequest, health_server::Health};
    use tonic_health::server::{HealthService, health_reporter};

    use super::*;

    async fn status(service: &HealthService, name: &str) -> Option<i32> {
        let request = HealthCheckRequest { service: name.into() };
        service.check(tonic::Request::new(request)).await.ok().map(|reply| reply.into_inner().status)
    }

    async fn becomes(service: &HealthService, expected: Option<i32>) {
        let waiting = async {
            while status(service, READINESS).await != expected {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), waiting).await.expect("the status follows");
    }

    #[tokio::test]
    async fn readiness_follows_the_node_and_ends_with_the_server() {
        let (serving, not_serving) = (Some(1), Some(2));
        let (reporter, _) = health_reporter();
        let service = HealthService::from_health_reporter(reporter.clone());
        let (ready, readiness) = watch::channel(true);
        let (stop, shutdown) = Shutdown::channel();
        let following = tokio::spawn(follow(reporter, readiness, shutdown));
        for (now, expected) in [(true, serving), (false, not_serving), (true, serving)] {
            ready.send_replace(now);
            becomes(&service, expected).await;
        }
        stop.send();
        following.await.unwrap();
        assert_eq!(status(&service, READINESS).await, not_serving);
        assert_eq!(status(&service, "").await, serving, "alive all the same");
    }
}
