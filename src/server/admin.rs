//! AdminService: the operator's calls, handed on to the node.

use std::sync::Arc;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::{
    cluster::stopped,
    desk::{Desk, Reply, shutting_down},
    translate::admin as translate,
};
use crate::{
    node::Progress,
    wire::{
        Fault,
        admin::{self, admin_service_server::AdminService},
    },
};

pub(super) struct Admin(pub Arc<Desk>);

type Changes = BoxStream<'static, Result<admin::ChangeProgress, Status>>;

/// A call whose answer is the progress of a change.
macro_rules! change {
    ($desk:expr, $method:literal, $request:expr, $check:path, $call:ident) => {
        $desk
            .answer_always($method, $request, |desk, _, request| async move {
                let request = $check(request)?;
                let progress: Progress = desk.node.$call(request).await?;
                Ok(streamed(&desk, progress))
            })
            .await
    };
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
        change!(self.0, "AddNode", request, translate::add_node, add_node)
    }

    async fn replace_node(&self, request: Request<admin::ReplaceNodeRequest>) -> Result<Response<Changes>, Status> {
        change!(self.0, "ReplaceNode", request, translate::replace_node, replace_node)
    }

    async fn remove_node(&self, request: Request<admin::RemoveNodeRequest>) -> Result<Response<Changes>, Status> {
        change!(self.0, "RemoveNode", request, translate::remove_node, remove_node)
    }

    async fn set_role(&self, request: Request<admin::SetRoleRequest>) -> Result<Response<Changes>, Status> {
        change!(self.0, "SetRole", request, translate::set_role, set_role)
    }

    async fn set_address(&self, request: Request<admin::SetAddressRequest>) -> Result<Response<Changes>, Status> {
        change!(self.0, "SetAddress", request, translate::set_address, set_address)
    }

    async fn transfer_leadership(
        &self,
        request: Request<admin::TransferLeadershipRequest>,
    ) -> Result<Response<admin::TransferLeadershipResponse>, Status> {
        self.0
            .answer_always("TransferLeadership", request, |desk, _, request| async move {
                let message = desk.node.transfer_leadership(translate::transfer_leadership(request)?).await?;
                Ok(reply(&desk, message))
            })
            .await
    }

    async fn trigger_snapshot(
        &self,
        request: Request<admin::TriggerSnapshotRequest>,
    ) -> Result<Response<admin::TriggerSnapshotResponse>, Status> {
        self.0
            .answer_always("TriggerSnapshot", request, |desk, _, _| async move {
                let index = desk.node.trigger_snapshot().await?;
                Ok(Reply { message: admin::TriggerSnapshotResponse { index }, index })
            })
            .await
    }

    async fn get_state_digest(
        &self,
        request: Request<admin::GetStateDigestRequest>,
    ) -> Result<Response<admin::GetStateDigestResponse>, Status> {
        self.0
            .answer_always("GetStateDigest", request, |desk, _, request| async move {
                let message = match request.exact_index {
                    0 => desk.node.state_digest(request.at_least_index).await?,
                    index => desk.node.state_digest_at(index).await?,
                };
                Ok(Reply { index: message.index, message })
            })
            .await
    }

    async fn create_backup(
        &self,
        request: Request<admin::CreateBackupRequest>,
    ) -> Result<Response<Self::CreateBackupStream>, Status> {
        self.0
            .answer_always("CreateBackup", request, |desk, _, _| async move {
                let frames = desk.node.backup().await?;
                let chunks = statuses(&desk, frames).map(|frame| frame.map(|data| admin::BackupChunk { data }));
                Ok(reply(&desk, chunks.boxed()))
            })
            .await
    }
}

fn reply<T>(desk: &Desk, message: T) -> Reply<T> {
    Reply { index: desk.node.membership().applied_index, message }
}

fn streamed(desk: &Desk, progress: Progress) -> Reply<Changes> {
    reply(desk, statuses(desk, progress).boxed())
}

/// What comes through `receiver`, until its end. A server that stops ends it with a fault: what is cut short must not
/// look complete.
fn statuses<T: Send + 'static>(
    desk: &Desk,
    receiver: mpsc::Receiver<Result<T, Fault>>,
) -> impl Stream<Item = Result<T, Status>> + Send + use<T> {
    stream::unfold(Some((desk.stopping.clone(), receiver)), async |state| {
        let (mut stopping, mut receiver) = state?;
        let item = tokio::select! {
            biased;
            item = receiver.recv() => item?,
            () = stopped(&mut stopping) => Err(shutting_down()),
        };
        let rest = item.is_ok().then_some((stopping, receiver));
        Some((item.map_err(Status::from), rest))
    })
}
