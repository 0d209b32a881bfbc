//! The commands against a scripted node.

use std::{collections::VecDeque, time::Duration};

use clap::{CommandFactory, Parser, error::ErrorKind};
use tempfile::TempDir;
use tokio::net::TcpSocket;

use super::{Chat, Environment, run};
use crate::{
    cli::{
        Captured, Exit, Failure, Output,
        text::testing::{EVIL, assert_harmless},
    },
    client::fake::{Fake, Turn},
    types::limits,
    wire::{
        Dialer, Fault, Reason,
        chat::{
            Account, Conversation, Message, MessageRef, MessagesDeleted, ReadMarkMoved, Session, SubscribeResponse,
            subscribe_response::Event,
        },
    },
};

/// A person at a terminal, with a state folder of its own.
struct Person {
    state: TempDir,
    node: Fake,
}

/// What a command did.
struct Ran {
    result: Result<(), Failure>,
    captured: Captured,
}

impl Ran {
    fn data(self) -> String {
        let talk = self.captured.talk();
        self.result.unwrap_or_else(|failure| panic!("{failure}\n{talk}"));
        self.captured.data()
    }

    fn failure(self) -> (Exit, String) {
        let failure = self.result.expect_err("it should fail");
        (failure.exit, failure.to_string())
    }
}

impl Person {
    async fn new() -> Self {
        Self { state: tempfile::tempdir().unwrap(), node: Fake::start(1).await }
    }

    async fn signed_in() -> Self {
        let person = Self::new().await;
        person.run(&["login", "alice"]).await.data();
        person
    }

    async fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "").await
    }

    async fn run_with(&self, args: &[&str], input: &str) -> Ran {
        self.run_at(self.node.address.as_str(), args, input).await
    }

    async fn run_at(&self, server: &str, args: &[&str], input: &str) -> Ran {
        let servers = ["chat", "--servers", server];
        let chat = Chat::try_parse_from(servers.iter().chain(args)).unwrap();
        let (output, captured) = Output::captured(chat.json);
        let environment = Environment {
            output,
            input: Box::new(std::io::Cursor::new(input.as_bytes().to_vec())),
            state: Some(self.state.path().into()),
            config: Some(self.state.path().join("config")),
            password: Some("correct horse".into()),
            new_password: Some("battery staple".into()),
            dialer: Dialer::tcp(),
        };
        Ran { result: run(chat, environment).await, captured }
    }
}

fn message(conversation: &str, seq: u64, body: &str) -> Message {
    let (conversation_id, sender, body) = (conversation.into(), "bob".into(), body.into());
    Message { conversation_id, seq, sender, body, ..Default::default() }
}

fn room(id: &str, title: &str) -> Conversation {
    Conversation { conversation_id: id.into(), title: title.into(), ..Default::default() }
}

#[test]
fn the_command_line_holds_together() {
    Chat::command().debug_assert();
    for bad in [
        &["chat", "send"][..],
        &["chat", "read", "--limit", "0"],
        &["chat", "read", "--limit", "501"],
        &["chat", "--servers", "nowhere", "inbox"],
        &["chat", "--timeout", "0s", "inbox"],
        &["chat", "delete", "bob", "0"],
        &["chat", "listen", "--after", "x"],
        &["chat", "login", "alice", "--password", "secret"],
        &["chat", "send", "--request-id", "1", "bob", "hello"],
    ] {
        let error = Chat::try_parse_from(bad).expect_err("it should be refused");
        assert_eq!(error.exit_code(), 2, "{bad:?}");
    }
    let version = Chat::try_parse_from(["chat", "--version"]).unwrap_err();
    assert_eq!(version.kind(), ErrorKind::DisplayVersion);
}

#[tokio::test]
async fn signing_in_lasts_until_signing_out() {
    let person = Person::new().await;
    let (exit, text) = person.run(&["inbox"]).await.failure();
    assert_eq!(exit, Exit::NotAllowed);
    assert!(text.contains("not signed in") && text.contains("chat login"), "{text}");
    person.run(&["login", "alice"]).await.data();
    assert_eq!(person.run(&["whoami"]).await.data(), "alice\n");
    person.run(&["logout"]).await.data();
    assert_eq!(person.run(&["whoami"]).await.failure().0, Exit::NotAllowed);
}

#[tokio::test]
async fn registering_signs_in_unless_told_not_to() {
    let person = Person::new().await;
    person.run(&["register", "alice"]).await.data();
    assert_eq!(person.run(&["whoami"]).await.data(), "alice\n");
    person.run(&["register", "bob", "--no-login"]).await.data();
    assert_eq!(person.run(&["whoami"]).await.data(), "alice\n");
    assert_eq!(person.run(&["--as", "bob", "whoami"]).await.failure().0, Exit::NotAllowed);
}

#[tokio::test]
async fn an_account_that_cannot_sign_in_is_told_to_be_registered() {
    let person = Person::new().await;
    let refused = Turn::Refuse(Fault::new(Reason::LimitExceeded, "no more sessions"));
    person.node.script(|script| script.turns.extend([Turn::Accept, refused]));
    let (_, text) = person.run(&["register", "alice"]).await.failure();
    assert!(text.contains("alice is registered, but cannot sign in") && text.contains("chat login alice"), "{text}");
}

#[tokio::test]
async fn several_accounts_may_be_signed_in_here() {
    let person = Person::new().await;
    person.run(&["login", "alice"]).await.data();
    person.run(&["login", "bob"]).await.data();
    assert_eq!(person.run(&["whoami"]).await.data(), "bob\n");
    assert_eq!(person.run(&["--as", "alice", "whoami"]).await.data(), "alice\n");
    assert_eq!(person.run(&["--as", "carol", "whoami"]).await.failure().0, Exit::NotAllowed);
}

#[tokio::test]
async fn neither_password_nor_token_is_ever_printed() {
    let person = Person::new().await;
    for args in [&["register", "alice"][..], &["login", "alice"], &["--json", "login", "alice"], &["passwd"]] {
        let ran = person.run(args).await;
        let text = format!("{}{}", ran.captured.talk(), ran.captured.data());
        for secret in ["correct horse", "battery staple", "token-of"] {
            assert!(!text.contains(secret), "{args:?} printed {text}");
        }
    }
}

#[tokio::test]
async fn a_session_that_ended_says_to_sign_in_again() {
    let person = Person::signed_in().await;
    let ended = Turn::Refuse(Fault::new(Reason::SessionInvalid, "the session has ended"));
    person.node.script(|script| script.turns.push_back(ended.clone()));
    let (exit, text) = person.run(&["inbox"]).await.failure();
    assert_eq!(exit, Exit::NotAllowed);
    assert!(text.contains("chat login"), "{text}");
    person.node.script(|script| script.turns.push_back(ended));
    person.run(&["logout"]).await.data();
}

#[tokio::test]
async fn with_no_cluster_there_commands_end_with_6() {
    // Bound but not listening: dialling it is refused, and nobody else gets the port.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = socket.local_addr().unwrap().to_string();
    let person = Person::new().await;
    let (exit, text) = person.run_at(&nobody, &["--timeout", "200ms", "register", "alice"], "").await.failure();
    assert_eq!(exit, Exit::Unavailable, "{text}");
    assert!(text.contains("no node answers") && text.contains("next:"), "{text}");
}

#[tokio::test]
async fn a_send_of_unknown_outcome_says_how_to_make_sure() {
    let person = Person::signed_in().await;
    person.node.script(|script| script.turns.extend(vec![Turn::Hang; 9]));
    let (exit, text) = person.run(&["--timeout", "200ms", "send", "bob", "hello"]).await.failure();
    let id = person.node.script(|script| script.sent[0].request_id.clone());
    assert_eq!(exit, Exit::Unavailable);
    assert!(text.contains(&format!("--request-id {id}")), "{text}");
    person.node.script(|script| script.turns.clear());
    person.run(&["send", "--request-id", &id, "bob", "hello"]).await.data();
    assert_eq!(person.node.script(|script| script.sent.last().unwrap().request_id.clone()), id);
}

#[tokio::test]
async fn a_message_comes_from_the_arguments_or_from_standard_input() {
    let person = Person::signed_in().await;
    person.run(&["send", "bob", "two", "words"]).await.data();
    person.run_with(&["send", "bob", "-"], "from a\nfile\n").await.data();
    let bodies: Vec<String> = person.node.script(|script| script.sent.iter().map(|sent| sent.body.clone()).collect());
    assert_eq!(bodies, ["two words", "from a\nfile"]);
    person.run_with(&["send", "bob", "-"], "\u{feff}x\r\ny\r\n").await.data();
    assert_eq!(person.node.script(|script| script.sent.last().unwrap().body.clone()), "x\ny");
    for nothing in [&["send", "bob"][..], &["send", "-"]] {
        assert_eq!(person.run(nothing).await.failure().0, Exit::Usage, "{nothing:?}");
    }
    person.run_with(&["send", "bob", "-"], &"x".repeat(40_000)).await.data();
    let sent = person.node.script(|script| script.sent.last().unwrap().body.len());
    assert_eq!(sent, 40_000, "the server refuses too much, by its true size");
    let far_too_long = person.run_with(&["send", "bob", "-"], &"x".repeat(4 * limits::BODY_BYTES)).await.failure();
    assert_eq!(far_too_long.0, Exit::Failure);
}

#[tokio::test]
async fn what_is_queued_goes_out_once_with_the_next_send() {
    let person = Person::signed_in().await;
    person.node.script(|script| script.turns.extend(vec![Turn::Hang; 9]));
    let ran = person.run(&["--timeout", "200ms", "send", "--queue", "bob", "one"]).await;
    assert!(ran.captured.talk().contains("kept on disk"), "{}", ran.captured.talk());
    let listed = person.run(&["--json", "outbox"]).await.data();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&listed["body"], &listed["state"]), (&"one".into(), &"waiting".into()));
    let id = listed["requestId"].as_str().unwrap().to_owned();
    let (exit, text) = person.run(&["outbox", "resend", &id]).await.failure();
    assert!(exit == Exit::Refused && text.contains("still waits"), "a new id could double it: {text}");
    let (exit, _) = person.run(&["--timeout", "200ms", "send", "bob", "two"]).await.failure();
    assert_eq!(exit, Exit::Unavailable, "nothing overtakes what waits");
    person.node.script(|script| script.turns.clear());
    person.run(&["send", "bob", "two"]).await.data();
    let sent = person.node.script(|script| script.sent.clone());
    let (last, before) = sent.split_last().unwrap();
    assert_eq!(last.body, "two");
    assert!(before.iter().all(|sent| sent.body == "one" && sent.request_id == id), "{before:?}");
    assert_eq!(person.run(&["--json", "outbox"]).await.data(), "");
}

#[tokio::test]
async fn what_is_too_old_to_repeat_waits_for_the_persons_word() {
    let person = Person::signed_in().await;
    let old = Turn::Refuse(Fault::new(Reason::RequestTooOld, "older than outcomes are remembered"));
    person.node.script(|script| script.turns.extend(vec![Turn::Hang; 9]));
    person.run(&["--timeout", "200ms", "send", "--queue", "bob", "one"]).await.data();
    person.node.script(|script| script.turns = [old].into());
    let (_, text) = person.run(&["outbox", "flush"]).await.failure();
    assert!(text.contains("not delivered, kept") && text.contains("resend"), "{text}");
    let listed: serde_json::Value = serde_json::from_str(&person.run(&["--json", "outbox"]).await.data()).unwrap();
    assert_eq!(listed["state"], "too old");
    person.run(&["send", "bob", "two"]).await.data();
    let id = listed["requestId"].as_str().unwrap();
    person.run(&["outbox", "resend", id]).await.data();
    let sent = person.node.script(|script| script.sent.last().unwrap().clone());
    assert!(sent.body == "one" && sent.request_id != id, "{sent:?}");
    assert_eq!(person.run(&["outbox", "drop", id]).await.failure().0, Exit::NotFound);
}

#[tokio::test]
async fn a_recipient_is_a_name_a_room_or_an_id() {
    use crate::wire::chat::send_message_request::Recipient::{ConversationId, Username};
    let person = Person::signed_in().await;
    person.node.script(|script| {
        script.conversations = vec![room("c7", "ops"), room("c8", "twice"), room("c9", "twice")];
        script.joinable = vec![room("c11", "ops"), room("c12", "lobby")];
    });
    for to in ["bob", "@c42", "c42", "#ops", "#lobby"] {
        person.run(&["send", to, "hello"]).await.data();
    }
    let to: Vec<_> =
        person.node.script(|script| script.sent.iter().map(|sent| sent.recipient.clone().unwrap()).collect());
    assert_eq!(
        to,
        [
            Username("bob".into()),
            Username("c42".into()),
            ConversationId("c42".into()),
            ConversationId("c7".into()),
            ConversationId("c12".into()),
        ]
    );
    let (exit, text) = person.run(&["send", "#twice", "hello"]).await.failure();
    assert_eq!(exit, Exit::Conflict);
    assert!(text.contains("c8, c9"), "{text}");
    assert_eq!(person.run(&["send", "#none", "hello"]).await.failure().0, Exit::NotFound);
    assert_eq!(person.run(&["send", "a b", "hello"]).await.failure().0, Exit::Failure);
}

#[tokio::test]
async fn reading_shows_the_oldest_unread_and_marks_just_those() {
    let person = Person::signed_in().await;
    person
        .node
        .script(|script| script.messages = vec![message("c1", 3, "a"), message("c2", 9, "b"), message("c1", 4, "c")]);
    person.run(&["read", "--peek"]).await.data();
    assert!(person.node.script(|script| script.marked.is_empty()), "--peek marks nothing");
    let shown = person.run(&["read", "--limit", "2"]).await.data();
    assert_eq!(shown, "c1/3  bob: a\nc2/9  bob: b\n");
    let marked = person.node.script(|script| script.marked[0].messages.clone());
    let place = |conversation: &str, seq| MessageRef { conversation_id: conversation.into(), seq };
    assert_eq!(marked, [place("c1", 3), place("c2", 9)]);
    assert!(person.node.script(|script| script.listed.iter().all(|list| list.unread_only)));
}

#[tokio::test]
async fn messages_as_json_are_one_object_per_line() {
    let person = Person::signed_in().await;
    person.node.script(|script| script.messages = vec![message("c1", 1, "a\nb"), message("c1", 2, "c")]);
    let lines = person.run(&["--json", "history", "bob", "--limit", "2"]).await.data();
    let bodies: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["body"].clone()).collect();
    assert_eq!(bodies, ["a\nb", "c"]);
}

#[tokio::test]
async fn the_inbox_names_the_other_one_and_cleans_what_others_wrote() {
    let person = Person::signed_in().await;
    person.node.script(|script| {
        script.conversations = vec![
            Conversation {
                conversation_id: "c1".into(),
                direct: true,
                members: vec!["Alice".into(), "bob".into()],
                unread_count: 3,
                last_seq: 8,
                peer_read_seq: 7,
                ..Default::default()
            },
            room("c2", "ev\u{1b}il"),
        ];
    });
    let shown = person.run(&["inbox"]).await.data();
    assert_eq!(
        shown,
        "UNREAD  WITH         ID  LAST  SEEN\n3       bob          c1  8     7\n0       #\"ev\\x1bil\"  c2  0\n"
    );
    let unread = person.run(&["inbox", "--unread"]).await.data();
    assert_eq!(unread.lines().count(), 2);
}

#[tokio::test]
async fn deleting_from_a_direct_conversation_finds_its_id() {
    let person = Person::signed_in().await;
    let (exit, _) = person.run(&["delete", "bob", "3"]).await.failure();
    assert_eq!(exit, Exit::NotFound, "no messages yet");
    person.node.script(|script| script.messages = vec![message("c5", 1, "a")]);
    person.run(&["delete", "bob", "3", "4", "--for-everyone"]).await.data();
    let deleted = person.node.script(|script| script.deleted[0].clone());
    assert!(deleted.for_everyone);
    assert_eq!(deleted.messages.iter().map(|place| place.seq).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(deleted.messages[0].conversation_id, "c5");
}

#[tokio::test]
async fn rooms_are_made_joined_and_changed() {
    let person = Person::signed_in().await;
    let made = person.run(&["--json", "room", "create", "#ops", "bob", "--private"]).await.data();
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert_eq!((&made["title"], &made["private"]), (&"ops".into(), &true.into()));
    person.node.script(|script| {
        script.conversations = vec![room("c7", "ops")];
        script.joinable = vec![room("c12", "lobby")];
    });
    for args in [
        &["room", "join", "#lobby"][..],
        &["room", "rename", "#ops", "operations"],
        &["room", "invite", "c7", "bob", "carol"],
        &["room", "kick", "ops", "bob"],
        &["room", "leave", "ops"],
    ] {
        person.run(args).await.data();
    }
    let updated = person.node.script(|script| script.updated.clone());
    assert!(updated.iter().all(|update| update.conversation_id == "c7"));
    assert_eq!(updated[0].title.as_deref(), Some("operations"));
    assert_eq!(updated[1].add_members, ["bob", "carol"]);
    assert_eq!(updated[2].remove_members, ["bob"]);
    let listed = person.run(&["rooms"]).await.data();
    assert_eq!(listed.lines().count(), 3, "{listed}");
}

#[tokio::test]
async fn listening_goes_on_through_a_lost_connection_and_ends_with_the_session() {
    let person = Person::signed_in().await;
    person.node.script(|script| {
        let event =
            |cursor, seq| Ok(SubscribeResponse { cursor, event: Some(Event::Message(message("c1", seq, "hi"))) });
        script.streams.push_back(vec![event(5, 1)]);
        script.streams.push_back(vec![event(6, 2), Err(Fault::new(Reason::SessionInvalid, "signed out elsewhere"))]);
    });
    let ran = tokio::time::timeout(Duration::from_secs(20), person.run(&["listen", "--after", "4"])).await.unwrap();
    let (data, talk) = (ran.captured.data(), ran.captured.talk());
    assert_eq!(ran.failure().0, Exit::NotAllowed);
    assert_eq!(data, "c1/1  bob: hi\nc1/2  bob: hi\n");
    assert!(talk.contains("connection lost") && talk.contains("connected again"), "{talk}");
}

/// A node that lies in every string it gives.
#[tokio::test]
async fn nothing_that_a_node_says_reaches_the_terminal_raw() {
    let evil = || EVIL.to_owned();
    let person = Person::signed_in().await;
    let said = Message { sender: evil(), sender_deleted: true, ..message(EVIL, 1, EVIL) };
    let direct = Conversation { direct: true, members: vec![evil()], peer_read_seq: 1, ..room(EVIL, EVIL) };
    let other = Conversation { members: vec![evil()], unread_count: 1, ..room("c2", EVIL) };
    let place = MessageRef { conversation_id: evil(), seq: 1 };
    let deleted = MessagesDeleted { messages: vec![place], by: evil(), ..Default::default() };
    let read = ReadMarkMoved { conversation_id: evil(), username: evil(), read_seq: 1 };
    let events =
        [Event::Message(said.clone()), Event::Deleted(deleted), Event::Read(read), Event::Conversation(other.clone())];
    let ended = || Err(Fault::new(Reason::SessionInvalid, EVIL).next(EVIL));
    let events = events.into_iter().map(|event| Ok(SubscribeResponse { cursor: 1, event: Some(event) }));
    let stream: Vec<_> = events.chain([ended()]).collect();
    person.node.script(|script| {
        (script.messages, script.streams) = (vec![said], vec![stream; 9].into());
        (script.conversations, script.joinable) = (vec![direct, other.clone()], vec![other]);
        script.accounts = vec![Account { username: evil(), ..Default::default() }];
        script.sessions = vec![Session { session_id: evil(), device: evil(), ..Default::default() }];
    });
    let verbs = [
        &["inbox"][..],
        &["read", "--peek"],
        &["history", "bob"],
        &["rooms"],
        &["users"],
        &["blocked"],
        &["sessions"],
        &["room", "create", "x"],
        &["room", "join", "c2"],
        &["room", "rename", "c2", "x"],
        &["room", "invite", "c2", "x"],
        &["room", "kick", "c2", "x"],
        &["room", "leave", "c2"],
        &["send", "bob", "x"],
        &["send", "--queue", "bob", "x"],
        &["listen", "--after", "0"],
        &["whoami"],
        &["settings"],
        &["delete", "c2", "1"],
        &["block", "x"],
        &["unblock", "x"],
        &["passwd"],
        &["login", "bob"],
        &["logout", "--session", "x"],
        &["outbox"],
        &["delete-account"],
    ];
    for (args, json) in verbs.iter().flat_map(|args| [(args, false), (args, true)]) {
        let args = if json { [&["--json"], *args].concat() } else { args.to_vec() };
        for refused in [false, true] {
            let refusal = Turn::Refuse(Fault { field: Some(evil()), ..Fault::new(Reason::Internal, EVIL).next(EVIL) });
            person.node.script(|script| script.turns = if refused { vec![refusal; 9].into() } else { VecDeque::new() });
            let ran = person.run(&args).await;
            let failure = ran.result.err().map(|failure| failure.to_string()).unwrap_or_default();
            assert_harmless(&args, &[&ran.captured.data(), &ran.captured.talk(), &failure]);
        }
    }
}

#[tokio::test]
async fn a_bench_counts_what_was_acknowledged() {
    let person = Person::new().await;
    let args = ["--json", "bench", "--clients", "4", "--duration", "300ms", "--connections", "2"];
    let report: serde_json::Value = serde_json::from_str(&person.run(&args).await.data()).unwrap();
    let writes: usize = report["writes"].as_str().unwrap().parse().unwrap();
    assert!(writes > 0);
    assert_eq!(writes, person.node.script(|script| script.sent.len()));
    assert_eq!(report["errors"], "0");
}

#[tokio::test]
async fn completions_are_printed_for_shells() {
    let person = Person::new().await;
    assert!(person.run(&["completions", "bash"]).await.data().contains("_chat"));
}
