//! Bad input over real gRPC: each kind has a named reason and the right code, and changes nothing.

mod common;

use std::time::Duration;

use common::{Cluster, PASSWORD, User};
use quorate::{
    node::StartError,
    server,
    storage::StorageError,
    types::{RequestId, limits},
    wire::{
        Fault, Reason,
        admin::{AddNodeRequest, GetStateDigestRequest, admin_service_client::AdminServiceClient},
        chat::{
            self, account_service_client::AccountServiceClient, conversation_service_client::ConversationServiceClient,
            event_service_client::EventServiceClient, message_service_client::MessageServiceClient,
            send_message_request::Recipient,
        },
        metadata,
        raft::{self, AdoptRequest, join_service_client::JoinServiceClient, raft_service_client::RaftServiceClient},
    },
};
use tonic::{Code, Request, Status, transport::Channel};

/// A node with two accounts, and the calls that the cases make.
struct Door {
    cluster: Cluster,
    alice: User,
    channel: Channel,
}

impl Door {
    async fn open() -> Self {
        let cluster = Cluster::of(1).start().await;
        let [alice, _bob] = cluster.accounts(["alice", "bob"]).await;
        alice.send("bob", "hello").await;
        let channel = cluster.channel(1);
        Self { cluster, alice, channel }
    }

    fn id(&self) -> String {
        self.alice.request_id().to_string()
    }

    /// The index and digest of the state.
    async fn state(&self) -> (u64, Vec<u8>) {
        let mut admin = AdminServiceClient::new(self.channel.clone());
        let digest = admin.get_state_digest(GetStateDigestRequest::default()).await.unwrap().into_inner();
        (digest.index, digest.digest.to_vec())
    }

    /// What users see: accounts, conversations, messages. The digest may change all the same, because the state machine
    /// remembers a refusal under its request id.
    async fn seen(&self) -> (chat::ListAccountsResponse, chat::ListConversationsResponse, chat::ListMessagesResponse) {
        let session = &self.alice.session;
        let accounts = session.users("", 0, "").await.unwrap();
        let inbox = session.inbox(false, 0, "").await.unwrap();
        let bob = quorate::client::Recipient::Username("bob".into());
        (accounts, inbox, session.messages(Some(&bob), chat::ListMessagesRequest::default()).await.unwrap())
    }

    async fn send(&self, id: &str, to: Option<Recipient>, body: &str) -> Result<(), Status> {
        let request = chat::SendMessageRequest { request_id: id.to_owned(), recipient: to, body: body.to_owned() };
        MessageServiceClient::new(self.channel.clone()).send_message(self.alice.signed(request)).await.map(drop)
    }

    async fn create(&self, id: &str, name: &str, password: &str) -> Result<(), Status> {
        let request = chat::CreateAccountRequest {
            request_id: id.to_owned(),
            username: name.to_owned(),
            password: password.to_owned(),
        };
        AccountServiceClient::new(self.channel.clone()).create_account(request).await.map(drop)
    }

    async fn log_in(&self, name: &str, password: &str) -> Result<(), Status> {
        let request = chat::CreateSessionRequest {
            request_id: self.id(),
            username: name.to_owned(),
            password: password.to_owned(),
            device: String::new(),
        };
        AccountServiceClient::new(self.channel.clone()).create_session(request).await.map(drop)
    }

    async fn with_token(&self, authorization: Option<&str>) -> Result<(), Status> {
        let mut request = Request::new(chat::ListConversationsRequest::default());
        if let Some(authorization) = authorization {
            request.metadata_mut().insert(metadata::AUTHORIZATION, authorization.parse().unwrap());
        }
        ConversationServiceClient::new(self.channel.clone()).list_conversations(request).await.map(drop)
    }

    async fn list(&self, page_size: i32, page_token: &str) -> Result<(), Status> {
        let request = chat::ListAccountsRequest { page_size, page_token: page_token.to_owned(), ..Default::default() };
        AccountServiceClient::new(self.channel.clone()).list_accounts(self.alice.signed(request)).await.map(drop)
    }

    async fn room(&self, title: &str) -> Result<(), Status> {
        let request = chat::CreateRoomRequest { request_id: self.id(), title: title.to_owned(), ..Default::default() };
        ConversationServiceClient::new(self.channel.clone()).create_room(self.alice.signed(request)).await.map(drop)
    }
}

fn to(name: &str) -> Option<Recipient> {
    Some(Recipient::Username(name.to_owned()))
}

fn refused(case: &str, answer: Result<(), Status>, reason: Reason, code: Code) -> Fault {
    let Err(status) = answer else { panic!("{case} was accepted") };
    let fault = Fault::from_status(&status);
    assert_eq!((fault.reason, status.code()), (reason, code), "{case}: {fault:?}");
    assert!(!fault.message.is_empty(), "{case}");
    fault
}

fn invalid(case: &str, field: &str, answer: Result<(), Status>) {
    let fault = refused(case, answer, Reason::InvalidArgument, Code::InvalidArgument);
    assert_eq!(fault.field.as_deref(), Some(field), "{case}: {fault:?}");
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_by_field_before_it_reaches_the_log() {
    let door = Door::open().await;
    let before = door.state().await;
    let long_name = "a".repeat(limits::USERNAME_BYTES + 1);
    invalid("an empty name", "username", door.create(&door.id(), "", PASSWORD).await);
    invalid("an oversized name", "username", door.create(&door.id(), &long_name, PASSWORD).await);
    invalid("a name of look-alikes", "username", door.create(&door.id(), "аlice", PASSWORD).await);
    invalid("a short password", "password", door.create(&door.id(), "carol", "short").await);
    let long = "p".repeat(limits::PASSWORD_BYTES + 1);
    invalid("an oversized password", "password", door.create(&door.id(), "carol", &long).await);
    invalid("an empty body", "body", door.send(&door.id(), to("bob"), "").await);
    let large = "b".repeat(limits::BODY_BYTES + 1);
    invalid("an oversized body", "body", door.send(&door.id(), to("bob"), &large).await);
    invalid("no recipient", "recipient", door.send(&door.id(), None, "x").await);
    invalid("an empty title", "title", door.room("").await);
    invalid("a title of escapes", "title", door.room("\u{1b}[2J").await);
    invalid("a negative page", "page_size", door.list(-1, "").await);
    invalid("a page of 10^9", "page_size", door.list(1_000_000_000, "").await);
    invalid("a page token of ours, not", "page_token", door.list(10, "garbage").await);
    let long_token = "t".repeat(limits::PAGE_TOKEN_BYTES + 1);
    invalid("an oversized page token", "page_token", door.list(10, &long_token).await);
    for bad in ["", "x", "9b2b3b6e-6b3e-4c59-8d3c-0a4d4d1c1d11"] {
        for answer in [door.send(bad, to("bob"), "x").await, door.create(bad, "carol", PASSWORD).await] {
            refused(&format!("request id {bad:?}"), answer, Reason::RequestIdInvalid, Code::InvalidArgument);
        }
    }
    let huge = "b".repeat(limits::REQUEST_BYTES + 1);
    let answer = door.send(&door.id(), to("bob"), &huge).await;
    refused("an oversized request", answer, Reason::InvalidArgument, Code::InvalidArgument);
    assert_eq!(door.state().await, before, "nothing reached the log");
    assert!(door.list(0, "").await.is_ok(), "0 leaves the page size to the server");
}

/// A SendMessage request whose body need not be UTF-8.
#[derive(Clone, PartialEq, prost::Message)]
struct RawSend {
    #[prost(string, tag = "1")]
    request_id: String,
    #[prost(string, tag = "2")]
    username: String,
    #[prost(bytes = "vec", tag = "4")]
    body: Vec<u8>,
}

#[tokio::test]
async fn text_that_is_no_utf_8_is_the_callers_fault() {
    let door = Door::open().await;
    let before = door.state().await;
    let raw = RawSend { request_id: door.id(), username: "bob".into(), body: vec![0xff, 0xfe] };
    let mut client = tonic::client::Grpc::new(door.channel.clone());
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/chat.v1.MessageService/SendMessage");
    let codec = tonic_prost::ProstCodec::<RawSend, chat::SendMessageResponse>::default();
    let answer = client.unary(door.alice.signed(raw), path, codec).await;
    refused("no UTF-8", answer.map(drop), Reason::InvalidArgument, Code::InvalidArgument);
    assert_eq!(door.state().await, before);
}

#[tokio::test]
async fn wrong_passwords_and_tokens_open_nothing_and_say_little() {
    let door = Door::open().await;
    let before = door.state().await;
    let wrong = refused(
        "a wrong password",
        door.log_in("alice", "wrong password").await,
        Reason::BadCredentials,
        Code::Unauthenticated,
    );
    let nobody = refused(
        "an unknown name",
        door.log_in("nobody", "wrong password").await,
        Reason::BadCredentials,
        Code::Unauthenticated,
    );
    assert_eq!(wrong.message, nobody.message, "which of the two it was is not said");
    let forged = format!("Bearer {}", "f".repeat(43));
    let long = format!("Bearer {}", "f".repeat(limits::TOKEN_BYTES + 1));
    for token in [None, Some("Bearer "), Some("Basic YTpi"), Some(forged.as_str()), Some(long.as_str())] {
        refused(&format!("{token:?}"), door.with_token(token).await, Reason::SessionInvalid, Code::Unauthenticated);
    }
    let request = chat::SendMessageRequest { request_id: door.id(), recipient: to("bob"), body: "forged".into() };
    let mut signed = Request::new(request);
    signed.metadata_mut().insert(metadata::AUTHORIZATION, forged.parse().unwrap());
    let answer = MessageServiceClient::new(door.channel.clone()).send_message(signed).await.map(drop);
    refused("a write with a forged token", answer, Reason::SessionInvalid, Code::Unauthenticated);
    assert_eq!(door.state().await, before, "nothing reached the log");
}

#[tokio::test]
async fn a_session_that_has_ended_opens_nothing() {
    let door = Door::open().await;
    let token = format!("Bearer {}", door.alice.token);
    door.alice.session.logout(None, false).await.unwrap();
    refused("a revoked token", door.with_token(Some(&token)).await, Reason::SessionInvalid, Code::Unauthenticated);
    let answer = door.send(&door.id(), to("bob"), "late").await;
    refused("a write with a revoked token", answer, Reason::SessionInvalid, Code::Unauthenticated);

    let [carol] = door.cluster.accounts(["carol"]).await;
    let token = format!("Bearer {}", carol.token);
    let month = i64::try_from(limits::SESSION_TTL.as_millis()).unwrap();
    door.cluster.skew(1, month + 1_000);
    refused("an expired token", door.with_token(Some(&token)).await, Reason::SessionInvalid, Code::Unauthenticated);
}

#[tokio::test]
async fn what_the_state_refuses_changes_nothing_that_people_see() {
    let door = Door::open().await;
    let before = door.seen().await;
    let answer = door.send(&door.id(), to("nobody"), "x").await;
    refused("an unknown recipient", answer, Reason::AccountNotFound, Code::NotFound);
    let answer = door.send(&door.id(), Some(Recipient::ConversationId("c999999".into())), "x").await;
    refused("an unknown conversation", answer, Reason::ConversationNotFound, Code::NotFound);
    let answer = door.send(&door.id(), Some(Recipient::ConversationId("999".into())), "x").await;
    refused("no conversation id", answer, Reason::InvalidArgument, Code::InvalidArgument);
    for taken in ["alice", "ALICE"] {
        let answer = door.create(&door.id(), taken, PASSWORD).await;
        refused("a taken name", answer, Reason::NameTaken, Code::AlreadyExists);
    }
    let day_ago = door.alice.session.cluster().clock().now_ms() - 25 * 3_600_000;
    let stale = RequestId::new(day_ago, [7; 10]).to_string();
    let answer = door.send(&stale, to("bob"), "late").await;
    refused("a stale request id", answer, Reason::RequestTooOld, Code::FailedPrecondition);
    let id = door.id();
    door.create(&id, "carol", PASSWORD).await.unwrap();
    let answer = door.send(&id, to("bob"), "x").await;
    refused("a request id of another request", answer, Reason::RequestIdReused, Code::InvalidArgument);
    let mut after = door.seen().await;
    after.0.accounts.retain(|account| account.username != "carol");
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_cursor_from_the_future_is_refused() {
    let door = Door::open().await;
    let request = chat::SubscribeRequest { after_cursor: u64::MAX, from_now: false };
    let answer = EventServiceClient::new(door.channel.clone()).subscribe(door.alice.signed(request)).await;
    let answer = match answer {
        Ok(stream) => stream.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    refused("a cursor from the future", answer, Reason::CursorInvalid, Code::OutOfRange);
}

#[tokio::test]
async fn malformed_metadata_is_named() {
    let door = Door::open().await;
    for (key, value) in [(metadata::CONSISTENCY, "fresh"), (metadata::MIN_INDEX, "-1"), ("grpc-timeout", "soon")] {
        let mut request = door.alice.signed(chat::ListConversationsRequest::default());
        request.metadata_mut().insert(key, value.parse().unwrap());
        let answer = ConversationServiceClient::new(door.channel.clone()).list_conversations(request).await;
        invalid(&format!("{key}: {value}"), key, answer.map(drop));
    }
}

#[tokio::test]
async fn a_client_that_means_another_cluster_is_refused_by_name() {
    let door = Door::open().await;
    let mut request = door.alice.signed(chat::ListConversationsRequest::default());
    request.metadata_mut().insert(metadata::CLUSTER, "another".parse().unwrap());
    let answer = ConversationServiceClient::new(door.channel.clone()).list_conversations(request).await;
    let fault = refused("another cluster", answer.map(drop), Reason::WrongCluster, Code::PermissionDenied);
    assert!(fault.message.contains("not another"), "{fault:?}");
}

#[tokio::test]
async fn a_directory_and_a_port_belong_to_one_node() {
    let cluster = Cluster::of(1).start().await;
    let address = cluster.address(1);
    let taken = server::listen(&address).await.unwrap_err().fault;
    assert_eq!((taken.reason, taken.field.as_deref()), (Reason::InvalidArgument, Some("listen")));
    let twice = cluster.start_beside(1).await.unwrap_err();
    assert!(matches!(twice, StartError::Storage(StorageError::Locked { .. })), "{twice}");
    cluster.stop(1).await;
    let again = cluster.init(1).await.unwrap_err();
    assert!(matches!(again, StartError::NotEmpty), "{again}");
    cluster.restart(1).await.unwrap();
    cluster.wait_for_leader().await;
}

#[tokio::test]
async fn bad_names_and_addresses_of_nodes_are_refused_before_any_log_entry() {
    let cluster = Cluster::of(1).start().await;
    cluster.accounts(["alice"]).await;
    let before = common::eventually("everything written is known to be committed", async || {
        let now = cluster.membership(1);
        if now.commit_index == now.nodes[0].matched_index { Ok(now) } else { Err(cluster.status()) }
    })
    .await;
    let ask = |name: &str, address: &str, zone: &str| {
        let (name, address, zone) = (name.to_owned(), address.to_owned(), zone.to_owned());
        cluster.try_add_node(AddNodeRequest { name, address, zone, ..Default::default() }, |_| {})
    };
    for (name, address, zone, field) in [
        ("", "127.0.0.1:1", "", "name"),
        ("n 2", "127.0.0.1:1", "", "name"),
        ("n2", "nowhere", "", "address"),
        ("n2", "0.0.0.0:7400", "", "address"),
        ("n2", "127.0.0.1:1", "a b", "zone"),
    ] {
        let fault = ask(name, address, zone).await.unwrap_err();
        assert_eq!((fault.reason, fault.field.as_deref()), (Reason::InvalidArgument, Some(field)), "{fault:?}");
    }
    let after = cluster.membership(1);
    assert_eq!((after.commit_index, after.nodes.len()), (before.commit_index, 1));
}

/// P6: a node answers peers of its own cluster only, and only calls that are addressed to it.
#[tokio::test]
async fn a_node_of_another_cluster_that_dials_in_is_refused() {
    let (cluster, other) = (Cluster::of(1).start().await, Cluster::of(1).start().await);
    let before = cluster.membership(1);
    let (own, foreign) = (before.cluster_id.clone(), other.membership(1).cluster_id);
    let vote = raft::Vote { term: 99, node_id: 1, committed: false };
    let cases = [(foreign.as_str(), "1", "1"), (own.as_str(), "2", "1"), (own.as_str(), "1", "7"), ("", "1", "1")];
    for (cluster_id, epoch, to) in cases {
        let last_log_id = Some(raft::LogId { term: 98, index: 10_000 });
        let mut request = Request::new(raft::VoteRequest { vote: Some(vote), last_log_id, pre_vote: false });
        let headers =
            [(metadata::CLUSTER, cluster_id), (metadata::EPOCH, epoch), (metadata::FROM, "1"), (metadata::TO, to)];
        for (key, value) in headers {
            request.metadata_mut().insert(key, value.parse().unwrap());
        }
        let answer = RaftServiceClient::new(cluster.channel(1)).vote(request).await.map(drop);
        refused(&format!("{cluster_id} {epoch} {to}"), answer, Reason::WrongCluster, Code::PermissionDenied);
    }
    let adopt = AdoptRequest {
        cluster_id: foreign,
        epoch: 1,
        node_id: 9,
        name: "n9".into(),
        address: cluster.address(1).to_string(),
        zone: String::new(),
    };
    let answer = JoinServiceClient::new(cluster.channel(1)).adopt(adopt).await.map(drop);
    refused("an adoption by another cluster", answer, Reason::Unsafe, Code::FailedPrecondition);
    tokio::time::timeout(Duration::from_secs(5), cluster.wait_for_leader()).await.expect("it leads on");
    let after = cluster.membership(1);
    assert_eq!((after.term, after.cluster_id, after.etag), (before.term, own, before.etag));
}
