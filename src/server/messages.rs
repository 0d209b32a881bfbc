//! MessageService.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    call::Call,
    desk::{Desk, Reply},
    translate::{messages as translate, outcome::mismatch},
    view,
};
use crate::{
    machine::query,
    wire::{
        Fault,
        chat::{self, message_service_server::MessageService},
        store::{command::Verb, outcome::Result as Outcome},
    },
};

pub(super) struct Messages(pub Arc<Desk>);

#[tonic::async_trait]
impl MessageService for Messages {
    async fn send_message(
        &self,
        request: Request<chat::SendMessageRequest>,
    ) -> Result<Response<chat::SendMessageResponse>, Status> {
        self.0.answer("SendMessage", request, send_message).await
    }

    async fn list_messages(
        &self,
        request: Request<chat::ListMessagesRequest>,
    ) -> Result<Response<chat::ListMessagesResponse>, Status> {
        self.0
            .answer("ListMessages", request, |desk, call, request| async move {
                let listing = translate::listing(request)?;
                desk.query_as(&call, move |state, account| query::list_messages(state, account, &listing)).await
            })
            .await
    }

    async fn mark_read(
        &self,
        request: Request<chat::MarkReadRequest>,
    ) -> Result<Response<chat::MarkReadResponse>, Status> {
        self.0.answer("MarkRead", request, mark_read).await
    }

    async fn delete_messages(
        &self,
        request: Request<chat::DeleteMessagesRequest>,
    ) -> Result<Response<chat::DeleteMessagesResponse>, Status> {
        self.0
            .answer("DeleteMessages", request, |desk, call, request| async move {
                let done = desk.write(&call, translate::delete_messages(request)?).await?;
                let Outcome::MessagesDeleted(deleted) = done.outcome else { return Err(mismatch()) };
                let message = chat::DeleteMessagesResponse { deleted_count: deleted.count };
                Ok(Reply { message, index: done.index })
            })
            .await
    }
}

async fn send_message(
    desk: Arc<Desk>,
    call: Call,
    request: chat::SendMessageRequest,
) -> Result<Reply<chat::SendMessageResponse>, Fault> {
    let write = translate::send_message(request)?;
    let Verb::SendMessage(send) = &write.verb else { return Err(mismatch()) };
    // The reply shows the body again; the outcome does not carry it.
    let body = send.body.clone();
    let done = desk.write(&call, write).await?;
    let Outcome::MessageSent(sent) = done.outcome else { return Err(mismatch()) };
    Ok(Reply { message: translate::sent(sent, body, done.deduplicated), index: done.index })
}

async fn mark_read(
    desk: Arc<Desk>,
    call: Call,
    request: chat::MarkReadRequest,
) -> Result<Reply<chat::MarkReadResponse>, Fault> {
    let done = desk.write(&call, translate::mark_read(request)?).await?;
    let (key, now_ms) = (call.session()?, desk.node.clock().now_ms());
    let unread = desk.query_after(&done, &call, move |state| {
        Ok(query::unread_total(state, view::live_account(state, key, now_ms)?)?)
    });
    Ok(unread.await?.map(|unread_count| chat::MarkReadResponse { unread_count }))
}
