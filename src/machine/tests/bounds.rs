//! Limits are kept, and no command does unbounded work.

use super::town::{START_MS, Town, command, create_account, create_room, create_session, send};
use crate::{
    machine::{keys, query, records},
    types::{ConversationId, Cursor, SessionKey, limits},
    wire::{
        chat::{self, list_messages_request::Recipient},
        store::{self, command::Verb, outcome::Result as Done},
    },
};

fn outcome(town: &mut Town, session: &str, verb: Verb) -> Done {
    town.run(session, verb).outcomes.remove(0).outcome.result.expect("every command has an outcome")
}

fn reason(done: &Done) -> &str {
    match done {
        Done::Refusal(refusal) => &refusal.reason,
        _ => "none",
    }
}

fn rows(town: &Town, table: u8) -> u64 {
    records::count_in(&town.kv, &keys::all(table), u64::MAX).unwrap()
}

fn delete_account(erase_messages: bool) -> Verb {
    Verb::DeleteAccount(store::DeleteAccount { password_version: 1, erase_messages })
}

fn say_much(town: &mut Town, session: &str, to: &str, count: u64) {
    let commands = (0..count).map(|_| command(town.mint(START_MS), session, send(to, "secret"))).collect();
    town.apply(commands);
}

#[test]
fn a_long_past_is_erased_at_once_for_readers_and_step_by_step_on_disk() {
    let mut town = Town::with(&["alice", "bob"]);
    say_much(&mut town, "alice", "bob", 3_000);
    town.run("bob", send("alice", "mine"));
    let deleted = outcome(&mut town, "alice", delete_account(true));
    assert_eq!(deleted, Done::AccountDeleted(store::AccountDeleted { messages_erased: 3_000 }));
    let id = ConversationId(1);
    let still_there = |town: &Town| {
        (1..=3_000).filter(|seq| !records::is_erased(&records::event_at(&town.kv, id, *seq).unwrap())).count()
    };
    assert!(still_there(&town) > 1_500, "the deletion itself takes one bounded step");
    let page = |town: &Town, after_seq| {
        let recipient = Some(Recipient::ConversationId("c1".into()));
        let request = chat::ListMessagesRequest { recipient, after_seq, ..Default::default() };
        query::list_messages(&town.kv, town.account("bob"), &request).unwrap().messages
    };
    assert!(page(&town, 2_900).iter().all(|message| message.deleted && message.body.is_empty()));
    for _ in 0..40 {
        town.run("bob", send("bob", "time goes by"));
    }
    assert_eq!(still_there(&town), 0);
    assert_eq!((rows(&town, keys::CHORE), rows(&town, keys::SENT)), (0, 0));
    assert_eq!(page(&town, 3_000)[0].body, "mine");
    assert_eq!(query::unread_total(&town.kv, town.account("bob")).unwrap(), 0);
    let mut cursor = Cursor::default();
    let mut erased = 0;
    loop {
        let (events, next) = query::events_after(&town.kv, town.account("bob"), cursor, None, 500).unwrap();
        if events.is_empty() {
            break;
        }
        for event in events {
            if let Some(chat::subscribe_response::Event::Deleted(deleted)) = event.event {
                erased += deleted.messages.len();
            }
        }
        cursor = next;
    }
    assert_eq!(erased, 3_000, "subscribers are told of each");
}

#[test]
fn an_account_in_many_rooms_leaves_them_all_in_time() {
    let mut town = Town::with(&["alice", "bob"]);
    for _ in 0..1_100 {
        town.run("alice", create_room("room", false, &["bob"]));
    }
    town.run("alice", delete_account(false));
    assert_eq!(rows(&town, keys::CHORE), 1);
    for _ in 0..3 {
        town.run("bob", send("bob", "time goes by"));
    }
    assert_eq!(rows(&town, keys::CHORE), 0);
    assert_eq!(rows(&town, keys::MEMBER), 1_101);
    let room = query::conversation(&town.kv, town.account("bob"), ConversationId(1_100)).unwrap();
    assert_eq!((room.members, room.last_seq), (vec!["bob".to_owned()], 2));
}

#[test]
fn the_oldest_session_gives_way() {
    let mut town = Town::with(&["alice"]);
    let labels: Vec<String> = (0..limits::SESSIONS_PER_ACCOUNT).map(|count| format!("session {count}")).collect();
    for label in &labels {
        town.time_ms += 1;
        town.run("", create_session("alice", label));
    }
    let live = |label: &str| query::session(&town.kv, &SessionKey::of_token(label)).unwrap().is_some();
    assert!(!live("alice"), "the first one is gone");
    assert!(labels.iter().all(|label| live(label)));
    assert_eq!(rows(&town, keys::SESSION), limits::SESSIONS_PER_ACCOUNT as u64);
}

#[test]
fn rooms_and_memberships_have_their_limits() {
    let mut town = Town::new();
    let names: Vec<String> = (0..=limits::ROOM_MEMBERS).map(|count| format!("u{count}")).collect();
    for name in &names {
        town.run("", create_account(name));
    }
    town.run("", create_session("u0", "u0"));
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let too_many = outcome(&mut town, "u0", create_room("all", false, &all[1..]));
    assert_eq!(reason(&too_many), "LIMIT_EXCEEDED");
    assert_eq!(reason(&outcome(&mut town, "u0", create_room("all", false, &all))), "INVALID_ARGUMENT");
    assert_eq!(reason(&outcome(&mut town, "u0", create_room("all but one", false, &all[2..]))), "none");
    town.run("", create_session("u1", "u1"));
    let join = Verb::JoinRoom(store::JoinRoom { conversation_id: 1 });
    assert_eq!(reason(&outcome(&mut town, "u1", join)), "LIMIT_EXCEEDED");

    let id = town.account("u1");
    let mut busy: store::AccountRecord = records::require(&town.kv, &keys::account(id)).unwrap();
    busy.conversations = u32::try_from(limits::CONVERSATIONS_PER_ACCOUNT).unwrap();
    records::save(&mut town.kv, &keys::account(id), &busy).unwrap();
    for verb in [create_room("mine", false, &[]), send("u2", "hello")] {
        assert_eq!(reason(&outcome(&mut town, "u1", verb)), "LIMIT_EXCEEDED");
    }
    for verb in [create_room("ours", false, &["u1"]), send("u1", "hello")] {
        assert_eq!(reason(&outcome(&mut town, "u0", verb)), "LIMIT_EXCEEDED");
    }
}

#[test]
fn a_message_is_stored_once_whatever_the_size_of_the_room() {
    let mut town = Town::new();
    let names: Vec<String> = (0..200).map(|count| format!("u{count}")).collect();
    for name in &names {
        town.run("", create_account(name));
    }
    town.run("", create_session("u0", "u0"));
    let all: Vec<&str> = names.iter().skip(1).map(String::as_str).collect();
    town.run("u0", create_room("small", false, &all[..1]));
    town.run("u0", create_room("large", false, &all));
    let mut rows_added = |to: &str| {
        let count = |town: &Town| (0..u8::MAX).map(|table| rows(town, table)).sum::<u64>();
        let before = count(&town);
        assert_eq!(reason(&outcome(&mut town, "u0", send(to, "hello"))), "none");
        count(&town) - before
    };
    assert_eq!(rows_added("c1"), rows_added("c2"));
}

#[test]
fn requests_name_no_more_than_they_may() {
    let mut town = Town::with(&["alice"]);
    town.run("alice", send("alice", "note"));
    let messages = vec![store::MessageRef { conversation_id: 1, seq: 1 }; limits::MESSAGE_REFS + 1];
    let read = Verb::MarkRead(store::MarkRead { messages: messages.clone(), ..Default::default() });
    assert_eq!(reason(&outcome(&mut town, "alice", read)), "INVALID_ARGUMENT");
    let delete = Verb::DeleteMessages(store::DeleteMessages { messages, for_everyone: true });
    assert_eq!(reason(&outcome(&mut town, "alice", delete)), "INVALID_ARGUMENT");
}

#[test]
fn a_page_ends_before_its_bytes_do() {
    let mut town = Town::with(&["alice"]);
    let body = "x".repeat(limits::BODY_BYTES);
    for _ in 0..40 {
        town.run("alice", send("alice", &body));
    }
    let mut request = chat::ListMessagesRequest { page_size: 500, ..Default::default() };
    let mut count = 0;
    loop {
        let page = query::list_messages(&town.kv, town.account("alice"), &request).unwrap();
        assert!(prost::Message::encoded_len(&page) < limits::PAGE_BYTES + 1_024);
        count += page.messages.len();
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(count, 40);
    let (events, _) = query::events_after(&town.kv, town.account("alice"), Cursor::default(), None, 500).unwrap();
    assert!(events.len() < 40);
}
