//! ClusterService: discovery. Needs no session and never waits for a quorum.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::desk::{Desk, Reply, shutting_down};
use crate::wire::cluster::{self, cluster_service_server::ClusterService};

pub(super) struct Cluster(pub Arc<Desk>);

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn get_membership(
        &self,
        request: Request<cluster::GetMembershipRequest>,
    ) -> Result<Response<cluster::GetMembershipResponse>, Status> {
        self.0.answer_always("GetMembership", request, |desk, _, _| async move { Ok(now(&desk)) }).await
    }

    type WatchMembershipStream = BoxStream<'static, Result<cluster::GetMembershipResponse, Status>>;

    async fn watch_membership(
        &self,
        request: Request<cluster::GetMembershipRequest>,
    ) -> Result<Response<Self::WatchMembershipStream>, Status> {
        self.0.answer_always("WatchMembership", request, |desk, _, _| async move { Ok(watching(desk)) }).await
    }
}

fn now(desk: &Desk) -> Reply<cluster::GetMembershipResponse> {
    let message = desk.node.membership();
    Reply { index: message.applied_index, message }
}

/// What is known now, then again after every change; changes that come faster than the caller reads are one.
fn watching(desk: Arc<Desk>) -> Reply<BoxStream<'static, Result<cluster::GetMembershipResponse, Status>>> {
    let index = now(&desk).index;
    let mut changes = desk.node.membership_changes();
    changes.mark_changed();
    let state = Some((desk.stopping.clone(), changes, desk));
    let stream = stream::unfold(state, async |state| {
        let (mut stopping, mut changes, desk) = state?;
        let goes_on = tokio::select! {
            biased;
            () = stopped(&mut stopping) => false,
            changed = changes.changed() => changed.is_ok(),
        };
        if goes_on {
            let message = now(&desk).message;
            Some((Ok(message), Some((stopping, changes, desk))))
        } else {
            Some((Err(shutting_down().into()), None))
        }
    });
    Reply { message: stream.boxed(), index }
}

/// Waits until the server stops.
pub(super) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the server is gone, which is as good as stopped.
    let _ = stopping.wait_for(|stop| *stop).await;
}
