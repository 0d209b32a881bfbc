//! An account's signed-in view of the cluster.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tonic::{Request, Response, Status, metadata::AsciiMetadataValue, transport::Channel};

use super::{Cluster, Start, Subscription, effort::Kind};
use crate::{
    types::{Consistency, ConversationId, RequestId},
    wire::{
        Fault,
        chat::{
            self, account_service_client::AccountServiceClient, conversation_service_client::ConversationServiceClient,
            list_messages_request, message_service_client::MessageServiceClient, send_message_request,
        },
        metadata,
    },
};

/// The metadata key of a fault that names the write's request_id.
pub(super) const REQUEST_ID: &str = "request_id";

/// To whom a message goes, or whose timeline is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// The direct conversation with this account.
    Username(String),
    /// A conversation by its id.
    Conversation(ConversationId),
}

/// A signed-in account. Cheap to clone; clones share the token and the last index seen.
///
/// Every write mints a request_id and repeats with the same one; where a caller needs to repeat a write beyond its
/// deadline, `_as` forms take the id. The request_id stands in a fault's metadata under `request_id`.
#[derive(Clone)]
pub struct Session {
    cluster: Cluster,
    authorization: AsciiMetadataValue,
    index: Arc<AtomicU64>,
    consistency: Consistency,
}

impl Session {
    /// Creates an account. Does not sign in.
    pub async fn register(cluster: &Cluster, username: &str, password: &str) -> Result<chat::Account, Fault> {
        Self::register_as(cluster, cluster.request_id(), username, password).await
    }

    /// Creates an account under a request_id of the caller's, to repeat an attempt whose outcome is unknown.
    pub async fn register_as(
        cluster: &Cluster,
        request_id: RequestId,
        username: &str,
        password: &str,
    ) -> Result<chat::Account, Fault> {
        let request = chat::CreateAccountRequest {
            request_id: request_id.to_string(),
            username: username.to_owned(),
            password: password.to_owned(),
        };
        let caller = Caller { cluster, authorization: None, index: None };
        let call = |channel, request| async move { AccountServiceClient::new(channel).create_account(request).await };
        let response = caller.write(request_id, request, call).await?;
        Ok(response.account.unwrap_or_default())
    }

    /// Signs in. `device` labels the session in listings. The answer bears the token, for [`Session::resume`].
    pub async fn login(
        cluster: &Cluster,
        username: &str,
        password: &str,
        device: &str,
    ) -> Result<(Self, chat::CreateSessionResponse), Fault> {
        let request_id = cluster.request_id();
        let request = chat::CreateSessionRequest {
            request_id: request_id.to_string(),
            username: username.to_owned(),
            password: password.to_owned(),
            device: device.to_owned(),
        };
        let index = Arc::new(AtomicU64::new(0));
        let caller = Caller { cluster, authorization: None, index: Some(&index) };
        let call = |channel, request| async move { AccountServiceClient::new(channel).create_session(request).await };
        let response = caller.write(request_id, request, call).await?;
        let session = Self::resume(cluster, &response.token)?;
        session.index.store(index.load(Ordering::Relaxed), Ordering::Relaxed);
        Ok((session, response))
    }

    /// Goes on with a session signed in before. Asks no node: a token that ended shows at the first call.
    pub fn resume(cluster: &Cluster, token: &str) -> Result<Self, Fault> {
        let mut authorization: AsciiMetadataValue =
            format!("Bearer {token}").parse().map_err(|_| Fault::invalid("token", "the session's token is damaged"))?;
        authorization.set_sensitive(true);
        let index = Arc::new(AtomicU64::new(0));
        Ok(Self { cluster: cluster.clone(), authorization, index, consistency: Consistency::default() })
    }

    /// The same session, with reads as fresh as `consistency` asks. `AtLeast(session.index())` reads its own writes
    /// without a quorum round.
    #[must_use]
    pub fn reading(&self, consistency: Consistency) -> Self {
        Self { consistency, ..self.clone() }
    }

    /// The same session by way of another client of the same cluster, with connections of its own.
    #[must_use]
    pub fn through(&self, cluster: &Cluster) -> Self {
        Self { cluster: cluster.clone(), ..self.clone() }
    }

    /// The newest log index that any answer reflected.
    pub fn index(&self) -> u64 {
        self.index.load(Ordering::Relaxed)
    }

    /// The cluster it calls.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Ends this session, the one with `session_id`, or (`all`) every session of the account.
    pub async fn logout(&self, session_id: Option<&str>, all: bool) -> Result<(), Fault> {
        let id = self.cluster.request_id();
        let session_id = session_id.unwrap_or_default().to_owned();
        let request = chat::DeleteSessionRequest { request_id: id.to_string(), session_id, all };
        let call = |channel, request| async move { AccountServiceClient::new(channel).delete_session(request).await };
        self.write(id, request, call).await.map(|_| ())
    }

    /// The account's sessions.
    pub async fn sessions(&self) -> Result<Vec<chat::Session>, Fault> {
        let call = |channel, request| async move { AccountServiceClient::new(channel).list_sessions(request).await };
        Ok(self.read(chat::ListSessionsRequest {}, call).await?.sessions)
    }

    /// Changes the password; every other session ends.
    pub async fn change_password(&self, old_password: &str, new_password: &str) -> Result<(), Fault> {
        let id = self.cluster.request_id();
        let request = chat::ChangePasswordRequest {
            request_id: id.to_string(),
            old_password: old_password.to_owned(),
            new_password: new_password.to_owned(),
        };
        let call = |channel, request| async move { AccountServiceClient::new(channel).change_password(request).await };
        self.write(id, request, call).await.map(|_| ())
    }

    /// Deletes the account, and its messages if asked; answers with how many were erased.
    pub async fn delete_account(&self, password: &str, erase_messages: bool) -> Result<u64, Fault> {
        let id = self.cluster.request_id();
        let request =
            chat::DeleteAccountRequest { request_id: id.to_string(), password: password.to_owned(), erase_messages };
        let call = |channel, request| async move { AccountServiceClient::new(channel).delete_account(request).await };
        Ok(self.write(id, request, call).await?.messages_erased)
    }

    /// Accounts whose names match `pattern` (`*` and `?`; empty: all), by name. `page_size` 0 leaves it to the server.
    pub async fn users(
        &self,
        pattern: &str,
        page_size: i32,
        page_token: &str,
    ) -> Result<chat::ListAccountsResponse, Fault> {
        let (pattern, page_token) = (pattern.to_owned(), page_token.to_owned());
        let request = chat::ListAccountsRequest { pattern, page_size, page_token };
        self.read(
            request,
            |channel, request| async move { AccountServiceClient::new(channel).list_accounts(request).await },
        )
        .await
    }

    /// Sends a message.
    pub async fn send(&self, to: &Recipient, body: &str) -> Result<chat::SendMessageResponse, Fault> {
        self.send_as(self.cluster.request_id(), to, body).await
    }

    /// Sends a message under a request_id of the caller's, to repeat a send whose outcome is unknown.
    pub async fn send_as(&self, id: RequestId, to: &Recipient, body: &str) -> Result<chat::SendMessageResponse, Fault> {
        let recipient = match to {
            Recipient::Username(name) => send_message_request::Recipient::Username(name.clone()),
            Recipient::Conversation(id) => send_message_request::Recipient::ConversationId(id.to_string()),
        };
        let request =
            chat::SendMessageRequest { request_id: id.to_string(), recipient: Some(recipient), body: body.to_owned() };
        self.write(id, request, |channel, request| async move {
            MessageServiceClient::new(channel).send_message(request).await
        })
        .await
    }

    /// The account's conversations, with unread counts.
    pub async fn inbox(
        &self,
        unread_only: bool,
        page_size: i32,
        page_token: &str,
    ) -> Result<chat::ListConversationsResponse, Fault> {
        let page_token = page_token.to_owned();
        self.conversations(chat::ListConversationsRequest { unread_only, joinable: false, page_size, page_token }).await
    }

    /// Conversations as `request` selects them.
    pub async fn conversations(
        &self,
        request: chat::ListConversationsRequest,
    ) -> Result<chat::ListConversationsResponse, Fault> {
        self.read(request, |channel, request| async move {
            ConversationServiceClient::new(channel).list_conversations(request).await
        })
        .await
    }

    /// Messages as `request` selects them; `of` overrides its recipient (`None`: all conversations).
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
        self.read(
            request,
            |channel, request| async move { MessageServiceClient::new(channel).list_messages(request).await },
        )
        .await
    }

    /// Marks just these messages as read; answers with the account's unread count over all conversations.
    pub async fn mark_read(&self, messages: Vec<chat::MessageRef>) -> Result<u64, Fault> {
        self.mark(chat::MarkReadRequest { messages, ..Default::default() }).await
    }

    /// Marks a conversation as read up to `seq` (0: all of it).
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

    /// Deletes messages: for this account, or (the author only) for everyone. Answers with how many.
    pub async fn delete(&self, messages: Vec<chat::MessageRef>, for_everyone: bool) -> Result<u32, Fault> {
        let id = self.cluster.request_id();
        let request = chat::DeleteMessagesRequest { request_id: id.to_string(), messages, for_everyone };
        let call = |channel, request| async move { MessageServiceClient::new(channel).delete_messages(request).await };
        Ok(self.write(id, request, call).await?.deleted_count)
    }

    /// The account's events, live, from `start` on.
    pub fn subscribe(&self, start: Start) -> Subscription {
        Subscription::new(self.clone(), start)
    }

    pub(super) async fn write<Q, R, F, Fut>(&self, id: RequestId, request: Q, call: F) -> Result<R, Fault>
    where
        Q: Clone,
        F: Fn(Channel, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let authorization = Some(&self.authorization);
        Caller { cluster: &self.cluster, authorization, index: Some(&self.index) }.write(id, request, call).await
    }

    pub(super) async fn read<Q, R, F, Fut>(&self, request: Q, call: F) -> Result<R, Fault>
    where
        Q: Clone,
        F: Fn(Channel, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let attempt = |channel, timeout| call(channel, self.reading_request(request.clone(), timeout));
        let (response, _) = self.cluster.anywhere(attempt).await?;
        note_index(&self.index, &response);
        Ok(response.into_inner())
    }

    /// A read's request, as fresh as the session asks.
    pub(super) fn reading_request<Q>(&self, message: Q, timeout: Duration) -> Request<Q> {
        let mut request = self.signed(message);
        request.set_timeout(timeout);
        match self.consistency {
            Consistency::Linearizable => {}
            Consistency::AtLeast(index) => {
                request.metadata_mut().insert(metadata::MIN_INDEX, index.into());
            }
            Consistency::Stale => {
                request.metadata_mut().insert(metadata::CONSISTENCY, AsciiMetadataValue::from_static("stale"));
            }
        }
        request
    }

    /// A request that bears the session's token.
    pub(super) fn signed<Q>(&self, message: Q) -> Request<Q> {
        let mut request = self.cluster.request(message);
        request.metadata_mut().insert(metadata::AUTHORIZATION, self.authorization.clone());
        request
    }
}

/// Who makes a write, signed in or not.
struct Caller<'a> {
    cluster: &'a Cluster,
    authorization: Option<&'a AsciiMetadataValue>,
    index: Option<&'a AtomicU64>,
}

impl Caller<'_> {
    async fn write<Q, R, F, Fut>(&self, id: RequestId, message: Q, call: F) -> Result<R, Fault>
    where
        Q: Clone,
        F: Fn(Channel, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let attempt = |channel, timeout| {
            let mut request = self.cluster.request(message.clone());
            request.set_timeout(timeout);
            if let Some(authorization) = self.authorization {
                request.metadata_mut().insert(metadata::AUTHORIZATION, authorization.clone());
            }
            call(channel, request)
        };
        let response = self.cluster.leading(Kind::Write, attempt).await.map_err(|mut fault| {
            fault.metadata.insert(REQUEST_ID.into(), id.to_string());
            fault
        })?;
        if let Some(index) = self.index {
            note_index(index, &response);
        }
        Ok(response.into_inner())
    }
}

/// Keeps the index that an answer reflects.
fn note_index<R>(seen: &AtomicU64, response: &Response<R>) {
    let index = response.metadata().get(metadata::INDEX).and_then(|value| value.to_str().ok()?.parse().ok());
    seen.fetch_max(index.unwrap_or(0), Ordering::Relaxed);
}
