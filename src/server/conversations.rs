//! ConversationService.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    call::Call,
    desk::{Desk, Reply},
    translate::{Write, conversations as translate, outcome::mismatch},
    view,
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

pub(super) struct Conversations(pub Arc<Desk>);

#[tonic::async_trait]
impl ConversationService for Conversations {
    async fn create_room(
        &self,
        request: Request<chat::CreateRoomRequest>,
    ) -> Result<Response<chat::CreateRoomResponse>, Status> {
        self.0
            .answer("CreateRoom", request, |desk, call, request| async move {
                let reply = changed(&desk, &call, translate::create_room(request)?).await?;
                Ok(reply.map(|conversation| chat::CreateRoomResponse { conversation }))
            })
            .await
    }

    async fn update_room(
        &self,
        request: Request<chat::UpdateRoomRequest>,
    ) -> Result<Response<chat::UpdateRoomResponse>, Status> {
        self.0
            .answer("UpdateRoom", request, |desk, call, request| async move {
                let reply = changed(&desk, &call, translate::update_room(request)?).await?;
                Ok(reply.map(|conversation| chat::UpdateRoomResponse { conversation }))
            })
            .await
    }

    async fn join_room(
        &self,
        request: Request<chat::JoinRoomRequest>,
    ) -> Result<Response<chat::JoinRoomResponse>, Status> {
        self.0
            .answer("JoinRoom", request, |desk, call, request| async move {
                let reply = changed(&desk, &call, translate::join_room(request)?).await?;
                Ok(reply.map(|conversation| chat::JoinRoomResponse { conversation }))
            })
            .await
    }

    async fn leave_room(
        &self,
        request: Request<chat::LeaveRoomRequest>,
    ) -> Result<Response<chat::LeaveRoomResponse>, Status> {
        self.0
            .answer("LeaveRoom", request, |desk, call, request| async move {
                let done = desk.write(&call, translate::leave_room(request)?).await?;
                Ok(Reply { message: chat::LeaveRoomResponse {}, index: done.index })
            })
            .await
    }

    async fn list_conversations(
        &self,
        request: Request<chat::ListConversationsRequest>,
    ) -> Result<Response<chat::ListConversationsResponse>, Status> {
        self.0
            .answer("ListConversations", request, |desk, call, request| async move {
                let listing = translate::listing(request)?;
                desk.query_as(&call, move |state, account| query::list_conversations(state, account, &listing)).await
            })
            .await
    }
}

/// Agrees on a change of a room and reads the room as the caller sees it then: nothing, if by then it is no member or
/// its session has ended. The change was made all the same.
async fn changed(desk: &Desk, call: &Call, write: Write) -> Result<Reply<Option<chat::Conversation>>, Fault> {
    let done = desk.write(call, write).await?;
    let Outcome::RoomChanged(changed) = &done.outcome else { return Err(mismatch()) };
    let id = ConversationId(changed.conversation_id);
    let (key, now_ms) = (call.session()?, desk.node.clock().now_ms());
    desk.query_after(&done, call, move |state| {
        let seen = view::live_account(state, key, now_ms).and_then(|account| query::conversation(state, account, id));
        match seen {
            Err(QueryError::Refused(refusal))
                if matches!(refusal.reason, Reason::ConversationNotFound | Reason::SessionInvalid) =>
            {
                Ok(None)
            }
            seen => seen.map(Some),
        }
    })
    .await
}
