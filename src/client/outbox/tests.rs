//! The outbox kept, damaged, interrupted half way, and delivered.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use super::*;
use crate::{
    client::{
        Cluster, Settings,
        fake::{Fake, Turn},
    },
    wire::{
        Dialer,
        chat::{Conversation, send_message_request},
    },
};

fn id(n: u8) -> RequestId {
    RequestId::new(1_700_000_000_000 + u64::from(n), [n; 10])
}

fn bob() -> Recipient {
    Recipient::Username("bob".into())
}

fn outbox(directory: &tempfile::TempDir) -> Outbox {
    Outbox::at(directory.path().join("deep/alice.outbox"))
}

async fn session(node: &Fake) -> Session {
    let settings = Settings::new(Duration::from_millis(300));
    let cluster = Cluster::new(vec![node.address.clone()], Dialer::tcp(), settings);
    Session::resume(&cluster, "token").unwrap()
}

#[test]
fn what_was_kept_is_there_in_order_until_it_is_struck() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = outbox(&directory);
    assert_eq!(outbox.entries().unwrap(), []);
    outbox.keep(id(1), &bob(), "one\ntwo").unwrap();
    outbox.keep(id(2), &Recipient::Conversation("c7".parse().unwrap()), "three").unwrap();
    let bodies = || -> Vec<String> { outbox.entries().unwrap().into_iter().map(|kept| kept.body).collect() };
    assert_eq!(bodies(), ["one\ntwo", "three"]);
    outbox.strike(id(1)).unwrap();
    assert_eq!(bodies(), ["three"]);
    assert!(matches!(outbox.strike(id(1)), Err(OutboxError::Absent(_))));
    outbox.renew(id(2), id(3)).unwrap();
    assert_eq!(outbox.entries().unwrap()[0].id, id(3));
    outbox.strike(id(3)).unwrap();
    assert_eq!(fs::metadata(&outbox.path).unwrap().len(), 0, "an empty outbox keeps nothing of what was in it");
    assert_eq!(fs::metadata(&outbox.path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_crash_anywhere_in_an_append_loses_only_what_was_not_answered_for() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = outbox(&directory);
    outbox.keep(id(1), &bob(), "one").unwrap();
    let before = fs::read(&outbox.path).unwrap();
    outbox.keep(id(2), &bob(), "two").unwrap();
    let after = fs::read(&outbox.path).unwrap();
    for end in before.len()..after.len() {
        fs::write(&outbox.path, &after[..end]).unwrap();
        assert_eq!(outbox.entries().unwrap().len(), 1, "cut at byte {end}");
        outbox.keep(id(3), &bob(), "three").unwrap();
        let ids: Vec<RequestId> = outbox.entries().unwrap().iter().map(|kept| kept.id).collect();
        assert_eq!(ids, [id(1), id(3)], "cut at byte {end}, then appended");
    }
}

#[test]
fn a_flipped_bit_is_named_never_skipped() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = outbox(&directory);
    for n in 1..=3 {
        outbox.keep(id(n), &bob(), "hello").unwrap();
    }
    let whole = fs::read(&outbox.path).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap();
    for at in first + 1..2 * first {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&outbox.path, &damaged).unwrap();
        match outbox.entries() {
            Err(OutboxError::Damaged { line: 2, .. }) => {}
            other => panic!("byte {at} flipped, read as {other:?}"),
        }
        assert!(outbox.keep(id(9), &bob(), "more").is_err(), "nothing is added to a damaged file");
        assert_eq!(fs::read(&outbox.path).unwrap(), damaged, "and nothing is lost from it");
    }
}

#[test]
fn it_is_bounded_and_does_not_grow_with_what_has_left() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = outbox(&directory);
    assert!(matches!(outbox.keep(id(1), &bob(), &"x".repeat(limits::BODY_BYTES + 1)), Err(OutboxError::TooLong)));
    outbox.keep(id(0), &bob(), "stays").unwrap();
    for n in 1..=20 {
        outbox.keep(id(n), &bob(), &"x".repeat(limits::BODY_BYTES)).unwrap();
        outbox.strike(id(n)).unwrap();
    }
    assert!(fs::metadata(&outbox.path).unwrap().len() < 4 * limits::BODY_BYTES as u64);
    assert_eq!(outbox.entries().unwrap()[0].body, "stays");
}

#[tokio::test]
async fn a_message_keeps_its_request_id_until_its_fate_is_certain() {
    let directory = tempfile::tempdir().unwrap();
    let (outbox, node) = (outbox(&directory), Fake::start(1).await);
    let session = session(&node).await;
    outbox.keep(id(1), &bob(), "hello").unwrap();
    let kept = outbox.entries().unwrap().remove(0);
    node.script(|script| script.turns.extend(vec![Turn::Hang; 9]));
    assert!(matches!(outbox.deliver(&session, &kept).await.unwrap(), Delivery::Waiting(_)));
    for reason in [Reason::SessionInvalid, Reason::Internal, Reason::WrongCluster] {
        node.script(|script| script.turns = vec![Turn::Refuse(Fault::new(reason, "no")); 99].into());
        let delivery = outbox.deliver(&session, &kept).await.unwrap();
        assert!(matches!(delivery, Delivery::Waiting(_)), "{reason:?} says nothing about the attempt before");
    }
    assert_eq!(outbox.entries().unwrap(), std::slice::from_ref(&kept));
    node.script(|script| script.turns.clear());
    assert!(matches!(outbox.deliver(&session, &kept).await.unwrap(), Delivery::Sent(_)));
    assert_eq!(outbox.entries().unwrap(), []);
    let same = node.script(|script| script.sent.iter().all(|sent| sent.request_id == id(1).to_string()));
    assert!(same, "every attempt bears the id that was kept");
}

#[tokio::test]
async fn what_a_rooms_title_means_is_asked_once_and_holds_for_every_attempt() {
    let directory = tempfile::tempdir().unwrap();
    let (outbox, node) = (outbox(&directory), Fake::start(1).await);
    let session = session(&node).await;
    let room = |id: &str| Conversation { conversation_id: id.into(), title: "ops".into(), ..Default::default() };
    outbox.keep(id(1), To::RoomTitled("ops".into()), "hello").unwrap();
    let kept = || outbox.entries().unwrap().remove(0);
    let unreachable = Turn::Refuse(Fault::new(Reason::NoQuorum, "no"));
    node.script(|script| script.turns.extend(vec![unreachable; 99]));
    assert!(matches!(outbox.deliver(&session, &kept()).await.unwrap(), Delivery::Waiting(_)), "nobody could say");
    node.script(|script| {
        script.conversations = vec![room("c7")];
        script.turns = [Turn::Accept].into_iter().chain(vec![Turn::Hang; 9]).collect();
    });
    assert!(matches!(outbox.deliver(&session, &kept()).await.unwrap(), Delivery::Waiting(_)));
    assert_eq!(kept().to, To::Known(Recipient::Conversation(ConversationId(7))), "recorded before the first attempt");
    node.script(|script| {
        script.conversations = vec![room("c8")];
        script.turns.clear();
    });
    assert!(matches!(outbox.deliver(&session, &kept()).await.unwrap(), Delivery::Sent(_)));
    let to = node.script(|script| script.sent.last().unwrap().recipient.clone());
    assert_eq!(to, Some(send_message_request::Recipient::ConversationId("c7".into())), "though another has its title");
}

#[tokio::test]
async fn a_room_that_is_not_there_or_there_twice_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (outbox, node) = (outbox(&directory), Fake::start(1).await);
    let session = session(&node).await;
    let room = |id: &str| Conversation { conversation_id: id.into(), title: "twice".into(), ..Default::default() };
    node.script(|script| script.conversations = vec![room("c7"), room("c8")]);
    for (n, title, reason) in [(1, "none", Reason::ConversationNotFound), (2, "twice", Reason::Ambiguous)] {
        outbox.keep(id(n), To::RoomTitled(title.into()), "hello").unwrap();
        let kept = outbox.entries().unwrap().into_iter().find(|kept| kept.id == id(n)).unwrap();
        match outbox.deliver(&session, &kept).await.unwrap() {
            Delivery::Refused(fault) => assert_eq!(fault.reason, reason),
            other => panic!("{other:?}"),
        }
    }
    assert!(outbox.entries().unwrap().iter().all(|kept| matches!(kept.fate, Fate::Refused(_))));
    assert!(node.script(|script| script.sent.is_empty()));
}

#[tokio::test]
async fn what_is_too_old_or_refused_stays_for_the_user_to_decide() {
    let directory = tempfile::tempdir().unwrap();
    let (outbox, node) = (outbox(&directory), Fake::start(1).await);
    let session = session(&node).await;
    let cases = [(1, Reason::RequestTooOld), (2, Reason::AccountNotFound)];
    for (n, reason) in cases {
        outbox.keep(id(n), &bob(), "hello").unwrap();
        node.script(|script| script.turns.push_back(Turn::Refuse(Fault::new(reason, "no"))));
        let kept = outbox.entries().unwrap().into_iter().find(|kept| kept.id == id(n)).unwrap();
        outbox.deliver(&session, &kept).await.unwrap();
    }
    let fates: Vec<Fate> = outbox.entries().unwrap().into_iter().map(|kept| kept.fate).collect();
    assert_eq!(fates, [Fate::TooOld, Fate::Refused("no".into())]);
    assert!(!outbox.is_waiting().unwrap(), "neither is sent again unasked");
    outbox.renew(id(1), id(7)).unwrap();
    assert!(outbox.is_waiting().unwrap());
}
