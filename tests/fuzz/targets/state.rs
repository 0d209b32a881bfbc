//! The chat state: hostile commands on a sound state, sound commands on a damaged state, hostile queries.

use std::ops::ControlFlow;

use prost::Message;
use quorate::{
    machine::apply,
    raft::StateMeta,
    server::testing::is_call,
    storage::{
        StorageError,
        kv::{END, MemoryKv, Read, Write},
    },
    types::{Address, ConversationId, NodeName, RequestId, RoomTitle, Username},
    wire::store::{self, command::Verb},
};

use super::fixture::{NEXT, NOW_MS, command, history, populated_state, run, run_every_query};

/// A batch of commands, as in a log entry. No command damages the state, and two replicas end up identical (P8).
pub fn commands(data: &[u8]) -> bool {
    let Ok(batch) = store::CommandBatch::decode(data) else { return false };
    apply_twice(&batch);
    let mut alive = batch;
    for (number, found) in (1_000..).zip(&mut alive.commands) {
        *found = command(number, "alice", found.verb.take().unwrap_or(Verb::Tend(store::Tend {})));
    }
    apply_twice(&alive);
    true
}

/// Applies the batch on two replicas and compares them.
fn apply_twice(batch: &store::CommandBatch) {
    let (mut one, mut other) = (populated_state(), populated_state());
    let applied = apply(&mut one, NEXT, batch).expect("a command does not damage the state");
    assert_eq!(applied.outcomes.len(), batch.commands.len());
    drop(applied);
    apply(&mut other, NEXT, batch).expect("a command does not damage the state of another replica");
    assert!(one == other, "replicas differ");
    run_every_query(&one, "", 1);
}

pub fn batches() -> Vec<Vec<u8>> {
    let one = |command| store::CommandBatch { time_ms: NOW_MS, commands: vec![command] }.encode_to_vec();
    let all = store::CommandBatch { time_ms: NOW_MS, commands: history() };
    history().into_iter().map(one).chain([all.encode_to_vec()]).collect()
}

fn keys() -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let scanned = populated_state().scan(b"", END, &mut |key, _| {
        keys.push(key.to_vec());
        ControlFlow::Continue(())
    });
    scanned.expect("memory");
    keys
}

/// One row with a foreign value: two bytes for its number, then the value. Queries and commands use it or report it as
/// damaged.
pub fn records(data: &[u8]) -> bool {
    let Some((which, value)) = data.split_first_chunk::<2>() else { return false };
    let (keys, mut kv) = (keys(), populated_state());
    let key = &keys[usize::from(u16::from_be_bytes(*which)) % keys.len()];
    kv.put(key, value).expect("memory");
    run_every_query(&kv, "", u64::from(which[1]));
    let read = StateMeta::read(&kv).map(drop);
    let mut sound = named(read);
    for (number, by) in [(2_000, "alice"), (3_000, "bob")] {
        for (number, verb) in (number..).zip(verbs()) {
            let mut changed: MemoryKv = kv.clone();
            sound &= named(run(&mut changed, vec![command(number, by, verb)]).map(drop));
        }
    }
    sound
}

/// Whether it succeeded. A failure must be reported as damage.
fn named(result: Result<(), StorageError>) -> bool {
    if let Err(error) = &result {
        assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    }
    result.is_ok()
}

fn verbs() -> Vec<Verb> {
    use store::send_message::Recipient;
    let one = vec![store::MessageRef { conversation_id: 1, seq: 1 }, store::MessageRef { conversation_id: 1, seq: 2 }];
    vec![
        Verb::SendMessage(store::SendMessage {
            recipient: Some(Recipient::Username("bob".into())),
            body: "on we go".into(),
        }),
        Verb::MarkRead(store::MarkRead { conversation_id: 1, ..Default::default() }),
        Verb::MarkRead(store::MarkRead { messages: one.clone(), ..Default::default() }),
        Verb::DeleteMessages(store::DeleteMessages { messages: one, for_everyone: true }),
        Verb::UpdateRoom(store::UpdateRoom {
            conversation_id: 2,
            title: Some("new".into()),
            add_members: vec![],
            remove_members: vec!["alice".into()],
        }),
        Verb::JoinRoom(store::JoinRoom { conversation_id: 2 }),
        Verb::LeaveRoom(store::LeaveRoom { conversation_id: 2 }),
        Verb::DeleteAccount(store::DeleteAccount { password_version: 1, erase_messages: true }),
        Verb::Tend(store::Tend {}),
        Verb::CorrectTime(store::CorrectTime { time_ms: 1, clients_ahead_ms: Some(1) }),
    ]
}

/// Every row as it is, and with each field in turn at its largest.
pub fn rows() -> Vec<Vec<u8>> {
    let kv = populated_state();
    let mut rows = Vec::new();
    for (which, key) in (0_u16..).zip(keys()) {
        let value = kv.get(&key).expect("memory").unwrap_or_default();
        let row = |value: &[u8]| [&which.to_be_bytes()[..], value].concat();
        rows.push(row(&value));
        for field in 1..=13_u8 {
            // If a field occurs twice, protobuf takes the last.
            let largest = [&[8 * field][..], &[0xff; 9], &[1]].concat();
            rows.push(row(&[&value[..], &largest].concat()));
        }
    }
    rows
}

/// What callers send as text: page tokens, cursors, ids, names, bearer tokens.
pub fn tokens(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let number = data.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let state = populated_state();
    run_every_query(&state, &text, number);
    let (conversation, request, address) = (text.parse::<ConversationId>(), text.parse(), text.parse::<Address>());
    if let Ok(id) = conversation {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Ok(id) = request {
        assert_eq!(RequestId::to_string(&id).parse(), Ok(id));
    }
    if let Ok(address) = &address {
        assert_eq!(address.to_string(), text);
        let _ = (address.host(), address.is_unspecified());
    }
    let named = [Username::new(&text).is_ok(), NodeName::new(&text).is_ok(), RoomTitle::new(&text).is_ok()];
    let ids = [conversation.is_ok(), request.is_ok(), RequestId::from_bytes(data).is_ok()];
    // Metadata values contain no line break, so a line break separates them here.
    let mut values = data.split(|byte| *byte == b'\n');
    let call = is_call(std::array::from_fn(|_| values.next()));
    call || address.is_ok() || [named, ids].concat().contains(&true)
}

pub fn page_tokens() -> Vec<Vec<u8>> {
    let calls = [
        "Bearer abc\nlinearizable\n17\n5S",
        "Bearer abc\nstale\n18446744073709551615\n99999999H",
        "bearer a b c\nlinearizable\n0\n0n",
    ];
    let words = ["c1", "c42", "127.0.0.1:7401", "[::1]:80", "alice", "Bearer abc", "linearizable", "stale", "17", "5S"];
    let words = words.into_iter().chain(calls);
    let tokens = ["a", "c", "j", "m", "f", "b"].map(|letter| format!("1{letter}{:016x}", 2));
    let id = super::fixture::request_id(1).to_string();
    let texts = words.map(str::to_owned).chain(tokens).chain([id]);
    texts.map(String::into_bytes).chain([(7_u64 << 20).to_be_bytes().to_vec()]).collect()
}
