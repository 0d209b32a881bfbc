//! ConversationService: rooms and the inbox.

pub(in crate::server) mod convert;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    auth_queries,
    call::Call,
    check::Write,
    outcome::mismatch,
    service_context::{Method, Reply, ServiceContext},
};
use crate::{
    machine::{QueryError, query},
    types::ConversationId,
    wire::{
        Fault, Reason,
        chat::{self, conversation_service_server::ConversationService},
        store::outcome::Result as Outcome,
    },
};

pub(super) struct Conversations {
    pub context: Arc<ServiceContext>,
}

#[tonic::async_trait]
impl ConversationService for Conversations {
    async fn create_room(
        &self,
        request: Request<chat::CreateRoomRequest>,
    ) -> Result<Response<chat::CreateRoomResponse>, Status> {
        self.context
            .answer(Method::limited("CreateRoom"), request, |context, call, request| async move {
                let reply = change_room(&context, &call, convert::create_room(request)?).await?;
                Ok(reply.map(|conversation| chat::CreateRoomResponse { conversation }))
            })
            .await
    }

    async fn update_room(
        &self,
        request: Request<chat::UpdateRoomRequest>,
    ) -> Result<Response<chat::UpdateRoomResponse>, Status> {
        self.context
            .answer(Method::limited("UpdateRoom"), request, |context, call, request| async move {
                let reply = change_room(&context, &call, convert::update_room(request)?).await?;
                Ok(reply.map(|conversation| chat::UpdateRoomResponse { conversation }))
            })
            .await
    }

    async fn join_room(
        &self,
        request: Request<chat::JoinRoomRequest>,
    ) -> Result<Response<chat::JoinRoomResponse>, Status> {
        self.context
            .answer(Method::limited("JoinRoom"), request, |context, call, request| async move {
                let reply = change_room(&context, &call, convert::join_room(request)?).await?;
                Ok(reply.map(|conversation| chat::JoinRoomResponse { conversation }))
            })
            .await
    }

    async fn leave_room(
        &self,
        request: Request<chat::LeaveRoomRequest>,
    ) -> Result<Response<chat::LeaveRoomResponse>, Status> {
        self.context
            .answer(Method::limited("LeaveRoom"), request, |context, call, request| async move {
                let committed = context.write(&call, convert::leave_room(request)?).await?;
                Ok(Reply { message: chat::LeaveRoomResponse {}, index: committed.index })
            })
            .await
    }

    async fn list_conversations(
        &self,
        request: Request<chat::ListConversationsRequest>,
    ) -> Result<Response<chat::ListConversationsResponse>, Status> {
        self.context
            .answer(Method::limited("ListConversations"), request, |context, call, request| async move {
                let listing = convert::listing(request)?;
                context.query_as(&call, move |state, account| query::list_conversations(state, account, &listing)).await
            })
            .await
    }
}

/// Commits a change of a room and reads the room as the caller sees it after that.
///
/// `None` if the caller is no longer a member or its session has ended by then. The change was made all the same, so
/// this is no fault.
async fn change_room(
    context: &ServiceContext,
    call: &Call,
    write: Write,
) -> Result<Reply<Option<chat::Conversation>>, Fault> {
    let committed = context.write(call, write).await?;
    let Outcome::RoomChanged(changed) = &committed.outcome else { return Err(mismatch()) };
    let id = ConversationId(changed.conversation_id);
    let (key, now_ms) = (call.session()?, context.node.now_ms());
    context
        .query_after(&committed, call, move |state| {
            let read = auth_queries::live_account(state, key, now_ms);
            match read.and_then(|account| query::conversation(state, account, id)) {
                Err(QueryError::Refused(refusal))
                    if matches!(refusal.reason, Reason::ConversationNotFound | Reason::SessionInvalid) =>
                {
                    Ok(None)
                }
                room => room.map(Some),
            }
        })
        .await
}
