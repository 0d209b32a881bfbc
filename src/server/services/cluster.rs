//! ClusterService: discovery.
//!
//! It needs no session, counts against no rate limit and never waits for a quorum, so that clients and operators find
//! their way in a cluster that has lost its leader.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use tonic::{Request, Response, Status};

use super::service_context::{Method, Reply, ServiceContext};
use crate::{
    server::faults::shutting_down,
    wire::cluster::{self, cluster_service_server::ClusterService},
};

pub(super) struct Cluster {
    pub context: Arc<ServiceContext>,
}

type Memberships = BoxStream<'static, Result<cluster::GetMembershipResponse, Status>>;

#[tonic::async_trait]
impl ClusterService for Cluster {
    type WatchMembershipStream = Memberships;

    async fn get_membership(
        &self,
        request: Request<cluster::GetMembershipRequest>,
    ) -> Result<Response<cluster::GetMembershipResponse>, Status> {
        let method = Method::exempt("GetMembership");
        self.context.answer(method, request, |context, _, _| async move { Ok(membership(&context)) }).await
    }

    async fn watch_membership(
        &self,
        request: Request<cluster::GetMembershipRequest>,
    ) -> Result<Response<Memberships>, Status> {
        let method = Method::exempt("WatchMembership");
        self.context.answer(method, request, |context, _, _| async move { Ok(watch(context)) }).await
    }
}

fn membership(context: &ServiceContext) -> Reply<cluster::GetMembershipResponse> {
    let message = context.node.membership();
    Reply { index: message.applied_index, message }
}

/// Sends the membership now and after every change. Changes that come faster than the client reads are merged into one
/// message, so a slow client costs one message at most.
fn watch(context: Arc<ServiceContext>) -> Reply<Memberships> {
    let index = membership(&context).index;
    let mut changes = context.node.membership_changes();
    changes.mark_changed();
    let state = Some((context.shutdown.clone(), changes, context));
    let stream = stream::unfold(state, async |state| {
        let (mut shutdown, mut changes, context) = state?;
        let goes_on = tokio::select! {
            biased;
            () = shutdown.requested() => false,
            changed = changes.changed() => changed.is_ok(),
        };
        if goes_on {
            let message = membership(&context).message;
            Some((Ok(message), Some((shutdown, changes, context))))
        } else {
            Some((Err(shutting_down().into()), None))
        }
    });
    Reply { message: stream.boxed(), index }
}
