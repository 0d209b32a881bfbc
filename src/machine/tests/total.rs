//! No input makes `apply` or a query panic.

use proptest::prelude::*;
use prost::Message;

use super::fixture::{Fixture, START_MS, command, create_room, send};
use crate::{
    machine::{Effect, apply, query},
    storage::{StorageError, kv::MemoryKv},
    types::{AccountId, ConversationId, Cursor, limits},
    wire::{
        chat,
        store::{self, command::Verb},
    },
};

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![0..6u64, Just(u64::MAX), Just(u64::MAX - 1), Just(1 << 44), any::<u64>()]
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec!["", "alice", "BOB", "c1", "$x", "\0", "é", "\u{202e}", "a\u{1b}[31m"])
            .prop_map(str::to_owned),
        (0..70usize).prop_map(|count| "x".repeat(count)),
        Just("y".repeat(limits::BODY_BYTES + 1)),
        any::<String>(),
    ]
}

fn lists() -> impl Strategy<Value = Vec<String>> {
    prop_oneof![prop::collection::vec(texts(), 0..4), Just(vec!["alice".to_owned(); limits::NAMES_PER_REQUEST + 1]),]
}

fn refs() -> impl Strategy<Value = Vec<store::MessageRef>> {
    let one = (numbers(), numbers()).prop_map(|(conversation_id, seq)| store::MessageRef { conversation_id, seq });
    prop_oneof![
        prop::collection::vec(one, 0..4),
        Just(vec![store::MessageRef { conversation_id: 1, seq: 1 }; limits::MESSAGE_REFS + 1]),
    ]
}

fn verbs() -> impl Strategy<Value = Option<Verb>> {
    use store::send_message::Recipient;
    let recipient = prop::option::of(prop_oneof![
        texts().prop_map(Recipient::Username),
        numbers().prop_map(Recipient::ConversationId)
    ]);
    prop_oneof![
        Just(None),
        (texts(), texts()).prop_map(|(username, password_hash)| Some(Verb::CreateAccount(store::CreateAccount {
            username,
            password_hash
        }))),
        (numbers(), any::<bool>()).prop_map(|(password_version, erase_messages)| {
            Some(Verb::DeleteAccount(store::DeleteAccount { password_version, erase_messages }))
        }),
        (numbers(), texts()).prop_map(|(password_version, password_hash)| {
            Some(Verb::ChangePassword(store::ChangePassword { password_version, password_hash }))
        }),
        (texts(), numbers(), prop::collection::vec(any::<u8>(), 0..40), texts(), numbers()).prop_map(
            |(username, password_version, key, device, ttl_ms)| {
                let new_session_key = key.into();
                Some(Verb::CreateSession(store::CreateSession {
                    username,
                    password_version,
                    new_session_key,
                    device,
                    ttl_ms,
                }))
            }
        ),
        (texts(), any::<bool>())
            .prop_map(|(session_id, all)| Some(Verb::DeleteSession(store::DeleteSession { session_id, all }))),
        (texts(), any::<bool>(), lists()).prop_map(|(title, private, members)| {
            Some(Verb::CreateRoom(store::CreateRoom { title, private, members }))
        }),
        (numbers(), prop::option::of(texts()), lists(), lists()).prop_map(
            |(conversation_id, title, add_members, remove_members)| {
                Some(Verb::UpdateRoom(store::UpdateRoom { conversation_id, title, add_members, remove_members }))
            }
        ),
        numbers().prop_map(|conversation_id| Some(Verb::JoinRoom(store::JoinRoom { conversation_id }))),
        numbers().prop_map(|conversation_id| Some(Verb::LeaveRoom(store::LeaveRoom { conversation_id }))),
        (recipient, texts())
            .prop_map(|(recipient, body)| Some(Verb::SendMessage(store::SendMessage { recipient, body }))),
        (refs(), numbers(), numbers()).prop_map(|(messages, conversation_id, up_to_seq)| {
            Some(Verb::MarkRead(store::MarkRead { messages, conversation_id, up_to_seq }))
        }),
        (refs(), any::<bool>()).prop_map(|(messages, for_everyone)| {
            Some(Verb::DeleteMessages(store::DeleteMessages { messages, for_everyone }))
        }),
        texts().prop_map(|name| Some(Verb::AllocateNode(store::AllocateNode { name }))),
        prop::option::of(any::<bool>())
            .prop_map(|read_receipts| Some(Verb::UpdateSettings(store::UpdateSettings { read_receipts }))),
        texts().prop_map(|username| Some(Verb::BlockAccount(store::BlockAccount { username }))),
        texts().prop_map(|username| Some(Verb::UnblockAccount(store::UnblockAccount { username }))),
        Just(Some(Verb::Tend(store::Tend {}))),
        (any::<u64>(), any::<Option<u64>>()).prop_map(|(time_ms, clients_ahead_ms)| {
            Some(Verb::CorrectTime(store::CorrectTime { time_ms, clients_ahead_ms }))
        }),
    ]
}

/// A fixture with a direct conversation and a room.
fn populated() -> Fixture {
    let mut fixture = Fixture::with(&["alice", "bob"]);
    fixture.run("alice", send("bob", "hello"));
    fixture.run("bob", create_room("den", false, &["alice"]));
    fixture.run("bob", send("c2", "hello"));
    fixture
}

fn run_every_query(state: &MemoryKv, account: AccountId, number: u64, text: &str, size: i32) {
    let id = ConversationId(number);
    let page_token = text.to_owned();
    let _ = query::account_by_name(state, text);
    let _ = query::conversation(state, account, id);
    let _ = query::events_after(state, account, Cursor(number), Some(&[id]), usize::MAX);
    let _ = query::events_after(state, account, Cursor(number), None, 0);
    let request =
        chat::ListAccountsRequest { pattern: text.to_owned(), page_size: size, page_token: page_token.clone() };
    let _ = query::list_accounts(state, &request);
    for flag in [false, true] {
        let request = chat::ListConversationsRequest {
            unread_only: !flag,
            joinable: flag,
            page_size: size,
            page_token: page_token.clone(),
        };
        let _ = query::list_conversations(state, account, &request);
    }
    use chat::list_messages_request::Recipient;
    for recipient in
        [None, Some(Recipient::Username(text.to_owned())), Some(Recipient::ConversationId("c1".to_owned()))]
    {
        for (after_seq, before_seq) in [(number, 0), (0, number), (number, number)] {
            let page_token = page_token.clone();
            let request = chat::ListMessagesRequest {
                recipient: recipient.clone(),
                after_seq,
                before_seq,
                unread_only: size % 2 == 0,
                page_size: size,
                page_token,
            };
            let _ = query::list_messages(state, account, &request);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_that_decode_panic_it(bytes in prop::collection::vec(any::<u8>(), 0..200), key in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut fixture = populated();
        if let Ok(batch) = store::CommandBatch::decode(&bytes[..]) {
            apply(&mut fixture.kv, 100, &batch).unwrap();
        }
        if let Ok(mut found) = store::Command::decode(&bytes[..]) {
            apply(&mut fixture.kv, 101, &store::CommandBatch { time_ms: START_MS, commands: vec![found.clone()] }).unwrap();
            let id = fixture.mint(START_MS);
            found.request_id = id.as_bytes().to_vec().into();
            found.session_key = key.into();
            apply(&mut fixture.kv, 102, &store::CommandBatch { time_ms: START_MS, commands: vec![found] }).unwrap();
        }
    }

    #[test]
    fn no_field_at_its_limits_panics_it(verbs in prop::collection::vec(verbs(), 1..12), time_ms in numbers(), last_time_ms in numbers()) {
        let mut fixture = populated();
        let mut commands = Vec::new();
        for verb in verbs {
            let id = fixture.mint(START_MS);
            let mut next = command(id, "alice", send("bob", ""));
            next.verb = verb;
            commands.push(next);
        }
        for time_ms in [START_MS, time_ms, last_time_ms] {
            let batch = store::CommandBatch { time_ms, commands: commands.clone() };
            let applied = apply(&mut fixture.kv, 1_000, &batch).unwrap();
            prop_assert_eq!(applied.outcomes.len(), commands.len());
        }
    }

    #[test]
    fn no_query_panics(number in numbers(), text in texts(), size in any::<i32>()) {
        let fixture = populated();
        for account in [fixture.account("alice"), AccountId(number)] {
            run_every_query(&fixture.kv, account, number, &text, size);
        }
        for letter in ["a", "c", "j", "m", "f", "b"] {
            run_every_query(&fixture.kv, fixture.account("alice"), number, &format!("1{letter}{number:016x}"), size);
        }
    }
}

#[test]
fn an_entry_has_an_end_and_says_so() {
    let mut fixture = populated();
    let commands = (0..3).map(|_| command(fixture.mint(START_MS), "alice", send("bob", "x"))).collect();
    let batch = store::CommandBatch { time_ms: START_MS, commands };
    let applied = apply(&mut fixture.kv, (1 << 44) - 1, &batch).unwrap();
    assert!(applied.effects.contains(&Effect::Conversation(ConversationId(1))));
    let damaged = apply(&mut fixture.kv, 1 << 44, &batch);
    assert!(matches!(damaged, Err(StorageError::Damaged { .. })));
}

#[test]
fn a_record_that_does_not_decode_is_named_and_never_served() {
    use crate::{machine::core::keys, storage::kv::Write};
    let mut fixture = populated();
    fixture.kv.put(&keys::account(fixture.account("alice")), &[0xff; 3]).unwrap();
    let batch = store::CommandBatch {
        time_ms: START_MS,
        commands: vec![command(fixture.mint(START_MS), "bob", send("alice", "x"))],
    };
    let error = apply(&mut fixture.kv, 1_000, &batch).unwrap_err();
    assert!(error.to_string().contains("AccountRecord"), "{error}");
}
