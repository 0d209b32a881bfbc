//! Histories made by hand: a correct one passes, and each way to break it is found and named.

use std::{collections::BTreeMap, time::Duration};

use super::{Checker, EXAMPLES, Entry, Findings, Kind, Ledger, Timelines};
use crate::{
    types::{ConversationId, RequestId},
    wire::Reason,
};

const ROOM: ConversationId = ConversationId(7);
/// What the room held before the run.
const BASE: u64 = 2;

fn entry(seq: u64, body: &str) -> Entry {
    Entry { seq, cursor: 100 + seq, body: body.into() }
}

/// A run in one room: the ledger, what the replicas hold, and what a subscriber received.
struct Run {
    ledger: Ledger,
    replicas: Vec<Vec<Entry>>,
    told: Vec<Entry>,
}

impl Run {
    fn new() -> Self {
        let mut ledger = Ledger::default();
        ledger.open(ROOM, BASE);
        Self { ledger, replicas: Vec::new(), told: Vec::new() }
    }

    /// A correct run: "a" to "d", sent one after the other, all acknowledged, held by two replicas and received by one
    /// subscriber.
    fn sound() -> Self {
        let mut run = Self::new();
        for (seq, body) in (BASE + 1..).zip(["a", "b", "c", "d"]) {
            let attempt = run.invoke(body);
            run.acknowledge(attempt, seq);
        }
        run.everyone_holds(&["a", "b", "c", "d"]);
        run
    }

    fn everyone_holds(&mut self, bodies: &[&str]) {
        let timeline: Vec<Entry> = (BASE + 1..).zip(bodies).map(|(seq, body)| entry(seq, body)).collect();
        self.replicas = vec![timeline.clone(), timeline.clone()];
        self.told = timeline;
    }

    fn invoke(&mut self, body: &str) -> usize {
        let number = u8::try_from(self.ledger.attempts().len()).unwrap();
        self.ledger.invoke(Duration::ZERO, RequestId::new(1, [number; 10]), ROOM, body.into())
    }

    fn acknowledge(&mut self, attempt: usize, seq: u64) {
        self.ledger.acknowledge(Duration::ZERO, attempt, seq, 100 + seq);
    }

    fn check(self) -> Findings {
        let mut checker = Checker::new(&self.ledger);
        for (number, timeline) in self.replicas.into_iter().enumerate() {
            checker.replica(&format!("n{}", number + 1), Timelines::from([(ROOM, timeline)]));
        }
        let told: Vec<_> = self.told.into_iter().map(|entry| (ROOM, entry)).collect();
        checker.stream("subscriber", &told);
        checker.finish()
    }

    fn finds(self, expected: &[(Kind, u64)]) {
        let findings = self.check();
        let expected: BTreeMap<Kind, u64> = expected.iter().copied().collect();
        assert_eq!(findings.counts(), &expected, "{:#?}", findings.examples());
    }
}

#[test]
fn a_sound_run_passes() {
    let mut run = Run::sound();
    let read = run.ledger.begin_read(0, ROOM, "n1");
    run.ledger.end_read(read, vec![entry(5, "c"), entry(6, "d")]);
    assert!(run.check().is_clean());
    Run::new().finds(&[]);
}

#[test]
fn an_acknowledged_message_that_is_nowhere_is_missing_on_every_replica() {
    let mut run = Run::sound();
    run.replicas.iter_mut().for_each(|timeline| drop(timeline.pop()));
    run.told.pop();
    run.finds(&[(Kind::Missing, 2)]);
}

#[test]
fn a_message_missing_on_one_replica_is_told_with_its_name() {
    let mut run = Run::sound();
    run.replicas[1].pop();
    let findings = run.check();
    assert_eq!((findings.count(Kind::Missing), findings.count(Kind::ReplicasDiffer)), (1, 1));
    assert!(findings.examples()[0].what.contains("n2 lacks c7/6"), "{:?}", findings.examples());
}

#[test]
fn a_message_whose_text_changed_is_found_and_is_not_called_missing() {
    let mut run = Run::sound();
    run.replicas.iter_mut().for_each(|timeline| timeline[1].body = "x".into());
    run.told[1].body = "x".into();
    run.finds(&[(Kind::Changed, 2)]);
}

#[test]
fn a_message_that_took_effect_twice_is_found() {
    let mut run = Run::sound();
    run.everyone_holds(&["a", "b", "c", "d", "b"]);
    run.finds(&[(Kind::Duplicated, 2)]);
}

#[test]
fn a_message_of_unknown_outcome_may_be_there_once_or_not_at_all() {
    for (held, expected) in [
        (&["a", "b", "c", "d"][..], &[][..]),
        (&["a", "b", "c", "d", "e"], &[]),
        (&["a", "b", "c", "d", "e", "e"], &[(Kind::Duplicated, 2)]),
    ] {
        let mut run = Run::sound();
        let attempt = run.invoke("e");
        run.ledger.lose_sight(Duration::ZERO, attempt);
        assert_eq!(run.ledger.unknown(), [attempt]);
        run.everyone_holds(held);
        run.finds(expected);
    }
}

#[test]
fn a_message_that_nobody_sent_is_found() {
    let mut run = Run::sound();
    run.everyone_holds(&["a", "b", "c", "d", "forged"]);
    run.finds(&[(Kind::Invented, 2)]);
}

#[test]
fn a_refused_message_must_not_be_there() {
    let mut run = Run::sound();
    let attempt = run.invoke("e");
    run.ledger.refuse(Duration::ZERO, attempt, Reason::Overloaded);
    run.everyone_holds(&["a", "b", "c", "d", "e"]);
    run.finds(&[(Kind::RefusedButThere, 2)]);
}

#[test]
fn a_message_elsewhere_than_acknowledged_is_found() {
    let mut run = Run::sound();
    let attempt = run.invoke("e");
    run.acknowledge(attempt, 9);
    run.everyone_holds(&["a", "b", "c", "d", "e"]);
    run.finds(&[(Kind::Misplaced, 2)]);
}

#[test]
fn a_gap_in_a_timeline_is_found() {
    let mut run = Run::sound();
    run.replicas.iter_mut().for_each(|timeline| drop(timeline.remove(1)));
    run.told.remove(1);
    run.finds(&[(Kind::Missing, 2), (Kind::Gap, 2)]);
}

#[test]
fn a_cursor_that_does_not_increase_is_found() {
    let mut run = Run::sound();
    let attempt = run.invoke("e");
    run.ledger.acknowledge(Duration::ZERO, attempt, 7, 106);
    run.everyone_holds(&["a", "b", "c", "d"]);
    let stuck = Entry { seq: 7, cursor: 106, body: "e".into() };
    run.replicas.iter_mut().for_each(|timeline| timeline.push(stuck.clone()));
    run.finds(&[(Kind::CursorOrder, 2), (Kind::StreamGap, 1)]);
}

#[test]
fn replicas_that_disagree_on_a_cursor_are_found() {
    let mut run = Run::sound();
    let attempt = run.invoke("e");
    run.ledger.lose_sight(Duration::ZERO, attempt);
    run.everyone_holds(&["a", "b", "c", "d", "e"]);
    run.replicas[1][4].cursor = 999;
    run.finds(&[(Kind::ReplicasDiffer, 1)]);
}

#[test]
fn a_message_begun_after_another_was_acknowledged_stands_behind_it() {
    let mut run = Run::new();
    let (first, second) = (run.invoke("a"), run.invoke("b"));
    run.acknowledge(second, 3);
    run.acknowledge(first, 4);
    run.everyone_holds(&["b", "a"]);
    run.finds(&[]);

    let mut run = Run::new();
    let first = run.invoke("a");
    run.acknowledge(first, 4);
    let second = run.invoke("b");
    run.acknowledge(second, 3);
    run.everyone_holds(&["b", "a"]);
    run.finds(&[(Kind::Reordered, 1)]);
}

#[test]
fn an_unknown_message_is_held_to_the_order_too() {
    let mut run = Run::new();
    let first = run.invoke("a");
    run.acknowledge(first, 4);
    let second = run.invoke("b");
    run.ledger.lose_sight(Duration::ZERO, second);
    run.everyone_holds(&["b", "a"]);
    run.finds(&[(Kind::Reordered, 1)]);
}

#[test]
fn a_read_sees_what_was_acknowledged_before_it_began() {
    let mut run = Run::sound();
    let read = run.ledger.begin_read(0, ROOM, "n1");
    run.ledger.end_read(read, vec![entry(3, "a"), entry(4, "b"), entry(5, "c")]);
    run.finds(&[(Kind::StaleRead, 1)]);

    let mut run = Run::sound();
    let early = run.ledger.begin_read(0, ROOM, "n1");
    let attempt = run.invoke("e");
    run.acknowledge(attempt, 7);
    run.ledger.end_read(early, vec![entry(6, "d")]);
    run.everyone_holds(&["a", "b", "c", "d", "e"]);
    run.finds(&[]);
}

#[test]
fn what_one_reader_saw_the_next_one_sees() {
    let mut run = Run::sound();
    let attempt = run.invoke("e");
    run.ledger.lose_sight(Duration::ZERO, attempt);
    run.everyone_holds(&["a", "b", "c", "d", "e"]);
    let read = run.ledger.begin_read(0, ROOM, "n1");
    run.ledger.end_read(read, vec![entry(6, "d"), entry(7, "e")]);
    let read = run.ledger.begin_read(1, ROOM, "n2");
    run.ledger.end_read(read, vec![entry(6, "d")]);
    run.finds(&[(Kind::StaleRead, 1)]);
}

#[test]
fn a_reader_never_goes_back() {
    let mut run = Run::sound();
    let read = run.ledger.begin_read(0, ROOM, "n1");
    run.ledger.end_read(read, vec![entry(6, "d")]);
    let read = run.ledger.begin_read(0, ROOM, "n1");
    run.ledger.end_read(read, Vec::new());
    run.finds(&[(Kind::ReadWentBack, 1)]);
}

#[test]
fn a_read_of_what_no_replica_holds_is_found() {
    let mut run = Run::sound();
    let read = run.ledger.begin_read(0, ROOM, "n1");
    run.ledger.end_read(read, vec![entry(5, "x"), entry(6, "d")]);
    run.finds(&[(Kind::ReadDiffers, 1)]);
}

#[test]
fn a_read_that_failed_proves_nothing() {
    let mut run = Run::sound();
    run.ledger.begin_read(0, ROOM, "n1");
    assert_eq!(run.ledger.reads(), 0);
    run.finds(&[]);
}

#[test]
fn a_stream_leaves_nothing_out() {
    let mut run = Run::sound();
    run.told.remove(1);
    run.finds(&[(Kind::StreamGap, 1)]);
    let mut run = Run::sound();
    run.told.pop();
    run.finds(&[(Kind::StreamGap, 1)]);
}

#[test]
fn a_stream_tells_nothing_twice_and_nothing_else() {
    let mut run = Run::sound();
    run.told.insert(2, entry(4, "b"));
    run.finds(&[(Kind::StreamRepeated, 1)]);
    let mut run = Run::sound();
    run.told[3].body = "x".into();
    run.finds(&[(Kind::StreamDiffers, 1)]);
    let mut run = Run::sound();
    run.told.push(entry(9, "x"));
    run.finds(&[(Kind::StreamDiffers, 1)]);
}

#[test]
fn all_violations_are_counted_and_the_first_told() {
    let mut run = Run::new();
    for seq in 0..50 {
        let attempt = run.invoke(&format!("message {seq}"));
        run.acknowledge(attempt, BASE + 1 + seq);
    }
    run.replicas = vec![Vec::new()];
    let findings = run.check();
    assert_eq!(findings.count(Kind::Missing), 50);
    assert_eq!(findings.examples().len(), EXAMPLES);
}

#[test]
fn a_repetition_that_is_answered_alike_is_one_and_the_same_outcome() {
    let mut run = Run::sound();
    run.acknowledge(1, 4);
    run.ledger.lose_sight(Duration::ZERO, 1);
    run.ledger.refuse(Duration::ZERO, 1, Reason::SessionInvalid);
    run.finds(&[]);
}

#[test]
fn a_second_outcome_that_contradicts_the_first_is_found() {
    let mut run = Run::sound();
    run.acknowledge(1, 5);
    run.finds(&[(Kind::TwoOutcomes, 1)]);

    let mut run = Run::sound();
    let attempt = run.invoke("e");
    run.ledger.refuse(Duration::ZERO, attempt, Reason::LimitExceeded);
    run.acknowledge(attempt, 7);
    run.everyone_holds(&["a", "b", "c", "d"]);
    run.finds(&[(Kind::TwoOutcomes, 1)]);
}

#[test]
fn a_refusal_after_a_try_without_an_answer_settles_nothing() {
    let mut run = Run::sound();
    let attempt = run.invoke("e");
    run.ledger.lose_sight(Duration::ZERO, attempt);
    run.ledger.refuse(Duration::ZERO, attempt, Reason::SessionInvalid);
    run.everyone_holds(&["a", "b", "c", "d", "e"]);
    run.finds(&[]);
}

#[test]
fn a_message_deleted_for_everyone_may_have_been_shown_before() {
    let mut run = Run::sound();
    let read = run.ledger.begin_read(0, ROOM, "n1");
    run.ledger.end_read(read, vec![entry(3, "a"), entry(4, "b"), entry(5, "c"), entry(6, "d")]);
    run.ledger.begin_erasing(1);
    run.ledger.erased(1);
    let read = run.ledger.begin_read(0, ROOM, "n1");
    run.ledger.end_read(read, vec![entry(3, "a"), entry(4, ""), entry(5, "c"), entry(6, "d")]);
    run.replicas.iter_mut().for_each(|timeline| timeline[1].body.clear());
    run.finds(&[]);
}

#[test]
fn a_deletion_of_unknown_outcome_leaves_the_text_or_takes_it() {
    for body in ["b", ""] {
        let mut run = Run::sound();
        run.ledger.begin_erasing(1);
        run.replicas.iter_mut().for_each(|timeline| timeline[1].body = body.into());
        run.finds(&[]);
    }
}

#[test]
fn a_deleted_text_that_is_there_again_is_found() {
    let mut run = Run::sound();
    run.ledger.begin_erasing(1);
    run.ledger.erased(1);
    run.finds(&[(Kind::Undeleted, 2)]);

    let mut run = Run::sound();
    run.ledger.begin_erasing(1);
    run.ledger.erased(1);
    let read = run.ledger.begin_read(0, ROOM, "n1");
    run.ledger.end_read(read, vec![entry(4, "b"), entry(5, "c"), entry(6, "d")]);
    run.replicas.iter_mut().for_each(|timeline| timeline[1].body.clear());
    run.finds(&[(Kind::Undeleted, 1)]);
}

#[test]
fn a_text_that_is_gone_without_a_deletion_is_found() {
    let mut run = Run::sound();
    run.replicas.iter_mut().for_each(|timeline| timeline[1].body.clear());
    run.told[1].body.clear();
    run.finds(&[(Kind::Changed, 2)]);
}

#[test]
fn a_place_without_a_message_is_no_gap_if_somebody_was_told_what_stands_there() {
    let mut run = Run::sound();
    let attempt = run.invoke("e");
    run.acknowledge(attempt, 8);
    for timeline in run.replicas.iter_mut().chain([&mut run.told]) {
        timeline.push(entry(8, "e"));
    }
    let read = run.ledger.begin_read(0, ROOM, "n1");
    run.ledger.end_read(read, vec![entry(6, "d"), entry(8, "e")]);
    run.ledger.notice(ROOM, 7);
    run.finds(&[]);
}

#[test]
fn a_session_read_owes_what_its_session_has_seen() {
    let mut run = Run::sound();
    let read = run.ledger.begin_session_read(0, ROOM, "n1", 4);
    run.ledger.end_read(read, vec![entry(3, "a"), entry(4, "b")]);
    run.finds(&[]);

    let mut run = Run::sound();
    let read = run.ledger.begin_session_read(0, ROOM, "n1", 5);
    run.ledger.end_read(read, vec![entry(3, "a"), entry(4, "b")]);
    run.finds(&[(Kind::StaleRead, 1)]);
}

#[test]
fn a_guest_is_owed_no_more_than_parts_of_a_stream() {
    let mut run = Run::sound();
    run.told.remove(1);
    run.told.pop();
    let told: Vec<_> = run.told.iter().map(|entry| (ROOM, entry.clone())).collect();
    let check = |whole: bool| {
        let mut checker = Checker::new(&run.ledger);
        checker.replica("n1", Timelines::from([(ROOM, run.replicas[0].clone())]));
        checker.stream_of("guest", &told, |_| whole);
        checker.finish()
    };
    assert!(check(false).is_clean());
    assert_eq!(check(true).count(Kind::StreamGap), 2);
}
