//! A small state with rows in every table, as the ground for hostile commands, queries and rows.

use std::{collections::BTreeMap, sync::OnceLock};

use quorate::{
    machine::{Applied, apply, query},
    raft::{
        StateMeta,
        types::{CommittedLeaderId, LogId, Member, Membership, StoredMembership},
    },
    storage::{
        StorageError,
        kv::{MemoryKv, Read},
    },
    types::{AccountId, ConversationId, Cursor, RequestId, SessionKey},
    wire::{
        chat,
        store::{self, command::Verb},
    },
};

/// 2026-01-01, in Unix milliseconds.
pub const NOW_MS: u64 = 1_767_225_600_000;
/// The log index after the whole history.
pub const NEXT: u64 = 100;

pub fn request_id(number: u32) -> RequestId {
    let mut random = [0; 10];
    random[..4].copy_from_slice(&number.to_be_bytes());
    RequestId::new(NOW_MS, random)
}

/// The command `verb` of the session of this name, under the request id `number`.
pub fn command(number: u32, session: &str, verb: Verb) -> store::Command {
    let session_key = SessionKey::of_token(session).0.to_vec().into();
    store::Command { request_id: request_id(number).as_bytes().to_vec().into(), session_key, verb: Some(verb) }
}

/// The commands that make the state, one log entry each.
pub fn history() -> Vec<store::Command> {
    use store::send_message::Recipient;
    let account =
        |name: &str| Verb::CreateAccount(store::CreateAccount { username: name.into(), password_hash: "$hash".into() });
    let session = |name: &str| {
        Verb::CreateSession(store::CreateSession {
            username: name.into(),
            password_version: 1,
            new_session_key: SessionKey::of_token(name).0.to_vec().into(),
            device: "laptop".into(),
            ttl_ms: 3_600_000,
        })
    };
    let send = |recipient: Recipient, body: &str| {
        Verb::SendMessage(store::SendMessage { recipient: Some(recipient), body: body.into() })
    };
    let to = |name: &str| Recipient::Username(name.into());
    let one = |conversation_id, seq| vec![store::MessageRef { conversation_id, seq }];
    let room = |private, members: &[&str]| {
        let members = members.iter().map(|name| (*name).to_owned()).collect();
        Verb::CreateRoom(store::CreateRoom { title: "den".into(), private, members })
    };
    let verbs = [
        ("", account("alice")),
        ("", account("bob")),
        ("", account("carol")),
        ("", session("alice")),
        ("", session("bob")),
        ("", session("carol")),
        ("alice", send(to("bob"), "hello")),
        ("alice", send(to("bob"), "hello again")),
        ("alice", send(to("bob"), "regretted")),
        ("bob", Verb::MarkRead(store::MarkRead { messages: one(1, 2), ..Default::default() })),
        ("alice", Verb::DeleteMessages(store::DeleteMessages { messages: one(1, 3), for_everyone: true })),
        ("bob", Verb::DeleteMessages(store::DeleteMessages { messages: one(1, 1), for_everyone: false })),
        ("bob", room(false, &["alice"])),
        ("bob", room(true, &["alice", "carol"])),
        ("carol", send(Recipient::ConversationId(3), "to all")),
        ("carol", Verb::LeaveRoom(store::LeaveRoom { conversation_id: 3 })),
        ("alice", Verb::BlockAccount(store::BlockAccount { username: "carol".into() })),
        ("alice", Verb::UpdateSettings(store::UpdateSettings { read_receipts: Some(false) })),
        ("", Verb::AllocateNode(store::AllocateNode { name: "n2".into() })),
        ("carol", Verb::DeleteAccount(store::DeleteAccount { password_version: 1, erase_messages: true })),
    ];
    (0..).zip(verbs).map(|(number, (by, verb))| command(number, by, verb)).collect()
}

/// The state after the whole history, with the consensus rows of a log that ends there. Built once, then copied.
pub fn populated_state() -> MemoryKv {
    static STATE: OnceLock<MemoryKv> = OnceLock::new();
    let build = || {
        let mut kv = MemoryKv::default();
        for (index, command) in (1..).zip(history()) {
            let batch = store::CommandBatch { time_ms: NOW_MS, commands: vec![command] };
            let applied = apply(&mut kv, index, &batch).expect("a sound state");
            let refused = matches!(applied.outcomes[0].outcome.result, Some(store::outcome::Result::Refusal(_)));
            assert!(!refused, "entry {index}: {:?}", applied.outcomes);
        }
        let at = LogId::new(CommittedLeaderId::new(3), NEXT - 1);
        let member = Member { name: "n1".into(), address: "127.0.0.1:7401".into(), zone: "a".into() };
        let membership = Membership::new(vec![[1].into()], BTreeMap::from([(1, member)])).expect("a membership");
        StateMeta::write_applied(&mut kv, &at).expect("memory");
        StateMeta::write_membership(&mut kv, &StoredMembership::new(Some(at), membership)).expect("memory");
        kv
    };
    STATE.get_or_init(build).clone()
}

/// Applies `commands` as one entry.
pub fn run(kv: &mut MemoryKv, commands: Vec<store::Command>) -> Result<Applied, StorageError> {
    apply(kv, NEXT, &store::CommandBatch { time_ms: NOW_MS, commands })
}

/// Runs every query. They may fail; they must not panic.
pub fn run_every_query(state: &dyn Read, page_token: &str, number: u64) {
    let id = ConversationId(number);
    let _ = (query::account_by_name(state, page_token), query::log_time_ms(state), query::chores(state));
    let _ = (query::session(state, &SessionKey::of_token("alice")), query::summary(state));
    for account in [AccountId(1), AccountId(2), AccountId(3), AccountId(number)] {
        let _ = (query::account(state, account), query::list_sessions(state, account));
        let _ = (query::settings(state, account), query::list_blocked(state, account));
        let _ = (query::conversation_ids(state, account), query::unread_total(state, account));
        for conversation in [ConversationId(1), id] {
            let _ = query::conversation(state, account, conversation);
        }
        let _ = query::events_after(state, account, Cursor(number), None, 100);
        let _ = query::events_after(state, account, Cursor(0), Some(&[ConversationId(1), id]), 100);
        list(state, account, page_token, number);
    }
    let request = chat::ListAccountsRequest { pattern: "*".into(), page_size: 10, page_token: page_token.to_owned() };
    let _ = query::list_accounts(state, &request);
}

fn list(state: &dyn Read, account: AccountId, page_token: &str, number: u64) {
    use chat::list_messages_request::Recipient;
    let page_token = page_token.to_owned();
    for (unread_only, joinable) in [(true, false), (false, true), (false, false)] {
        let page_token = page_token.clone();
        let request = chat::ListConversationsRequest { unread_only, joinable, page_size: 10, page_token };
        let _ = query::list_conversations(state, account, &request);
    }
    let id = ConversationId(number).to_string();
    for recipient in [None, Some(Recipient::Username("bob".into())), Some(Recipient::ConversationId(id))] {
        for (after_seq, before_seq, unread_only) in [(number, 0, true), (0, number, false), (0, 0, true)] {
            let (recipient, page_token) = (recipient.clone(), page_token.clone());
            let request =
                chat::ListMessagesRequest { recipient, after_seq, before_seq, unread_only, page_size: 10, page_token };
            let _ = query::list_messages(state, account, &request);
        }
    }
}
