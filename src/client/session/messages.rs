//! Calls on messages: send, read, mark as read, delete.

use super::Session;
use crate::{
    types::{ConversationId, RequestId},
    wire::{
        Fault,
        chat::{self, list_messages_request, message_service_client::MessageServiceClient, send_message_request},
    },
};

/// The conversation that a message goes to, or that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// The direct conversation with this account.
    Username(String),
    /// A conversation by its id.
    Conversation(ConversationId),
}

impl Session {
    /// Sends a message.
    pub async fn send(&self, to: &Recipient, body: &str) -> Result<chat::SendMessageResponse, Fault> {
        self.send_as(self.cluster.request_id(), to, body).await
    }

    /// Sends a message under a given request_id. Within a day, however often and from wherever it is repeated, the
    /// message is sent once; a repetition gets the first answer again, with `deduplicated` set.
    pub async fn send_as(&self, id: RequestId, to: &Recipient, body: &str) -> Result<chat::SendMessageResponse, Fault> {
        let recipient = match to {
            Recipient::Username(name) => send_message_request::Recipient::Username(name.clone()),
            Recipient::Conversation(id) => send_message_request::Recipient::ConversationId(id.to_string()),
        };
        let request =
            chat::SendMessageRequest { request_id: id.to_string(), recipient: Some(recipient), body: body.to_owned() };
        let call = |channel, request| async move { MessageServiceClient::new(channel).send_message(request).await };
        self.write(id, request, call).await
    }

    /// One page of messages, as `request` selects them. `of` replaces its recipient; `None` means all conversations.
    pub async fn messages(
        &self,
        of: Option<&Recipient>,
        request: chat::ListMessagesRequest,
    ) -> Result<chat::ListMessagesResponse, Fault> {
        let recipient = of.map(|of| match of {
            Recipient::Username(name) => list_messages_request::Recipient::Username(name.clone()),
            Recipient::Conversation(id) => list_messages_request::Recipient::ConversationId(id.to_string()),
        });
        let request = chat::ListMessagesRequest { recipient, ..request };
        let call = |channel, request| async move { MessageServiceClient::new(channel).list_messages(request).await };
        self.read(request, call).await
    }

    /// Marks these messages, and no others, as read. Returns the account's unread count over all conversations.
    pub async fn mark_read(&self, messages: Vec<chat::MessageRef>) -> Result<u64, Fault> {
        self.mark(chat::MarkReadRequest { messages, ..Default::default() }).await
    }

    /// Marks a conversation as read up to `seq` (0: all of it). Returns the account's unread count.
    pub async fn mark_read_up_to(&self, conversation: ConversationId, seq: u64) -> Result<u64, Fault> {
        let conversation_id = conversation.to_string();
        self.mark(chat::MarkReadRequest { conversation_id, up_to_seq: seq, ..Default::default() }).await
    }

    async fn mark(&self, request: chat::MarkReadRequest) -> Result<u64, Fault> {
        let id = self.cluster.request_id();
        let request = chat::MarkReadRequest { request_id: id.to_string(), ..request };
        let call = |channel, request| async move { MessageServiceClient::new(channel).mark_read(request).await };
        Ok(self.write(id, request, call).await?.unread_count)
    }

    /// Deletes messages for this account, or, if it wrote them, for everyone. Returns how many were deleted.
    pub async fn delete(&self, messages: Vec<chat::MessageRef>, for_everyone: bool) -> Result<u32, Fault> {
        let id = self.cluster.request_id();
        let request = chat::DeleteMessagesRequest { request_id: id.to_string(), messages, for_everyone };
        let call = |channel, request| async move { MessageServiceClient::new(channel).delete_messages(request).await };
        Ok(self.write(id, request, call).await?.deleted_count)
    }
}
