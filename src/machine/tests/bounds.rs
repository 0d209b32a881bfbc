//! Limits are kept, and no command does unbounded work.

use super::fixture::{Fixture, START_MS, command, create_account, create_room, create_session, send};
use crate::{
    machine::{
        core::{
            keys, records,
            timeline::{event_at, is_erased},
        },
        query,
    },
    types::{ConversationId, Cursor, SessionKey, limits},
    wire::{
        chat::{self, list_messages_request::Recipient},
        store::{self, command::Verb, outcome::Result as Done},
    },
};

fn outcome(fixture: &mut Fixture, session: &str, verb: Verb) -> Done {
    fixture.run(session, verb).outcomes.remove(0).outcome.result.expect("every command has an outcome")
}

fn reason(done: &Done) -> &str {
    match done {
        Done::Refusal(refusal) => &refusal.reason,
        _ => "none",
    }
}

fn rows(fixture: &Fixture, table: u8) -> u64 {
    records::count_in(&fixture.kv, &keys::all(table), u64::MAX).unwrap()
}

fn delete_account(erase_messages: bool) -> Verb {
    Verb::DeleteAccount(store::DeleteAccount { password_version: 1, erase_messages })
}

fn send_many(fixture: &mut Fixture, session: &str, to: &str, count: u64) {
    let commands = (0..count).map(|_| command(fixture.mint(START_MS), session, send(to, "secret"))).collect();
    fixture.apply(commands);
}

#[test]
fn a_long_past_is_erased_at_once_for_readers_and_step_by_step_on_disk() {
    let mut fixture = Fixture::with(&["alice", "bob"]);
    send_many(&mut fixture, "alice", "bob", 3_000);
    fixture.run("bob", send("alice", "mine"));
    let deleted = outcome(&mut fixture, "alice", delete_account(true));
    assert_eq!(deleted, Done::AccountDeleted(store::AccountDeleted { messages_erased: 3_000 }));
    let id = ConversationId(1);
    let still_there =
        |fixture: &Fixture| (1..=3_000).filter(|seq| !is_erased(&event_at(&fixture.kv, id, *seq).unwrap())).count();
    assert!(still_there(&fixture) > 1_500, "the deletion itself takes one bounded step");
    let page = |fixture: &Fixture, after_seq| {
        let recipient = Some(Recipient::ConversationId("c1".into()));
        let request = chat::ListMessagesRequest { recipient, after_seq, ..Default::default() };
        query::list_messages(&fixture.kv, fixture.account("bob"), &request).unwrap().messages
    };
    assert!(page(&fixture, 2_900).iter().all(|message| message.deleted && message.body.is_empty()));
    for _ in 0..40 {
        fixture.run("bob", send("bob", "time goes by"));
    }
    assert_eq!(still_there(&fixture), 0);
    assert_eq!((rows(&fixture, keys::CHORE), rows(&fixture, keys::SENT)), (0, 0));
    assert_eq!(page(&fixture, 3_000)[0].body, "mine");
    assert_eq!(query::unread_total(&fixture.kv, fixture.account("bob")).unwrap(), 0);
    let mut cursor = Cursor::default();
    let mut erased = 0;
    loop {
        let (events, next) = query::events_after(&fixture.kv, fixture.account("bob"), cursor, None, 500).unwrap();
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
    let mut fixture = Fixture::with(&["alice", "bob"]);
    for _ in 0..1_100 {
        fixture.run("alice", create_room("room", false, &["bob"]));
    }
    fixture.run("alice", delete_account(false));
    assert_eq!(rows(&fixture, keys::CHORE), 1);
    for _ in 0..3 {
        fixture.run("bob", send("bob", "time goes by"));
    }
    assert_eq!(rows(&fixture, keys::CHORE), 0);
    assert_eq!(rows(&fixture, keys::MEMBER), 1_101);
    let room = query::conversation(&fixture.kv, fixture.account("bob"), ConversationId(1_100)).unwrap();
    assert_eq!((room.members, room.last_seq), (vec!["bob".to_owned()], 2));
}

#[test]
fn the_oldest_session_gives_way() {
    let mut fixture = Fixture::with(&["alice"]);
    let labels: Vec<String> = (0..limits::SESSIONS_PER_ACCOUNT).map(|count| format!("session {count}")).collect();
    for label in &labels {
        fixture.time_ms += 1;
        fixture.run("", create_session("alice", label));
    }
    let live = |label: &str| query::session(&fixture.kv, &SessionKey::of_token(label)).unwrap().is_some();
    assert!(!live("alice"), "the first one is gone");
    assert!(labels.iter().all(|label| live(label)));
    assert_eq!(rows(&fixture, keys::SESSION), limits::SESSIONS_PER_ACCOUNT as u64);
}

#[test]
fn rooms_and_memberships_have_their_limits() {
    let mut fixture = Fixture::new();
    let names: Vec<String> = (0..=limits::ROOM_MEMBERS).map(|count| format!("u{count}")).collect();
    for name in &names {
        fixture.run("", create_account(name));
    }
    fixture.run("", create_session("u0", "u0"));
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let too_many = outcome(&mut fixture, "u0", create_room("all", false, &all[1..]));
    assert_eq!(reason(&too_many), "LIMIT_EXCEEDED");
    assert_eq!(reason(&outcome(&mut fixture, "u0", create_room("all", false, &all))), "INVALID_ARGUMENT");
    assert_eq!(reason(&outcome(&mut fixture, "u0", create_room("all but one", false, &all[2..]))), "none");
    fixture.run("", create_session("u1", "u1"));
    let join = Verb::JoinRoom(store::JoinRoom { conversation_id: 1 });
    assert_eq!(reason(&outcome(&mut fixture, "u1", join)), "LIMIT_EXCEEDED");

    let id = fixture.account("u1");
    let mut busy: store::AccountRecord = records::require(&fixture.kv, &keys::account(id)).unwrap();
    busy.conversations = u32::try_from(limits::CONVERSATIONS_PER_ACCOUNT).unwrap();
    records::save(&mut fixture.kv, &keys::account(id), &busy).unwrap();
    for verb in [create_room("mine", false, &[]), send("u2", "hello")] {
        assert_eq!(reason(&outcome(&mut fixture, "u1", verb)), "LIMIT_EXCEEDED");
    }
    for verb in [create_room("ours", false, &["u1"]), send("u1", "hello")] {
        assert_eq!(reason(&outcome(&mut fixture, "u0", verb)), "LIMIT_EXCEEDED");
    }
}

#[test]
fn a_message_is_stored_once_whatever_the_size_of_the_room() {
    let mut fixture = Fixture::new();
    let names: Vec<String> = (0..200).map(|count| format!("u{count}")).collect();
    for name in &names {
        fixture.run("", create_account(name));
    }
    fixture.run("", create_session("u0", "u0"));
    let all: Vec<&str> = names.iter().skip(1).map(String::as_str).collect();
    fixture.run("u0", create_room("small", false, &all[..1]));
    fixture.run("u0", create_room("large", false, &all));
    let mut rows_added = |to: &str| {
        let count = |fixture: &Fixture| (0..u8::MAX).map(|table| rows(fixture, table)).sum::<u64>();
        let before = count(&fixture);
        assert_eq!(reason(&outcome(&mut fixture, "u0", send(to, "hello"))), "none");
        count(&fixture) - before
    };
    assert_eq!(rows_added("c1"), rows_added("c2"));
}

#[test]
fn requests_name_no_more_than_they_may() {
    let mut fixture = Fixture::with(&["alice"]);
    fixture.run("alice", send("alice", "note"));
    let messages = vec![store::MessageRef { conversation_id: 1, seq: 1 }; limits::MESSAGE_REFS + 1];
    let read = Verb::MarkRead(store::MarkRead { messages: messages.clone(), ..Default::default() });
    assert_eq!(reason(&outcome(&mut fixture, "alice", read)), "INVALID_ARGUMENT");
    let delete = Verb::DeleteMessages(store::DeleteMessages { messages, for_everyone: true });
    assert_eq!(reason(&outcome(&mut fixture, "alice", delete)), "INVALID_ARGUMENT");
}

#[test]
fn a_page_ends_before_its_bytes_do() {
    let mut fixture = Fixture::with(&["alice"]);
    let body = "x".repeat(limits::BODY_BYTES);
    for _ in 0..40 {
        fixture.run("alice", send("alice", &body));
    }
    let mut request = chat::ListMessagesRequest { page_size: 500, ..Default::default() };
    let mut count = 0;
    loop {
        let page = query::list_messages(&fixture.kv, fixture.account("alice"), &request).unwrap();
        assert!(prost::Message::encoded_len(&page) < limits::PAGE_BYTES + 1_024);
        count += page.messages.len();
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(count, 40);
    let (events, _) = query::events_after(&fixture.kv, fixture.account("alice"), Cursor::default(), None, 500).unwrap();
    assert!(events.len() < 40);
}
