//! The state machine of the screen: events in, effects and pictures out.

mod marks_and_banner;

use prost_types::Timestamp;
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    PAGE,
    draw::draw,
    event::{Effect, Event},
    state::{Mode, State},
};
use crate::{
    client::{Delivery, Fate, Kept, Recipient, Update},
    types::{ConversationId, RequestId},
    wire::{
        Fault, Reason,
        chat::{
            Conversation, ListMessagesResponse, Message, MessageRef, MessagesDeleted, ReadMarkMoved, RoomChange,
            SendMessageResponse, SubscribeResponse, subscribe_response,
        },
    },
};

/// A person at a screen.
struct Person {
    state: State,
}

fn id(n: u8) -> RequestId {
    RequestId::new(1_700_000_000_000 + u64::from(n), [n; 10])
}

fn bob() -> Recipient {
    Recipient::Username("bob".into())
}

fn direct(id: &str, other: &str, last_seq: u64, unread_count: u64) -> Conversation {
    let members = vec!["alice".into(), other.into()];
    Conversation { conversation_id: id.into(), direct: true, members, last_seq, unread_count, ..Default::default() }
}

fn room(id: &str, title: &str, unread_count: u64) -> Conversation {
    let (conversation_id, title) = (id.into(), title.into());
    Conversation { conversation_id, title, member_count: 7, unread_count, last_seq: 9, ..Default::default() }
}

fn message(conversation: &str, seq: u64, sender: &str, body: &str) -> Message {
    // One minute apart, from 2023-11-14 23:50:00 UTC.
    let create_time = Some(Timestamp { seconds: 1_700_005_800 + 60 * seq as i64, nanos: 0 });
    let (conversation_id, sender, body) = (conversation.into(), sender.into(), body.into());
    Message { conversation_id, seq, sender, body, create_time, ..Default::default() }
}

fn said(messages: Vec<Message>) -> ListMessagesResponse {
    ListMessagesResponse { messages, ..Default::default() }
}

fn live(message: Message) -> Event {
    event(subscribe_response::Event::Message(message))
}

fn event(event: subscribe_response::Event) -> Event {
    Event::Update(Update::Event(SubscribeResponse { cursor: 1, event: Some(event) }))
}

fn fault(reason: Reason, words: &str) -> Fault {
    Fault::new(reason, words)
}

impl Person {
    fn new(columns: u16, rows: u16) -> Self {
        let mut n = 0;
        let ids = move || {
            n += 1;
            id(n)
        };
        Self { state: State::new("alice", (columns, rows), Box::new(ids)) }
    }

    /// Connected, with two conversations, the first of them open.
    fn chatting() -> Self {
        let mut person = Self::new(80, 24);
        person.take(Event::Update(Update::Connected("127.0.0.1:7401".parse().unwrap())));
        person.take(Event::Listed(Ok(vec![direct("c1", "bob", 2, 0), room("c2", "ops", 3)])));
        person.key(KeyCode::Char('p'), KeyModifiers::CONTROL);
        let page = vec![message("c1", 1, "bob", "lunch?"), message("c1", 2, "alice", "at noon")];
        person.take(Event::Loaded { of: bob(), before: None, page: Ok(said(page)) });
        person
    }

    fn take(&mut self, event: Event) -> Vec<Effect> {
        self.state.handle(event)
    }

    fn key(&mut self, code: KeyCode, modifiers: KeyModifiers) -> Vec<Effect> {
        self.take(Event::Key(KeyEvent::new(code, modifiers)))
    }

    fn press(&mut self, code: KeyCode) -> Vec<Effect> {
        self.key(code, KeyModifiers::NONE)
    }

    fn control(&mut self, c: char) -> Vec<Effect> {
        self.key(KeyCode::Char(c), KeyModifiers::CONTROL)
    }

    fn types(&mut self, text: &str) -> Vec<Effect> {
        text.chars().flat_map(|c| self.press(KeyCode::Char(c))).collect()
    }

    fn says(&mut self, text: &str) -> Vec<Effect> {
        self.types(text);
        self.press(KeyCode::Enter)
    }

    fn picture(&mut self) -> String {
        let (columns, rows) = self.state.size;
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(&self.state, frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..rows).map(row).collect::<Vec<_>>().join("\n")
    }

    #[track_caller]
    fn sees(&mut self, words: &str) {
        let picture = self.picture();
        assert!(picture.contains(words), "{words:?} is not on the screen:\n{picture}");
    }

    #[track_caller]
    fn sees_not(&mut self, words: &str) {
        let picture = self.picture();
        assert!(!picture.contains(words), "{words:?} is on the screen:\n{picture}");
    }
}

#[test]
fn the_whole_screen_at_80_by_24() {
    let mut person = Person::chatting();
    person.take(live(message(
        "c1",
        11,
        "bob",
        "see you there; it is the one with the long menu that nobody ever finishes",
    )));
    person.says("fine");
    person.types("and tell\u{e9}");
    person.key(KeyCode::Enter, KeyModifiers::ALT);
    person.types("carol");
    let page = include_str!("../../../docs/screen.md");
    let shown = page.split("```text\n").nth(1).and_then(|rest| rest.split("\n```").next()).expect("a picture");
    assert_eq!(person.picture(), shown, "docs/screen.md shows another screen than this:\n{}", person.picture());
}

#[test]
fn a_message_is_shown_from_sending_to_sent() {
    let mut person = Person::chatting();
    let sent = person.says("hello");
    assert_eq!(sent, [Effect::Send { id: id(1), to: bob(), body: "hello".into() }]);
    person.sees("(sending)");
    let waiting = Delivery::Waiting(fault(Reason::NoQuorum, "too few nodes"));
    person.take(Event::Delivered { id: id(1), delivery: waiting });
    person.sees("waiting, kept on disk: too few nodes");
    let answer = SendMessageResponse { message: Some(message("c1", 3, "alice", "hello")), deduplicated: false };
    person.take(Event::Delivered { id: id(1), delivery: Delivery::Sent(answer) });
    person.sees("alice  hello ✓");
    person.sees_not("waiting");
    person.take(event(subscribe_response::Event::Read(ReadMarkMoved {
        conversation_id: "c1".into(),
        username: "bob".into(),
        read_seq: 3,
    })));
    person.sees("hello ✓✓");
}

#[test]
fn what_was_read_before_is_shown_as_read_unless_receipts_are_off() {
    let listed = |peer_read_seq| {
        let bob = Conversation { peer_read_seq, ..direct("c1", "bob", 2, 0) };
        Event::Listed(Ok(vec![bob, Conversation { peer_read_seq, ..room("c2", "ops", 0) }]))
    };
    let mut person = Person::chatting();
    person.take(listed(1));
    person.sees("at noon ✓");
    person.sees_not("✓✓");
    person.take(listed(2));
    person.sees("at noon ✓✓");
    person.control('n');
    person.control('p');
    let page = || Event::Loaded { of: bob(), before: None, page: Ok(said(vec![message("c1", 2, "alice", "at noon")])) };
    person.take(page());
    person.sees("at noon ✓✓");
    person.take(listed(0));
    person.sees_not("✓✓");
    let read = ReadMarkMoved { conversation_id: "c1".into(), username: "bob".into(), read_seq: 2 };
    person.control('n');
    person.take(event(subscribe_response::Event::Read(read)));
    person.control('p');
    person.take(page());
    person.sees("at noon ✓✓");
}

#[test]
fn a_message_that_comes_before_its_acknowledgement_is_shown_once() {
    let mut person = Person::chatting();
    person.says("hello");
    person.take(live(message("c1", 3, "alice", "hello")));
    assert_eq!(person.picture().matches("hello").count(), 1);
    person.take(Event::Delivered { id: id(1), delivery: Delivery::Refused(fault(Reason::NotAllowed, "no")) });
    person.sees("FAILED");
}

#[test]
fn what_failed_is_sent_again_or_given_up_only_by_the_persons_word() {
    let mut person = Person::chatting();
    assert_eq!(person.control('r'), [], "nothing has failed");
    person.says("hello");
    person.take(Event::Delivered { id: id(1), delivery: Delivery::Refused(fault(Reason::NotAllowed, "blocked")) });
    person.sees("FAILED: blocked");
    assert_eq!(person.control('r'), [Effect::Renew { id: id(1), fresh: id(2) }]);
    person.sees("(sending)");
    person.take(Event::Delivered { id: id(2), delivery: Delivery::TooOld(fault(Reason::RequestTooOld, "old")) });
    person.sees("NOT KNOWN whether this was delivered");
    assert_eq!(person.control('x'), [Effect::Drop { id: id(2) }]);
    person.sees("> hello");
    assert_eq!(person.press(KeyCode::Enter), [Effect::Send { id: id(3), to: bob(), body: "hello".into() }]);
    person.take(Event::NotKept { id: id(3), why: "no space left".into() });
    person.sees("FAILED: no space left");
    assert_eq!(person.control('r'), [Effect::Send { id: id(4), to: bob(), body: "hello".into() }], "not on disk yet");
    person.take(Event::NotKept { id: id(4), why: "no space left".into() });
    assert_eq!(person.control('x'), [Effect::Drop { id: id(4) }]);
    assert_eq!(person.control('x'), []);
}

#[test]
fn what_waited_on_disk_is_shown_where_it_belongs() {
    let mut person = Person::chatting();
    let kept = |n, to: &Recipient, body: &str, fate| Kept { id: id(n), to: to.into(), body: body.into(), fate };
    let ops = Recipient::Conversation(ConversationId(2));
    person.take(Event::OutboxRead(vec![kept(8, &bob(), "early", Fate::Waiting), kept(9, &ops, "late", Fate::TooOld)]));
    person.sees("early");
    person.sees_not("late");
    person.control('n');
    person.sees("late");
}

#[test]
fn unread_counts_follow_what_happens_and_no_message_counts_twice() {
    let mut person = Person::chatting();
    let to_ops = |seq| message("c2", seq, "carol", "hi");
    person.take(live(to_ops(9)));
    person.sees("#ops               3");
    person.take(live(to_ops(10)));
    person.sees("#ops               4");
    let read = ReadMarkMoved { conversation_id: "c2".into(), username: "alice".into(), read_seq: 10 };
    person.take(event(subscribe_response::Event::Read(read)));
    person.sees_not(" 4│");
    assert!(person.picture().contains("#ops"), "the last to speak comes first:\n{}", person.picture());
}

#[test]
fn what_others_write_never_reaches_the_terminal_raw() {
    let evil = "\u{1b}[2Jx\u{9b}31m\u{202e}y\u{7}";
    let mut person = Person::new(80, 24);
    person.take(Event::Listed(Ok(vec![Conversation { title: evil.into(), ..room("c2", "", 1) }])));
    let of = Recipient::Conversation(ConversationId(2));
    person.take(Event::Loaded { of, before: None, page: Ok(said(vec![message("c2", 1, evil, evil)])) });
    person.take(Event::Notice(evil.into()));
    person.take(Event::Paste(evil.into()));
    person.take(Event::Update(Update::Reconnecting(fault(Reason::Internal, evil))));
    let picture = person.picture();
    let raw = picture.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
    assert_eq!(raw, None, "{picture}");
    person.sees(r"\x1b[2Jx");
}

#[test]
fn older_messages_are_loaded_at_the_top_and_the_view_stays_where_it_is() {
    let mut person = Person::chatting();
    let page: Vec<Message> = (101..=200).map(|seq| message("c1", seq, "bob", &format!("number {seq}"))).collect();
    assert_eq!(page.len(), PAGE);
    person.take(Event::Loaded { of: bob(), before: None, page: Ok(said(page)) });
    person.sees("number 200");
    let mut effects = Vec::new();
    while effects.is_empty() {
        effects = person.press(KeyCode::PageUp);
    }
    assert_eq!(effects, [Effect::Load { of: bob(), before: Some(101) }]);
    person.sees("number 101");
    assert_eq!(person.press(KeyCode::PageUp), [], "asked for once");
    let before = person.picture();
    assert_eq!(
        person.take(live(message("c1", 201, "bob", "new"))),
        [],
        "messages below the view are not marked as read"
    );
    let timeline = |picture: &str| picture.lines().skip(2).take(15).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(timeline(&person.picture()), timeline(&before));
    let older = (1..=100).map(|seq| message("c1", seq, "bob", &format!("number {seq}"))).collect();
    person.take(Event::Loaded { of: bob(), before: Some(101), page: Ok(said(older)) });
    person.press(KeyCode::PageUp);
    person.sees("number 100");
    person.key(KeyCode::End, KeyModifiers::CONTROL);
    person.sees("new");
}

#[test]
fn search_finds_older_messages_and_loads_them() {
    let mut person = Person::chatting();
    let page = (50..=60).map(|seq| message("c1", seq, "bob", if seq == 55 { "the Needle" } else { "hay" })).collect();
    person.take(Event::Loaded { of: bob(), before: None, page: Ok(said(page)) });
    person.control('f');
    person.types("needle");
    assert!(matches!(person.state.mode, Mode::Search { at: Some(55), .. }));
    assert_eq!(person.press(KeyCode::Enter), [Effect::Load { of: bob(), before: Some(50) }]);
    let older = (1..50).map(|seq| message("c1", seq, "bob", if seq == 9 { "a needle" } else { "hay" })).collect();
    person.take(Event::Loaded { of: bob(), before: Some(50), page: Ok(said(older)) });
    assert!(matches!(person.state.mode, Mode::Search { at: Some(9), .. }));
    person.sees("a needle");
    person.press(KeyCode::Enter);
    person.sees("no older match");
    person.press(KeyCode::Down);
    person.sees("the Needle");
    person.press(KeyCode::Esc);
    assert_eq!(person.state.mode, Mode::Compose);
}

#[test]
fn names_are_completed_from_what_the_cluster_knows() {
    let mut person = Person::chatting();
    person.types("ask @ca");
    assert_eq!(person.press(KeyCode::Tab), [Effect::Complete { prefix: "ca".into() }]);
    person.take(Event::Completed { prefix: "ca".into(), names: vec!["Carol".into(), "carola".into()] });
    person.sees("ask @Carol");
    person.sees("Carol  carola");
    person.take(Event::Completed { prefix: "stale".into(), names: vec!["other".into()] });
    person.take(Event::Completed { prefix: "carol".into(), names: vec!["Carol".into()] });
    assert_eq!(person.state.composer.text(), "ask @Carol ");
}

#[test]
fn one_may_go_to_a_conversation_or_begin_one() {
    let mut person = Person::chatting();
    person.types("a draft");
    person.control('t');
    person.types("op");
    person.sees("Go to");
    let effects = person.press(KeyCode::Enter);
    assert_eq!(effects, [Effect::Load { of: Recipient::Conversation(ConversationId(2)), before: None }]);
    assert_eq!(person.state.composer.text(), "", "the draft stays with its conversation");
    person.control('t');
    let effects = person.types("d");
    assert_eq!(effects, [Effect::Complete { prefix: "d".into() }]);
    person.take(Event::Completed { prefix: "d".into(), names: vec!["dave".into()] });
    person.sees("dave new");
    person.press(KeyCode::Enter);
    let dave = Recipient::Username("dave".into());
    person.take(Event::Loaded { of: dave.clone(), before: None, page: Err(fault(Reason::ConversationNotFound, "")) });
    person.sees("no messages yet");
    let sent = person.says("first");
    assert!(matches!(&sent[..], [Effect::Send { to, .. }] if *to == dave), "{sent:?}");
    let answer = SendMessageResponse { message: Some(message("c7", 1, "alice", "first")), deduplicated: false };
    person.take(Event::Delivered { id: id(1), delivery: Delivery::Sent(answer) });
    person.sees("dave  c7");
    person.control('t');
    person.types("bob");
    person.press(KeyCode::Enter);
    assert_eq!(person.state.composer.text(), "a draft");
}

#[test]
fn what_happens_to_a_room_stands_among_its_messages() {
    let mut person = Person::chatting();
    person.control('n');
    let change = |seq, by: &str, joined: &[&str]| {
        let joined = joined.iter().map(|name| (*name).to_owned()).collect();
        RoomChange { seq, by: by.into(), joined, ..Default::default() }
    };
    let changes = vec![change(1, "carol", &["carol", "alice"]), change(3, "carol", &["dave"])];
    let messages = vec![message("c2", 2, "carol", "welcome"), message("c2", 4, "dave", "thanks")];
    let ops = Recipient::Conversation(ConversationId(2));
    let page = ListMessagesResponse { messages, changes, ..Default::default() };
    person.take(Event::Loaded { of: ops, before: None, page: Ok(page) });
    let event_of = |change: RoomChange| {
        let conversation = Conversation { change: Some(change), ..room("c2", "ops", 0) };
        event(subscribe_response::Event::Conversation(conversation))
    };
    person.take(event_of(change(5, "erin", &["erin"])));
    person.take(event_of(change(5, "erin", &["erin"])));
    let picture = person.picture();
    let rows = ["* carol created the room with alice", "welcome", "* carol invited dave", "thanks", "* erin joined"];
    let places: Vec<_> = rows.iter().map(|row| picture.find(row)).collect();
    assert!(places.is_sorted() && places[0].is_some(), "{picture}");
    assert_eq!(picture.matches("* erin joined").count(), 1, "{picture}");
}

#[test]
fn deletions_are_shown_live() {
    let mut person = Person::chatting();
    let place = |seq| MessageRef { conversation_id: "c1".into(), seq };
    let erased = MessagesDeleted { messages: vec![place(1)], by: "bob".into(), seq: 3, conversation_id: "c1".into() };
    person.take(event(subscribe_response::Event::Deleted(erased)));
    person.sees("bob  (deleted)");
    person.sees_not("lunch");
    let hidden = MessagesDeleted { messages: vec![place(2)], by: "alice".into(), ..Default::default() };
    person.take(event(subscribe_response::Event::Deleted(hidden)));
    person.sees_not("noon");
}

#[test]
fn help_shows_every_key_on_the_smallest_usual_terminal() {
    let mut person = Person::chatting();
    person.press(KeyCode::F(1));
    for (keys, what) in super::keys::HELP {
        person.sees(keys);
        person.sees(what);
    }
    person.types("x");
    person.sees_not("Keys");
    assert_eq!(person.control('c'), [Effect::Quit]);
}

#[test]
fn every_size_is_survived() {
    let mut person = Person::chatting();
    person.take(live(message("c1", 3, "bob", &"wide 日本語 words ☕ ".repeat(30))));
    person.says(&"long ".repeat(50));
    person.types(&"y".repeat(200));
    for columns in [1, 2, 5, 19, 20, 21, 40, 59, 60, 80, 200] {
        for rows in [1, 2, 5, 6, 7, 10, 24, 100] {
            for mode in ['e', 't', 'f'] {
                person.state.resize(columns, rows);
                person.control(mode);
                person.picture();
                person.press(KeyCode::PageUp);
                person.picture();
                person.press(KeyCode::Esc);
            }
        }
    }
}
