//! Calls on conversations and rooms: list, find, create, change, join, leave.

use super::Session;
use crate::{
    types::{ConversationId, limits, normal_form},
    wire::{
        Fault, Reason,
        chat::{self, conversation_service_client::ConversationServiceClient},
    },
};

impl Session {
    /// One page of the account's conversations, with unread counts.
    pub async fn inbox(
        &self,
        unread_only: bool,
        page_size: i32,
        page_token: &str,
    ) -> Result<chat::ListConversationsResponse, Fault> {
        let page_token = page_token.to_owned();
        self.conversations(chat::ListConversationsRequest { unread_only, joinable: false, page_size, page_token }).await
    }

    /// One page of conversations, as `request` selects them.
    pub async fn conversations(
        &self,
        request: chat::ListConversationsRequest,
    ) -> Result<chat::ListConversationsResponse, Fault> {
        self.read(request, |channel, request| async move {
            ConversationServiceClient::new(channel).list_conversations(request).await
        })
        .await
    }

    /// All pages of [`Session::conversations`] in one list: the account's conversations, or with `joinable` the rooms
    /// that it may join, with `unread_only` those that hold something unread. Stops at the number of conversations
    /// that one account may be in.
    pub async fn all_conversations(&self, joinable: bool, unread_only: bool) -> Result<Vec<chat::Conversation>, Fault> {
        let mut found = Vec::new();
        let mut page_token = String::new();
        while found.len() < limits::CONVERSATIONS_PER_ACCOUNT {
            let page_size = limits::PAGE_SIZE as i32;
            let request = chat::ListConversationsRequest { unread_only, joinable, page_size, page_token };
            let page = self.conversations(request).await?;
            found.extend(page.conversations);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    /// The room with this title, typed on whatever keyboard: among the account's own rooms, or else among the rooms that it may join.
    ///
    /// # Errors
    /// CONVERSATION_NOT_FOUND if there is none, AMBIGUOUS if there are several.
    pub async fn room_titled(&self, title: &str) -> Result<ConversationId, Fault> {
        let wanted = normal_form(title);
        for joinable in [false, true] {
            let mut rooms = self.all_conversations(joinable, false).await?;
            // Rooms that are older than the rule may have a title in another form.
            rooms.retain(|room| !room.direct && normal_form(&room.title) == wanted);
            match &rooms[..] {
                [] => {}
                [room] => {
                    let invalid =
                        |error| Fault::new(Reason::Internal, format!("the server sent an invalid room id: {error}"));
                    return room.conversation_id.parse().map_err(invalid);
                }
                several => {
                    let ids: Vec<&str> = several.iter().map(|room| room.conversation_id.as_str()).collect();
                    let what = format!("several rooms are called {title:?}: {}", ids.join(", "));
                    return Err(Fault::new(Reason::Ambiguous, what).next("name the one you mean by its id"));
                }
            }
        }
        let what = format!("there is no room called {title:?} that you may see");
        Err(Fault::new(Reason::ConversationNotFound, what).next("`chat rooms` lists them"))
    }

    /// Creates a room with these members besides the caller. A private room admits members by invitation only.
    pub async fn create_room(
        &self,
        title: &str,
        private: bool,
        members: Vec<String>,
    ) -> Result<chat::Conversation, Fault> {
        let id = self.cluster.request_id();
        let request = chat::CreateRoomRequest { request_id: id.to_string(), title: title.to_owned(), private, members };
        let call = |channel, request| async move { ConversationServiceClient::new(channel).create_room(request).await };
        Ok(self.write(id, request, call).await?.conversation.unwrap_or_default())
    }

    /// Changes the title of a room.
    pub async fn rename_room(&self, room: ConversationId, title: &str) -> Result<chat::Conversation, Fault> {
        self.update_room(room, Some(title.to_owned()), Vec::new(), Vec::new()).await
    }

    /// Adds members to a room.
    pub async fn invite(&self, room: ConversationId, members: Vec<String>) -> Result<chat::Conversation, Fault> {
        self.update_room(room, None, members, Vec::new()).await
    }

    /// Removes members from a room.
    pub async fn kick(&self, room: ConversationId, members: Vec<String>) -> Result<chat::Conversation, Fault> {
        self.update_room(room, None, Vec::new(), members).await
    }

    async fn update_room(
        &self,
        room: ConversationId,
        title: Option<String>,
        add_members: Vec<String>,
        remove_members: Vec<String>,
    ) -> Result<chat::Conversation, Fault> {
        let id = self.cluster.request_id();
        let (request_id, conversation_id) = (id.to_string(), room.to_string());
        let request = chat::UpdateRoomRequest { request_id, conversation_id, title, add_members, remove_members };
        let call = |channel, request| async move { ConversationServiceClient::new(channel).update_room(request).await };
        Ok(self.write(id, request, call).await?.conversation.unwrap_or_default())
    }

    /// Joins a public room.
    pub async fn join_room(&self, room: ConversationId) -> Result<chat::Conversation, Fault> {
        let id = self.cluster.request_id();
        let request = chat::JoinRoomRequest { request_id: id.to_string(), conversation_id: room.to_string() };
        let call = |channel, request| async move { ConversationServiceClient::new(channel).join_room(request).await };
        Ok(self.write(id, request, call).await?.conversation.unwrap_or_default())
    }

    /// Leaves a room.
    pub async fn leave_room(&self, room: ConversationId) -> Result<(), Fault> {
        let id = self.cluster.request_id();
        let request = chat::LeaveRoomRequest { request_id: id.to_string(), conversation_id: room.to_string() };
        let call = |channel, request| async move { ConversationServiceClient::new(channel).leave_room(request).await };
        self.write(id, request, call).await.map(|_| ())
    }
}
