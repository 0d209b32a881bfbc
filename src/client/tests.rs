//! The client against scripted nodes ([`Fake`]): leaders, redirects, deadlines, subscriptions.

use std::time::{Duration, Instant};

use tokio::{net::TcpSocket, time::timeout};
use tonic::Request;

use super::{
    Cluster, Recipient, Session, Settings, Start, Update,
    fake::{Fake, Turn},
    outcome_is_unknown,
};
use crate::{
    types::{Clock, Consistency, Entropy},
    wire::{
        Address, Dialer, Fault, Reason,
        chat::{
            Heartbeat, ListMessagesRequest, Message, SubscribeResponse, message_service_client::MessageServiceClient,
            subscribe_response::Event,
        },
    },
};

fn cluster(seeds: &[&Fake], timeout: Duration) -> Cluster {
    let settings = Settings { timeout, clock: Clock::system(), entropy: Entropy::system() };
    Cluster::new(seeds.iter().map(|fake| fake.address.clone()).collect(), Dialer::tcp(), settings)
}

fn session(seeds: &[&Fake]) -> Session {
    Session::resume(&cluster(seeds, Duration::from_secs(20)), "token").unwrap()
}

fn bob() -> Recipient {
    Recipient::Username("bob".into())
}

fn sent(fake: &Fake) -> Vec<String> {
    fake.script(|script| script.sent.iter().map(|request| request.request_id.clone()).collect())
}

/// An address where connections are refused for as long as the socket lives: it is bound and never listens.
fn nobody() -> (Address, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap().to_string().parse().unwrap(), socket)
}

#[tokio::test]
async fn a_write_follows_the_hint_with_the_same_request_id() {
    let [n1, n2] = Fake::cluster().await;
    n1.script(|script| script.turns.push_back(n1.redirect(&n2, 2)));
    let session = session(&[&n1]);
    session.send(&bob(), "hello").await.unwrap();
    assert_eq!(sent(&n1).len(), 1);
    assert_eq!(sent(&n1), sent(&n2), "both attempts bear one request_id");
    assert_eq!(session.index(), 42, "the reply's index is kept for reads of its own writes");
}

#[tokio::test]
async fn a_hint_of_an_older_term_is_not_followed() {
    let [n1, n2, n3] = Fake::cluster().await;
    for node in [&n1, &n2, &n3] {
        node.knows(&[&n1, &n2, &n3], Some(&n2), 7);
    }
    n2.script(|script| script.turns.push_back(n2.redirect(&n3, 6)));
    session(&[&n1]).send(&bob(), "hello").await.unwrap();
    assert_eq!(sent(&n3).len(), 0, "term 6 is over");
    assert_eq!(sent(&n2).len(), 2, "it leads term 7, as all say");
}

#[tokio::test]
async fn nodes_that_send_a_client_round_in_circles_do_not_make_it_spin() {
    let [n1, n2] = Fake::cluster().await;
    for (node, other) in [(&n1, &n2), (&n2, &n1)] {
        node.script(|script| script.turns.extend(vec![node.redirect(other, 1); 1000]));
    }
    let session = Session::resume(&cluster(&[&n1], Duration::from_secs(1)), "token").unwrap();
    let fault = session.send(&bob(), "hello").await.unwrap_err();
    assert_eq!(fault.reason, Reason::NotLeader);
    assert!(!outcome_is_unknown(&fault), "every attempt was refused");
    assert!(sent(&n1).len() + sent(&n2).len() < 100);
}

#[tokio::test]
async fn a_dead_leader_is_replaced_through_the_membership() {
    let [n1, n2, n3] = Fake::cluster().await;
    let (dead, _socket) = nobody();
    for node in [&n1, &n2, &n3] {
        node.script(|script| {
            script.membership.leader_id = 9;
            script.membership.leader_address = dead.to_string();
        });
    }
    let session = session(&[&n1]);
    // The client first learns of the dead leader. Then the others elect another.
    assert_eq!(session.cluster().membership().await.unwrap().leader_address, dead.to_string());
    for node in [&n2, &n3] {
        node.knows(&[&n1, &n2, &n3], Some(&n3), 2);
    }
    session.send(&bob(), "hello").await.unwrap();
    assert_eq!(sent(&n3).len(), 1);
}

#[tokio::test]
async fn a_frozen_leader_is_left_for_the_next_with_the_same_request_id() {
    let [n1, n2, n3] = Fake::cluster().await;
    n1.script(|script| script.turns.push_back(Turn::Hang));
    let session = session(&[&n1, &n2, &n3]);
    session.cluster().membership().await.unwrap();
    let freeze = async {
        while sent(&n1).is_empty() {
            tokio::task::yield_now().await;
        }
        n1.freeze();
        for node in [&n2, &n3] {
            node.knows(&[&n1, &n2, &n3], Some(&n2), 2);
        }
    };
    let before = Instant::now();
    let bob = bob();
    let (outcome, ()) = tokio::join!(session.send(&bob, "hello"), freeze);
    outcome.unwrap();
    assert_eq!(sent(&n1), sent(&n2));
    assert!(before.elapsed() < Duration::from_secs(5), "a part of the 20 s it may take");
}

#[tokio::test]
async fn a_frozen_node_is_left_by_readers() {
    let [n1, n2] = Fake::cluster().await;
    // With this randomness the client picks the first node.
    let entropy = Entropy::new(|buffer| buffer.fill(0));
    let settings = Settings { timeout: Duration::from_secs(20), clock: Clock::system(), entropy };
    let cluster = Cluster::new(vec![n1.address.clone(), n2.address.clone()], Dialer::tcp(), settings);
    let session = Session::resume(&cluster, "token").unwrap();
    session.inbox(false, 1, "").await.unwrap();
    assert_eq!(n1.script(|script| script.metadata.len()), 1, "the first node served");
    n1.freeze();
    for _ in 0..4 {
        session.messages(Some(&bob()), ListMessagesRequest::default()).await.unwrap();
    }
    assert_eq!(n2.script(|script| script.listed.len()), 4);
}

#[tokio::test]
async fn retry_info_is_honoured() {
    let n1 = Fake::start(1).await;
    let wait = Duration::from_millis(400);
    let busy = Fault::new(Reason::Overloaded, "busy").retry_after(wait);
    n1.script(|script| script.turns.push_back(Turn::Refuse(busy)));
    let before = Instant::now();
    session(&[&n1]).send(&bob(), "hello").await.unwrap();
    assert!(before.elapsed() >= wait);
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_is_not_begun() {
    let n1 = Fake::start(1).await;
    let limited = Fault::new(Reason::RateLimited, "too many").retry_after(Duration::from_secs(3600));
    n1.script(|script| script.turns.push_back(Turn::Refuse(limited)));
    let before = Instant::now();
    let fault = session(&[&n1]).send(&bob(), "hello").await.unwrap_err();
    assert_eq!(fault.reason, Reason::RateLimited);
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_refusal_is_told_at_once_and_not_repeated() {
    let n1 = Fake::start(1).await;
    n1.script(|script| {
        script.turns.push_back(Turn::Refuse(Fault::new(Reason::AccountNotFound, "there is no bob")));
    });
    let fault = session(&[&n1]).send(&bob(), "hello").await.unwrap_err();
    assert_eq!(fault.reason, Reason::AccountNotFound);
    assert_eq!(sent(&n1).len(), 1);
}

#[tokio::test]
async fn an_unanswered_write_ends_as_unknown_and_names_its_request_id() {
    let n1 = Fake::start(1).await;
    n1.script(|script| script.turns.extend(vec![Turn::Hang; 100]));
    let session = Session::resume(&cluster(&[&n1], Duration::from_millis(300)), "token").unwrap();
    let fault = session.send(&bob(), "hello").await.unwrap_err();
    assert_eq!((fault.reason, fault.reason.exit_code()), (Reason::Timeout, 6));
    assert!(outcome_is_unknown(&fault), "{fault}");
    assert_eq!(fault.metadata["request_id"], sent(&n1)[0]);
}

#[tokio::test]
async fn a_leader_that_lost_its_quorum_may_have_passed_the_write_on() {
    let n1 = Fake::start(1).await;
    let alone = Fault::new(Reason::NoQuorum, "no majority answers");
    n1.script(|script| script.turns.extend(vec![Turn::Refuse(alone); 100]));
    let session = Session::resume(&cluster(&[&n1], Duration::from_millis(300)), "token").unwrap();
    let fault = session.send(&bob(), "hello").await.unwrap_err();
    assert!(outcome_is_unknown(&fault) && fault.message.contains("no majority answers"), "{fault}");
}

#[tokio::test]
async fn with_nobody_listening_a_write_ends_as_not_sent() {
    let ((first, _one), (second, _other)) = (nobody(), nobody());
    let seeds = vec![first, second];
    let settings = Settings::new(Duration::from_millis(300));
    let session = Session::resume(&Cluster::new(seeds, Dialer::tcp(), settings), "token").unwrap();
    let fault = session.send(&bob(), "hello").await.unwrap_err();
    assert_eq!((fault.reason, fault.reason.exit_code()), (Reason::Unreachable, 6));
    assert!(!outcome_is_unknown(&fault), "no node was reached");
}

#[tokio::test]
async fn an_answer_that_knows_the_newest_leader_is_preferred() {
    let [n1, n2, n3] = Fake::cluster().await;
    n1.knows(&[&n1, &n2, &n3], None, 9);
    n2.knows(&[&n1, &n2, &n3], Some(&n1), 3);
    n3.knows(&[&n1, &n2, &n3], Some(&n3), 4);
    n3.script(|script| script.membership.has_quorum = false);
    let membership = cluster(&[&n1, &n2, &n3], Duration::from_secs(5)).membership().await.unwrap();
    assert_eq!((membership.leader_id, membership.term), (3, 4));
    let alone = cluster(&[&n1], Duration::from_secs(5)).membership_of(&n2.address).await.unwrap();
    assert_eq!(alone.leader_id, 1);
}

#[tokio::test]
async fn any_call_may_be_brought_to_the_leader() {
    let [n1, n2] = Fake::cluster().await;
    let cluster = cluster(&[&n2], Duration::from_secs(5));
    let call = |channel| async move {
        MessageServiceClient::new(channel).list_messages(Request::new(ListMessagesRequest::default())).await
    };
    cluster.on_leader(call).await.unwrap();
    assert_eq!((n1.script(|script| script.listed.len()), n2.script(|script| script.listed.len())), (1, 0));
}

#[tokio::test]
async fn a_call_without_a_deadline_of_its_own_does_not_hang_on_a_silent_leader() {
    let n1 = Fake::start(1).await;
    n1.script(|script| script.turns.push_back(Turn::Hang));
    let call =
        |channel| async move { MessageServiceClient::new(channel).mark_read(Request::new(Default::default())).await };
    let before = Instant::now();
    cluster(&[&n1], Duration::from_secs(20)).on_leader(call).await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(10), "left and asked again");
    n1.script(|script| script.turns.push_back(Turn::Hang));
    let fault = cluster(&[&n1], Duration::from_millis(300)).on_leader(call).await.unwrap_err();
    assert!(outcome_is_unknown(&fault), "{fault}");
}

#[tokio::test]
async fn a_node_of_another_cluster_is_left_for_one_of_ours() {
    let [n1, n2] = Fake::cluster().await;
    let session = session(&[&n1]);
    for node in [&n1, &n2] {
        let foreign = Fault::new(Reason::WrongCluster, "the node x belongs to cluster other, not fake");
        node.script(|script| script.turns.push_back(Turn::Refuse(foreign)));
    }
    session.send(&bob(), "hello").await.unwrap();
    session.inbox(false, 1, "").await.unwrap();
    let asked = [&n1, &n2].map(|node| node.script(|script| script.metadata.clone())).concat();
    assert!(asked.len() > 2, "some refused");
    assert!(asked.iter().all(|map| map.get("x-chat-cluster").unwrap() == "fake"), "{asked:?}");
}

#[tokio::test]
async fn reads_say_how_fresh_they_must_be_and_how_long_they_wait() {
    let n1 = Fake::start(1).await;
    let session = session(&[&n1]);
    for consistency in [Consistency::Linearizable, Consistency::AtLeast(7), Consistency::Stale] {
        session.reading(consistency).inbox(false, 1, "").await.unwrap();
    }
    let metadata = n1.script(|script| script.metadata.clone());
    let texts = |name: &str| -> Vec<Option<String>> {
        metadata.iter().map(|map| map.get(name).map(|value| value.to_str().unwrap().to_owned())).collect()
    };
    assert_eq!(texts("x-chat-consistency"), [None, None, Some("stale".into())]);
    assert_eq!(texts("x-chat-min-index"), [None, Some("7".into()), None]);
    assert_eq!(texts("authorization"), vec![Some("Bearer token".to_owned()); 3]);
    assert!(texts("grpc-timeout").iter().all(Option::is_some));
}

fn message(cursor: u64, seq: u64) -> Result<SubscribeResponse, Fault> {
    let message = Message { conversation_id: "c1".into(), seq, cursor, ..Default::default() };
    Ok(SubscribeResponse { cursor, event: Some(Event::Message(message)) })
}

fn heartbeat(cursor: u64, has_quorum: bool) -> Result<SubscribeResponse, Fault> {
    let beat = Heartbeat { has_quorum, ..Default::default() };
    Ok(SubscribeResponse { cursor, event: Some(Event::Heartbeat(beat)) })
}

/// The next `count` updates, each in a word or two.
async fn updates(subscription: &mut super::Subscription, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let next = timeout(Duration::from_secs(20), subscription.next()).await.expect("an update in time");
        seen.push(match next {
            None => "end".into(),
            Some(Err(fault)) => fault.reason.as_str().into(),
            Some(Ok(Update::Event(SubscribeResponse { event: Some(Event::Message(message)), .. }))) => {
                format!("message {}", message.seq)
            }
            Some(Ok(Update::Event(_))) => "event".into(),
            Some(Ok(Update::Connected(_))) => "connected".into(),
            Some(Ok(Update::Reconnecting(_))) => "reconnecting".into(),
            Some(Ok(Update::NoQuorum)) => "no quorum".into(),
            Some(Ok(Update::Quorum)) => "quorum".into(),
            Some(Ok(Update::Broken(_))) => "broken".into(),
        });
    }
    seen
}

#[tokio::test]
async fn a_subscription_resumes_from_its_cursor_without_gap_or_duplicate() {
    let n1 = Fake::start(1).await;
    n1.script(|script| {
        script.streams.push_back(vec![message(10, 1), message(11, 2)]);
        script.streams.push_back(vec![message(11, 2), message(12, 3)]);
    });
    let mut subscription = session(&[&n1]).subscribe(Start::After(9));
    let seen = updates(&mut subscription, 6).await;
    assert_eq!(seen, ["connected", "message 1", "message 2", "reconnecting", "connected", "message 3"]);
    let asked: Vec<_> = n1.script(|script| script.subscribed.iter().map(|request| request.after_cursor).collect());
    assert_eq!(asked, [9, 11]);
}

#[tokio::test]
async fn a_subscription_from_now_resumes_from_a_heartbeat() {
    let n1 = Fake::start(1).await;
    n1.script(|script| {
        script.streams.push_back(vec![heartbeat(50, true)]);
        script.streams.push_back(vec![message(51, 4)]);
    });
    let mut subscription = session(&[&n1]).subscribe(Start::Now);
    assert_eq!(updates(&mut subscription, 4).await, ["connected", "reconnecting", "connected", "message 4"]);
    let asked: Vec<_> =
        n1.script(|script| script.subscribed.iter().map(|ask| (ask.after_cursor, ask.from_now)).collect());
    assert_eq!(asked, [(0, true), (50, false)]);
}

#[tokio::test]
async fn a_gap_and_a_lost_quorum_are_told() {
    let n1 = Fake::start(1).await;
    n1.script(|script| {
        let items = [message(1, 1), heartbeat(1, false), heartbeat(1, false), heartbeat(1, true), message(2, 3)];
        script.streams.push_back(items.into());
    });
    let mut subscription = session(&[&n1]).subscribe(Start::After(0));
    let seen = updates(&mut subscription, 6).await;
    assert_eq!(seen, ["connected", "message 1", "no quorum", "quorum", "broken", "message 3"]);
}

#[tokio::test]
async fn a_subscription_ends_with_its_session() {
    let n1 = Fake::start(1).await;
    n1.script(|script| {
        let gone = Fault::new(Reason::SessionInvalid, "the session ended");
        script.streams.push_back(vec![message(1, 1), Err(gone)]);
    });
    let mut subscription = session(&[&n1]).subscribe(Start::After(0));
    let seen = updates(&mut subscription, 4).await;
    assert_eq!(seen, ["connected", "message 1", "SESSION_INVALID", "end"]);
}

#[tokio::test]
async fn a_node_that_lags_behind_the_cursor_is_left_for_another() {
    let n1 = Fake::start(1).await;
    n1.script(|script| {
        let behind = || Err(Fault::new(Reason::CursorInvalid, "not here yet"));
        script.streams.push_back(vec![behind()]);
        script.streams.push_back(vec![message(8, 1)]);
        script.streams.extend([vec![behind()], vec![behind()], vec![behind()]]);
    });
    let mut subscription = session(&[&n1]).subscribe(Start::After(7));
    assert_eq!(
        updates(&mut subscription, 5).await,
        ["connected", "reconnecting", "connected", "message 1", "reconnecting"]
    );
    let rest = updates(&mut subscription, 6).await;
    assert_eq!(rest.last().unwrap(), "CURSOR_INVALID", "believed at last: {rest:?}");
}
