//! Read marks, and what the first row says of the cluster.

use super::*;

#[test]
fn what_is_seen_at_the_end_of_the_open_conversation_is_marked_as_read() {
    let mut person = Person::chatting();
    let effects = person.take(live(message("c1", 3, "bob", "seen")));
    assert_eq!(effects, [Effect::Mark { conversation: ConversationId(1), up_to: 3 }]);
    assert_eq!(person.take(live(message("c2", 10, "bob", "not seen"))), []);
    person.take(Event::Marked { conversation: ConversationId(1), result: Ok(()) });
    assert_eq!(person.take(Event::Notice("x".into())), [], "marked once");
}

#[test]
fn only_what_was_on_the_screen_is_marked_as_read() {
    let mut person = Person::chatting();
    person.state.resize(80, 12);
    let busy = Conversation { last_seq: 12, read_seq: 2, unread_count: 10, ..direct("c1", "bob", 12, 10) };
    person.control('n');
    person.take(Event::Listed(Ok(vec![busy.clone(), room("c2", "ops", 0)])));
    person.control('p');
    let lines = |seqs: std::ops::RangeInclusive<u64>| seqs.map(|seq| message("c1", seq, "bob", &format!("line {seq}")));
    let page = || Event::Loaded { of: bob(), before: None, page: Ok(said(lines(1..=12).collect())) };
    let effects = person.take(page());
    let Some(Effect::MarkSeen { conversation: ConversationId(1), seqs }) = effects.first() else {
        panic!("{effects:?}");
    };
    for seq in 3..=12 {
        let is_shown =
            person.picture().contains(&format!("line {seq}\n")) || person.picture().contains(&format!("line {seq} "));
        assert_eq!(seqs.contains(&seq), is_shown, "line {seq} in {seqs:?}\n{}", person.picture());
    }
    assert!(!seqs.is_empty() && seqs.len() < 10, "{seqs:?}");
    person.sees_not("--- new");
    assert_eq!(person.take(Event::Notice("x".into())), [], "each is marked once");
    person.take(Event::Marked { conversation: ConversationId(1), result: Ok(()) });
    let mut marked = seqs.clone();
    for _ in 0..5 {
        for effect in person.press(KeyCode::PageUp) {
            let Effect::MarkSeen { seqs, .. } = effect else { panic!("{effect:?}") };
            marked.extend(seqs);
        }
    }
    person.sees("--- new");
    let picture = person.picture();
    assert!(
        picture.find("line 2") < picture.find("--- new") && picture.find("--- new") < picture.find("line 3"),
        "{picture}"
    );
    marked.sort_unstable();
    assert_eq!(marked, (3..=12).collect::<Vec<_>>(), "scrolling shows the rest");
}

#[test]
fn a_quorum_is_called_missing_only_when_that_is_known() {
    let mut person = Person::chatting();
    person.says("hello");
    person.take(Event::Update(Update::NoQuorum));
    person.sees("electing a leader");
    let answer = SendMessageResponse { message: Some(message("c1", 3, "alice", "hello")), deduplicated: false };
    person.take(Event::Delivered { id: id(1), delivery: Delivery::Sent(answer) });
    person.sees("connected to");
    person.take(Event::LeaderOverdue { election: 1 });
    person.sees("connected to");
    person.take(Event::Update(Update::NoQuorum));
    person.take(Event::LeaderOverdue { election: 1 });
    person.sees("electing a leader");
    person.says("more");
    let waiting = Delivery::Waiting(fault(Reason::NoQuorum, "too few nodes"));
    person.take(Event::Delivered { id: id(2), delivery: waiting });
    person.sees("NO QUORUM");
}

#[test]
fn the_banner_says_how_things_stand() {
    let mut person = Person::new(80, 24);
    person.sees("connecting");
    person.take(Event::Update(Update::Connected("10.0.0.2:7400".parse().unwrap())));
    person.sees("connected to 10.0.0.2:7400");
    person.take(Event::Listed(Ok(Vec::new())));
    let effects = person.take(Event::Update(Update::NoQuorum));
    assert_eq!(effects, [Effect::AwaitLeader { election: 1 }]);
    person.sees("electing a leader");
    person.take(Event::LeaderOverdue { election: 1 });
    person.sees("NO QUORUM: messages are kept on disk");
    let effects = person.take(Event::Update(Update::Quorum));
    assert!(effects.contains(&Effect::RetryNow), "what waits is tried at once: {effects:?}");
    person.take(Event::Listed(Ok(Vec::new())));
    person.take(Event::Update(Update::Reconnecting(fault(Reason::Unreachable, "10.0.0.2:7400 cannot be reached"))));
    person.sees("RECONNECTING (10.0.0.2:7400 cannot be reached)");
    let effects = person.take(Event::Update(Update::Connected("10.0.0.3:7400".parse().unwrap())));
    assert!(effects.contains(&Effect::List) && effects.contains(&Effect::RetryNow), "{effects:?}");
    person.take(Event::Ended(fault(Reason::SessionInvalid, "the session has ended")));
    person.sees("SIGNED OUT: the session has ended");
    assert_eq!(person.types("x"), [Effect::Quit]);
}
