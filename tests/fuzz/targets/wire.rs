//! Messages between clients and nodes: requests to a node, replies and faults to a client.

use prost::{Message, Name};
use quorate::{
    cli::text::{block, line},
    server::testing::{Judged, METHODS, judge},
    wire::{Fault, Reason, admin, chat, cluster, json, raft},
};
use tonic::{Code, Status};

use super::fixture::{command, populated_state, request_id, run};

/// A request of a client: one byte for its method, then its body. A request that the edge accepts does not damage the
/// state.
pub fn requests(data: &[u8]) -> bool {
    let Some((method, body)) = data.split_first() else { return false };
    match judge(*method, body) {
        Judged::Refused => return false,
        Judged::Taken => {}
        Judged::Write(verb) => {
            run(&mut populated_state(), vec![command(1_000, "alice", verb)])
                .expect("a request does not damage the state");
        }
    }
    true
}

pub fn bodies() -> Vec<Vec<u8>> {
    let bodies = [of_clients(), of_operators()].concat();
    // Each body as a request of every method, as many methods have requests of the same shape.
    let of_all = |body: &Vec<u8>| (0..METHODS).map(|method| [vec![method], body.clone()].concat()).collect::<Vec<_>>();
    bodies.iter().flat_map(of_all).collect()
}

/// Requests of operators, and those of nodes to a node that is no member yet.
fn of_operators() -> Vec<Vec<u8>> {
    let (name, address, zone) = (|| "n2".to_owned(), || "h:1".to_owned(), || "a".to_owned());
    let etag = || "7-9".to_owned();
    let cluster_id = "0190163d-8694-739b-aea5-966c26f8ad91".to_owned();
    let add = admin::AddNodeRequest { name: name(), address: address(), ..Default::default() };
    let replace = admin::ReplaceNodeRequest {
        old_name: "n1".into(),
        name: name(),
        address: address(),
        zone: zone(),
        validate_only: true,
        etag: etag(),
    };
    let remove =
        admin::RemoveNodeRequest { name: name(), accept_lower_tolerance: true, etag: etag(), ..Default::default() };
    let role = cluster::Role::Voter.into();
    let set_role = admin::SetRoleRequest { name: name(), role, etag: etag(), ..Default::default() };
    let set_address = admin::SetAddressRequest { name: name(), address: address(), etag: etag(), ..Default::default() };
    let adopt = raft::AdoptRequest {
        cluster_id: cluster_id.clone(),
        epoch: 1,
        node_id: 2,
        name: name(),
        address: address(),
        zone: zone(),
    };
    vec![
        add.encode_to_vec(),
        replace.encode_to_vec(),
        remove.encode_to_vec(),
        set_role.encode_to_vec(),
        set_address.encode_to_vec(),
        admin::TransferLeadershipRequest { to_name: name() }.encode_to_vec(),
        admin::TriggerSnapshotRequest {}.encode_to_vec(),
        admin::GetStateDigestRequest { at_least_index: 7, exact_index: u64::MAX }.encode_to_vec(),
        admin::CreateBackupRequest {}.encode_to_vec(),
        raft::InspectRequest { dial: vec!["127.0.0.1:7401".into(); 3] }.encode_to_vec(),
        adopt.encode_to_vec(),
        raft::CheckMemberRequest { cluster_id, epoch: 1, node_id: 2, ..Default::default() }.encode_to_vec(),
    ]
}

fn of_clients() -> Vec<Vec<u8>> {
    use chat::send_message_request::Recipient;
    let id = request_id(1).to_string();
    let names = vec!["alice".to_owned(), "carol".to_owned()];
    let messages = vec![chat::MessageRef { conversation_id: "c1".into(), seq: 1 }];
    let send = |recipient| chat::SendMessageRequest { request_id: id.clone(), recipient, body: "hello".into() };
    let mark = chat::MarkReadRequest { request_id: id.clone(), messages: messages.clone(), ..Default::default() };
    let position = chat::MarkReadRequest { messages: vec![], conversation_id: "c1".into(), ..mark.clone() };
    let delete = chat::DeleteMessagesRequest { request_id: id.clone(), messages, for_everyone: true };
    let room = chat::CreateRoomRequest { request_id: id.clone(), title: "den".into(), private: true, members: names };
    let update = chat::UpdateRoomRequest {
        request_id: id.clone(),
        conversation_id: "c2".into(),
        title: Some("den".into()),
        ..Default::default()
    };
    let account =
        chat::CreateAccountRequest { request_id: id.clone(), username: "dave".into(), password: "long enough".into() };
    let session =
        chat::DeleteSessionRequest { request_id: id.clone(), session_id: "0123456789abcdef".into(), all: false };
    let password = chat::ChangePasswordRequest {
        request_id: id.clone(),
        old_password: "long enough".into(),
        new_password: "longer than that".into(),
    };
    let listed = chat::list_messages_request::Recipient::Username("bob".into());
    vec![
        send(Some(Recipient::Username("bob".into()))).encode_to_vec(),
        send(Some(Recipient::ConversationId("c1".into()))).encode_to_vec(),
        mark.encode_to_vec(),
        position.encode_to_vec(),
        delete.encode_to_vec(),
        room.encode_to_vec(),
        update.encode_to_vec(),
        account.encode_to_vec(),
        chat::UpdateSettingsRequest { request_id: id.clone(), read_receipts: Some(true) }.encode_to_vec(),
        session.encode_to_vec(),
        password.encode_to_vec(),
        chat::ListConversationsRequest { joinable: true, page_size: 5, ..Default::default() }.encode_to_vec(),
        chat::ListMessagesRequest { before_seq: 2, recipient: Some(listed), ..Default::default() }.encode_to_vec(),
        chat::SubscribeRequest { after_cursor: 7 << 20, from_now: false }.encode_to_vec(),
        chat::ListAccountsRequest { pattern: "al*".into(), page_size: 5, ..Default::default() }.encode_to_vec(),
    ]
}

/// A reply of a server or a fault: one byte for which, then the body. Every reply can be shown as JSON.
pub fn replies(data: &[u8]) -> bool {
    let Some((which, body)) = data.split_first() else { return false };
    match which % 9 {
        0 => shown::<chat::SubscribeResponse>(body),
        1 => shown::<chat::ListMessagesResponse>(body),
        2 => shown::<chat::ListConversationsResponse>(body),
        3 => shown::<chat::CreateSessionResponse>(body),
        4 => shown::<cluster::GetMembershipResponse>(body),
        5 => shown::<admin::ChangeProgress>(body),
        6 => shown::<admin::GetStateDigestResponse>(body),
        7 => shown::<chat::ListSessionsResponse>(body),
        _ => fault(body),
    }
}

fn shown<M: Message + Name + Default>(body: &[u8]) -> bool {
    let Ok(message) = M::decode(body) else { return false };
    let text = json::to_string(&message);
    let read: Result<serde_json::Value, _> = serde_json::from_str(&text);
    assert!(read.is_ok(), "{text}");
    true
}

/// Reads a fault. Returns whether it names a leader, which only our own faults do.
fn fault(body: &[u8]) -> bool {
    let status = Status::with_details(Code::Unavailable, "down", body.to_vec().into());
    let fault = Fault::from_status(&status);
    assert_eq!(Fault::from_status(&Status::from(fault.clone())).reason, fault.reason);
    fault.leader.is_some()
}

pub fn answers() -> Vec<Vec<u8>> {
    let time = Some(prost_types::Timestamp { seconds: 1_767_225_600, nanos: 5 });
    let message = chat::Message {
        conversation_id: "c1".into(),
        seq: 1,
        cursor: 7 << 20,
        sender: "bob".into(),
        body: "hello".into(),
        create_time: time,
        ..Default::default()
    };
    let event = |event| chat::SubscribeResponse { cursor: 7 << 20, event: Some(event) }.encode_to_vec();
    let session = chat::Session { session_id: "0123456789abcdef".into(), create_time: time, ..Default::default() };
    let hint =
        cluster::LeaderHint { cluster_id: "c".into(), leader_id: 1, leader_address: "127.0.0.1:1".into(), term: 9 };
    let fault = Fault::new(Reason::NotLeader, "not here").next("ask n1").leader(hint);
    let fault = fault.retry_after(std::time::Duration::from_millis(1_500));
    let digest = admin::GetStateDigestResponse { node: "n1".into(), index: 7, digest: vec![7; 32].into() };
    let with = |which: u8, body: Vec<u8>| [vec![which], body].concat();
    vec![
        with(0, event(chat::subscribe_response::Event::Message(message.clone()))),
        with(
            0,
            event(chat::subscribe_response::Event::Heartbeat(chat::Heartbeat { server_time: time, has_quorum: true })),
        ),
        with(
            1,
            chat::ListMessagesResponse {
                messages: vec![message],
                next_page_token: "1m00".into(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        with(
            2,
            chat::ListConversationsResponse { conversations: vec![Default::default()], ..Default::default() }
                .encode_to_vec(),
        ),
        with(3, chat::CreateSessionResponse { session: Some(session.clone()), ..Default::default() }.encode_to_vec()),
        with(
            4,
            cluster::GetMembershipResponse { nodes: vec![Default::default()], ..Default::default() }.encode_to_vec(),
        ),
        with(5, admin::ChangeProgress { phase: 1, ..Default::default() }.encode_to_vec()),
        with(6, digest.encode_to_vec()),
        with(7, chat::ListSessionsResponse { sessions: vec![session] }.encode_to_vec()),
        with(8, Status::from(fault).details().to_vec()),
    ]
}

/// Text from others for a terminal. Nothing that a terminal would act on is left in it.
pub fn text(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    assert!(!line(&text).contains(char::is_control));
    assert!(!block(&text).contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
    true
}

pub fn texts() -> Vec<Vec<u8>> {
    ["hello", "\u{1b}]0;title\u{7}", "user\u{202e}nimda", "a\r\nb\tc\u{9b}2J", "日本語"]
        .map(|t| t.as_bytes().to_vec())
        .to_vec()
}
