//! MessageService: sending, listing, reading and deleting messages.

pub(in crate::server) mod convert;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    auth_queries,
    call::Call,
    outcome::mismatch,
    service_context::{Method, Reply, ServiceContext},
};
use crate::{
    machine::query,
    wire::{
        Fault,
        chat::{self, message_service_server::MessageService},
        store::outcome::Result as Outcome,
    },
};

pub(super) struct Messages {
    pub context: Arc<ServiceContext>,
}

#[tonic::async_trait]
impl MessageService for Messages {
    async fn send_message(
        &self,
        request: Request<chat::SendMessageRequest>,
    ) -> Result<Response<chat::SendMessageResponse>, Status> {
        self.context.answer(Method::limited("SendMessage"), request, send_message).await
    }

    async fn list_messages(
        &self,
        request: Request<chat::ListMessagesRequest>,
    ) -> Result<Response<chat::ListMessagesResponse>, Status> {
        self.context
            .answer(Method::limited("ListMessages"), request, |context, call, request| async move {
                let listing = convert::listing(request)?;
                context.query_as(&call, move |state, account| query::list_messages(state, account, &listing)).await
            })
            .await
    }

    async fn mark_read(
        &self,
        request: Request<chat::MarkReadRequest>,
    ) -> Result<Response<chat::MarkReadResponse>, Status> {
        self.context.answer(Method::limited("MarkRead"), request, mark_read).await
    }

    async fn delete_messages(
        &self,
        request: Request<chat::DeleteMessagesRequest>,
    ) -> Result<Response<chat::DeleteMessagesResponse>, Status> {
        self.context
            .answer(Method::limited("DeleteMessages"), request, |context, call, request| async move {
                let committed = context.write(&call, convert::delete_messages(request)?).await?;
                let Outcome::MessagesDeleted(deleted) = committed.outcome else { return Err(mismatch()) };
                let message = chat::DeleteMessagesResponse { deleted_count: deleted.count };
                Ok(Reply { message, index: committed.index })
            })
            .await
    }
}

/// Commits the message. The reply is built from the outcome and the request, without another read: this is the hot
/// path.
async fn send_message(
    context: Arc<ServiceContext>,
    call: Call,
    request: chat::SendMessageRequest,
) -> Result<Reply<chat::SendMessageResponse>, Fault> {
    let (write, body) = convert::send_message(request)?;
    let committed = context.write(&call, write).await?;
    let Outcome::MessageSent(sent) = committed.outcome else { return Err(mismatch()) };
    Ok(Reply { message: convert::sent(sent, body, committed.deduplicated), index: committed.index })
}

/// Commits the read mark and counts the unread messages of all conversations, in a view that includes the mark.
async fn mark_read(
    context: Arc<ServiceContext>,
    call: Call,
    request: chat::MarkReadRequest,
) -> Result<Reply<chat::MarkReadResponse>, Fault> {
    let committed = context.write(&call, convert::mark_read(request)?).await?;
    let (key, now_ms) = (call.session()?, context.node.now_ms());
    let unread = context.query_after(&committed, &call, move |state| {
        Ok(query::unread_total(state, auth_queries::live_account(state, key, now_ms)?)?)
    });
    Ok(unread.await?.map(|unread_count| chat::MarkReadResponse { unread_count }))
}
