//! A node that answers from a script, for tests of the client and of everything that uses it.

use std::{
    collections::VecDeque,
    future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{Stream, StreamExt, stream};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, metadata::MetadataMap, transport::Server};

use crate::wire::{
    Address, Fault, Reason, chat,
    chat::{
        account_service_server::{AccountService, AccountServiceServer},
        conversation_service_server::{ConversationService, ConversationServiceServer},
        event_service_server::{EventService, EventServiceServer},
        message_service_server::{MessageService, MessageServiceServer},
    },
    cluster,
    cluster::cluster_service_server::{ClusterService, ClusterServiceServer},
};

type Answer<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The answer to the next write.
#[derive(Debug, Clone)]
pub(crate) enum Turn {
    /// Accepts it.
    Accept,
    /// Refuses it with this fault.
    Refuse(Fault),
    /// Never answers.
    Hang,
}

/// What the node answers, and what it has been asked.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) membership: cluster::GetMembershipResponse,
    /// Answers to writes, in turn. When there are none left, writes are accepted.
    pub(crate) turns: VecDeque<Turn>,
    /// The items of subscriptions, in turn. A stream ends after its items; when no list is left, it stays open.
    pub(crate) streams: VecDeque<Vec<Result<chat::SubscribeResponse, Fault>>>,
    // The rest of what it answers:
    pub(crate) conversations: Vec<chat::Conversation>,
    pub(crate) joinable: Vec<chat::Conversation>,
    pub(crate) messages: Vec<chat::Message>,
    pub(crate) accounts: Vec<chat::Account>,
    pub(crate) sessions: Vec<chat::Session>,
    // What it has been asked:
    pub(crate) sent: Vec<chat::SendMessageRequest>,
    pub(crate) marked: Vec<chat::MarkReadRequest>,
    pub(crate) listed: Vec<chat::ListMessagesRequest>,
    pub(crate) updated: Vec<chat::UpdateRoomRequest>,
    pub(crate) subscribed: Vec<chat::SubscribeRequest>,
    pub(crate) deleted: Vec<chat::DeleteMessagesRequest>,
    pub(crate) metadata: Vec<MetadataMap>,
    pub(crate) discoveries: u32,
}

/// A running node.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) address: Address,
    pub(crate) id: u64,
    frozen: Arc<AtomicBool>,
    script: Arc<Mutex<Script>>,
}

impl Fake {
    /// Starts node `id` on a port of its own, in a cluster of itself that it leads in term 1.
    pub(crate) async fn start(id: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let fake = Self { address, id, frozen: Arc::default(), script: Arc::default() };
        fake.knows(&[&fake], Some(&fake), 1);
        let server = Server::builder()
            .add_service(ClusterServiceServer::new(fake.clone()))
            .add_service(AccountServiceServer::new(fake.clone()))
            .add_service(ConversationServiceServer::new(fake.clone()))
            .add_service(MessageServiceServer::new(fake.clone()))
            .add_service(EventServiceServer::new(fake.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        fake
    }

    /// Starts `N` nodes that agree: the first leads in term 1.
    pub(crate) async fn cluster<const N: usize>() -> [Self; N] {
        let mut nodes = Vec::new();
        for id in 1..=N as u64 {
            nodes.push(Self::start(id).await);
        }
        let nodes: [Self; N] = nodes.try_into().unwrap_or_else(|_| unreachable!("N were started"));
        let all: Vec<&Self> = nodes.iter().collect();
        nodes.iter().for_each(|node| node.knows(&all, Some(&nodes[0]), 1));
        nodes
    }

    /// Changes the nodes and the leader that it answers with.
    pub(crate) fn knows(&self, nodes: &[&Self], leader: Option<&Self>, term: u64) {
        let nodes = nodes.iter().map(|node| cluster::Node {
            node_id: node.id,
            address: node.address.to_string(),
            ..Default::default()
        });
        let membership = cluster::GetMembershipResponse {
            cluster_id: "fake".into(),
            answered_by_id: self.id,
            leader_id: leader.map_or(0, |leader| leader.id),
            leader_address: leader.map_or(String::new(), |leader| leader.address.to_string()),
            term,
            has_quorum: leader.is_some(),
            nodes: nodes.collect(),
            ..Default::default()
        };
        self.script(|script| script.membership = membership);
    }

    /// Stops answering and keeps its connections, as a frozen process does.
    pub(crate) fn freeze(&self) {
        self.frozen.store(true, Ordering::SeqCst);
    }

    /// Reads or changes the script.
    pub(crate) fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.script.lock().unwrap())
    }

    /// The refusal that sends a client from here to `leader`.
    pub(crate) fn redirect(&self, leader: &Self, term: u64) -> Turn {
        Turn::Refuse(Fault::new(Reason::NotLeader, format!("node {} is not the leader", self.id)).leader(
            cluster::LeaderHint {
                cluster_id: "fake".into(),
                leader_id: leader.id,
                leader_address: leader.address.to_string(),
                term,
            },
        ))
    }

    async fn thaw(&self) {
        if self.frozen.load(Ordering::SeqCst) {
            future::pending::<()>().await;
        }
    }

    async fn turn<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.thaw().await;
        let turn = self.script(|script| {
            script.metadata.push(request.metadata().clone());
            script.turns.pop_front().unwrap_or(Turn::Accept)
        });
        match turn {
            Turn::Accept => Ok(()),
            Turn::Refuse(fault) => Err(fault.into()),
            Turn::Hang => future::pending().await,
        }
    }

    async fn read<Q, T>(&self, request: Request<Q>, answer: impl FnOnce(&mut Script, Q) -> T) -> Answer<T> {
        self.turn(&request).await?;
        Ok(self.script(|script| indexed(answer(script, request.into_inner()))))
    }
}

fn indexed<T>(message: T) -> Response<T> {
    let mut response = Response::new(message);
    response.metadata_mut().insert(crate::wire::metadata::INDEX, 42.into());
    response
}

#[tonic::async_trait]
impl ClusterService for Fake {
    type WatchMembershipStream = Streamed<cluster::GetMembershipResponse>;

    async fn get_membership(
        &self,
        _: Request<cluster::GetMembershipRequest>,
    ) -> Answer<cluster::GetMembershipResponse> {
        self.thaw().await;
        Ok(Response::new(self.script(|script| {
            script.discoveries += 1;
            script.membership.clone()
        })))
    }

    async fn watch_membership(&self, _: Request<cluster::GetMembershipRequest>) -> Answer<Self::WatchMembershipStream> {
        Err(Status::unimplemented("not scripted"))
    }
}

#[tonic::async_trait]
impl AccountService for Fake {
    async fn create_account(
        &self,
        request: Request<chat::CreateAccountRequest>,
    ) -> Answer<chat::CreateAccountResponse> {
        self.read(request, |_, request| {
            let account = chat::Account { username: request.username, ..Default::default() };
            chat::CreateAccountResponse { account: Some(account) }
        })
        .await
    }

    async fn delete_account(
        &self,
        request: Request<chat::DeleteAccountRequest>,
    ) -> Answer<chat::DeleteAccountResponse> {
        self.read(request, |_, _| chat::DeleteAccountResponse { messages_erased: 3 }).await
    }

    async fn list_accounts(&self, request: Request<chat::ListAccountsRequest>) -> Answer<chat::ListAccountsResponse> {
        self.read(request, |script, _| chat::ListAccountsResponse {
            accounts: script.accounts.clone(),
            ..Default::default()
        })
        .await
    }

    async fn change_password(
        &self,
        request: Request<chat::ChangePasswordRequest>,
    ) -> Answer<chat::ChangePasswordResponse> {
        self.read(request, |_, _| chat::ChangePasswordResponse {}).await
    }

    async fn create_session(
        &self,
        request: Request<chat::CreateSessionRequest>,
    ) -> Answer<chat::CreateSessionResponse> {
        self.read(request, |_, request| chat::CreateSessionResponse {
            session: Some(chat::Session { session_id: "s1".into(), device: request.device, ..Default::default() }),
            token: format!("token-of-{}", request.username),
            unread_count: 2,
        })
        .await
    }

    async fn list_sessions(&self, request: Request<chat::ListSessionsRequest>) -> Answer<chat::ListSessionsResponse> {
        self.read(request, |script, _| chat::ListSessionsResponse { sessions: script.sessions.clone() }).await
    }

    async fn delete_session(
        &self,
        request: Request<chat::DeleteSessionRequest>,
    ) -> Answer<chat::DeleteSessionResponse> {
        self.read(request, |_, _| chat::DeleteSessionResponse {}).await
    }

    async fn get_settings(&self, request: Request<chat::GetSettingsRequest>) -> Answer<chat::GetSettingsResponse> {
        self.read(request, |_, _| chat::GetSettingsResponse { settings: Some(chat::Settings { read_receipts: true }) })
            .await
    }

    async fn update_settings(
        &self,
        request: Request<chat::UpdateSettingsRequest>,
    ) -> Answer<chat::UpdateSettingsResponse> {
        self.read(request, |_, request| {
            let settings = chat::Settings { read_receipts: request.read_receipts.unwrap_or(true) };
            chat::UpdateSettingsResponse { settings: Some(settings) }
        })
        .await
    }

    async fn block_account(&self, request: Request<chat::BlockAccountRequest>) -> Answer<chat::BlockAccountResponse> {
        self.read(request, |script, request| {
            script.accounts.push(chat::Account { username: request.username, ..Default::default() });
            chat::BlockAccountResponse {}
        })
        .await
    }

    async fn unblock_account(
        &self,
        request: Request<chat::UnblockAccountRequest>,
    ) -> Answer<chat::UnblockAccountResponse> {
        self.read(request, |script, request| {
            script.accounts.retain(|account| account.username != request.username);
            chat::UnblockAccountResponse {}
        })
        .await
    }

    async fn list_blocked_accounts(
        &self,
        request: Request<chat::ListBlockedAccountsRequest>,
    ) -> Answer<chat::ListBlockedAccountsResponse> {
        self.read(request, |script, _| chat::ListBlockedAccountsResponse { accounts: script.accounts.clone() }).await
    }
}

#[tonic::async_trait]
impl ConversationService for Fake {
    async fn create_room(&self, request: Request<chat::CreateRoomRequest>) -> Answer<chat::CreateRoomResponse> {
        self.read(request, |_, request| {
            let conversation = chat::Conversation {
                conversation_id: "c9".into(),
                title: request.title,
                private: request.private,
                members: request.members,
                ..Default::default()
            };
            chat::CreateRoomResponse { conversation: Some(conversation) }
        })
        .await
    }

    async fn update_room(&self, request: Request<chat::UpdateRoomRequest>) -> Answer<chat::UpdateRoomResponse> {
        self.read(request, |script, request| {
            script.updated.push(request);
            chat::UpdateRoomResponse { conversation: script.conversations.first().cloned() }
        })
        .await
    }

    async fn join_room(&self, request: Request<chat::JoinRoomRequest>) -> Answer<chat::JoinRoomResponse> {
        self.read(request, |script, _| chat::JoinRoomResponse { conversation: script.joinable.first().cloned() }).await
    }

    async fn leave_room(&self, request: Request<chat::LeaveRoomRequest>) -> Answer<chat::LeaveRoomResponse> {
        self.read(request, |_, _| chat::LeaveRoomResponse {}).await
    }

    async fn list_conversations(
        &self,
        request: Request<chat::ListConversationsRequest>,
    ) -> Answer<chat::ListConversationsResponse> {
        self.read(request, |script, request| {
            let mut conversations =
                if request.joinable { script.joinable.clone() } else { script.conversations.clone() };
            conversations.retain(|conversation| !request.unread_only || conversation.unread_count > 0);
            chat::ListConversationsResponse { conversations, ..Default::default() }
        })
        .await
    }
}

#[tonic::async_trait]
impl MessageService for Fake {
    async fn send_message(&self, request: Request<chat::SendMessageRequest>) -> Answer<chat::SendMessageResponse> {
        // Recorded even if the write is refused or never answered.
        self.thaw().await;
        self.script(|script| script.sent.push(request.get_ref().clone()));
        self.read(request, |script, request| {
            let message = chat::Message {
                conversation_id: "c1".into(),
                seq: script.sent.len() as u64,
                body: request.body,
                ..Default::default()
            };
            chat::SendMessageResponse { message: Some(message), deduplicated: false }
        })
        .await
    }

    async fn list_messages(&self, request: Request<chat::ListMessagesRequest>) -> Answer<chat::ListMessagesResponse> {
        self.read(request, |script, request| {
            let size = usize::try_from(request.page_size).unwrap();
            let mut messages = script.messages.clone();
            messages.retain(|message| !request.unread_only || !message.read);
            messages.truncate(size.max(1));
            script.listed.push(request);
            chat::ListMessagesResponse { messages, ..Default::default() }
        })
        .await
    }

    async fn mark_read(&self, request: Request<chat::MarkReadRequest>) -> Answer<chat::MarkReadResponse> {
        self.read(request, |script, request| {
            script.marked.push(request);
            chat::MarkReadResponse::default()
        })
        .await
    }

    async fn delete_messages(
        &self,
        request: Request<chat::DeleteMessagesRequest>,
    ) -> Answer<chat::DeleteMessagesResponse> {
        self.read(request, |script, request| {
            let deleted_count = u32::try_from(request.messages.len()).unwrap();
            script.deleted.push(request);
            chat::DeleteMessagesResponse { deleted_count }
        })
        .await
    }
}

#[tonic::async_trait]
impl EventService for Fake {
    type SubscribeStream = Streamed<chat::SubscribeResponse>;

    async fn subscribe(&self, request: Request<chat::SubscribeRequest>) -> Answer<Self::SubscribeStream> {
        self.turn(&request).await?;
        let items = self.script(|script| {
            script.subscribed.push(request.into_inner());
            script.streams.pop_front()
        });
        let stays_open = items.is_none();
        let items = stream::iter(items.unwrap_or_default().into_iter().map(|item| item.map_err(Status::from)));
        let rest = if stays_open { stream::pending().boxed() } else { stream::empty().boxed() };
        Ok(Response::new(items.chain(rest).boxed()))
    }
}
