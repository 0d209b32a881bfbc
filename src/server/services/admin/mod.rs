//! AdminService: the operator's calls.
//!
//! A membership change runs on the leader and goes on when the caller disconnects; its reply is a stream of progress.
//! The service has no session and no rate limit: the network decides who is an operator.

pub(in crate::server) mod convert;

use std::{future::Future, sync::Arc};

use futures::stream::{self, BoxStream, Stream, StreamExt};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::service_context::{Method, Reply, ServiceContext};
use crate::{
    node::{Node, Progress},
    server::faults::shutting_down,
    wire::{
        Fault,
        admin::{self, admin_service_server::AdminService},
    },
};

pub(super) struct Admin {
    pub context: Arc<ServiceContext>,
}

type Changes = BoxStream<'static, Result<admin::ChangeProgress, Status>>;

impl Admin {
    /// Starts a membership change and streams its progress. `start` checks the request and hands it to the node.
    async fn change<Q, F, Fut>(
        &self,
        method: &'static str,
        request: Request<Q>,
        start: F,
    ) -> Result<Response<Changes>, Status>
    where
        F: FnOnce(Node, Q) -> Fut,
        Fut: Future<Output = Result<Progress, Fault>>,
    {
        self.context
            .answer(Method::exempt(method), request, |context, _, request| async move {
                let progress = start(context.node.clone(), request).await?;
                Ok(reply(&context, until_shutdown(&context, progress).boxed()))
            })
            .await
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    type AddNodeStream = Changes;
    type ReplaceNodeStream = Changes;
    type RemoveNodeStream = Changes;
    type SetRoleStream = Changes;
    type SetAddressStream = Changes;
    type CreateBackupStream = BoxStream<'static, Result<admin::BackupChunk, Status>>;

    async fn add_node(&self, request: Request<admin::AddNodeRequest>) -> Result<Response<Changes>, Status> {
        let start = |node: Node, request| async move { node.add_node(convert::add_node(request)?).await };
        self.change("AddNode", request, start).await
    }

    async fn replace_node(&self, request: Request<admin::ReplaceNodeRequest>) -> Result<Response<Changes>, Status> {
        let start = |node: Node, request| async move { node.replace_node(convert::replace_node(request)?).await };
        self.change("ReplaceNode", request, start).await
    }

    async fn remove_node(&self, request: Request<admin::RemoveNodeRequest>) -> Result<Response<Changes>, Status> {
        let start = |node: Node, request| async move { node.remove_node(convert::remove_node(request)?).await };
        self.change("RemoveNode", request, start).await
    }

    async fn set_role(&self, request: Request<admin::SetRoleRequest>) -> Result<Response<Changes>, Status> {
        let start = |node: Node, request| async move { node.set_role(convert::set_role(request)?).await };
        self.change("SetRole", request, start).await
    }

    async fn set_address(&self, request: Request<admin::SetAddressRequest>) -> Result<Response<Changes>, Status> {
        let start = |node: Node, request| async move { node.set_address(convert::set_address(request)?).await };
        self.change("SetAddress", request, start).await
    }

    async fn transfer_leadership(
        &self,
        request: Request<admin::TransferLeadershipRequest>,
    ) -> Result<Response<admin::TransferLeadershipResponse>, Status> {
        self.context
            .answer(Method::exempt("TransferLeadership"), request, |context, _, request| async move {
                let message = context.node.transfer_leadership(convert::transfer_leadership(request)?).await?;
                Ok(reply(&context, message))
            })
            .await
    }

    async fn trigger_snapshot(
        &self,
        request: Request<admin::TriggerSnapshotRequest>,
    ) -> Result<Response<admin::TriggerSnapshotResponse>, Status> {
        self.context
            .answer(Method::exempt("TriggerSnapshot"), request, |context, _, _| async move {
                let index = context.node.trigger_snapshot().await?;
                Ok(Reply { message: admin::TriggerSnapshotResponse { index }, index })
            })
            .await
    }

    async fn correct_time(
        &self,
        request: Request<admin::CorrectTimeRequest>,
    ) -> Result<Response<admin::CorrectTimeResponse>, Status> {
        self.context
            .answer(Method::exempt("CorrectTime"), request, |context, _, request| async move {
                let (validate_only, clients_ahead) = convert::correct_time(request)?;
                let corrected = context.node.correct_time(validate_only, clients_ahead).await?;
                Ok(reply(&context, convert::corrected_time(&corrected)))
            })
            .await
    }

    async fn get_state_digest(
        &self,
        request: Request<admin::GetStateDigestRequest>,
    ) -> Result<Response<admin::GetStateDigestResponse>, Status> {
        self.context
            .answer(Method::exempt("GetStateDigest"), request, |context, _, request| async move {
                let message = match request.exact_index {
                    0 => context.node.state_digest(request.at_least_index).await?,
                    index => context.node.state_digest_at(index).await?,
                };
                Ok(Reply { index: message.index, message })
            })
            .await
    }

    async fn create_backup(
        &self,
        request: Request<admin::CreateBackupRequest>,
    ) -> Result<Response<Self::CreateBackupStream>, Status> {
        self.context
            .answer(Method::exempt("CreateBackup"), request, |context, _, _| async move {
                let frames = context.node.backup().await?;
                let frames = until_shutdown(&context, frames);
                let chunks = frames.map(|frame| frame.map(|data| admin::BackupChunk { data }));
                Ok(reply(&context, chunks.boxed()))
            })
            .await
    }
}

fn reply<T>(context: &ServiceContext, message: T) -> Reply<T> {
    Reply { index: context.node.membership().applied_index, message }
}

/// The items of `receiver` until its end or its first fault. The server's shutdown ends the stream with a fault,
/// because a backup or a change that is cut short must not look complete.
fn until_shutdown<T: Send + 'static>(
    context: &ServiceContext,
    receiver: mpsc::Receiver<Result<T, Fault>>,
) -> impl Stream<Item = Result<T, Status>> + Send + use<T> {
    stream::unfold(Some((context.shutdown.clone(), receiver)), async |state| {
        let (mut shutdown, mut receiver) = state?;
        let item = tokio::select! {
            biased;
            item = receiver.recv() => item?,
            () = shutdown.requested() => Err(shutting_down()),
        };
        let rest = item.is_ok().then_some((shutdown, receiver));
        Some((item.map_err(Status::from), rest))
    })
}
