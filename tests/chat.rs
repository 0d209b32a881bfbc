//! The API of users over real gRPC, on clusters of one, three and five nodes.

mod common;

use std::{net::SocketAddr, time::Duration};

use common::{Cluster, PASSWORD, User, event_of, eventually};
use futures::future::join_all;
use hyper_util::rt::TokioIo;
use quorate::{
    client::{Recipient, Session, Start},
    config::{Rate, Rates},
    types::{Consistency, ConversationId},
    wire::{
        Fault, Reason,
        chat::{
            Conversation, ListConversationsRequest, ListMessagesRequest, ListSessionsRequest, Message, MessageRef,
            account_service_client::AccountServiceClient, subscribe_response::Event,
        },
    },
};
use tokio::net::TcpSocket;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;
use tower::service_fn;

fn direct(name: &str) -> Recipient {
    Recipient::Username(name.to_owned())
}

fn id_of(room: &Conversation) -> ConversationId {
    room.conversation_id.parse().expect("a conversation id")
}

fn reason<T: std::fmt::Debug>(result: Result<T, Fault>) -> Reason {
    result.expect_err("a refusal").reason
}

fn reference(message: &Message) -> MessageRef {
    MessageRef { conversation_id: message.conversation_id.clone(), seq: message.seq }
}

async fn inbox(user: &User) -> Vec<Conversation> {
    user.session.inbox(false, 0, "").await.expect("an inbox").conversations
}

/// The inbox as titles (of a direct conversation its members) with unread counts.
async fn counts(user: &User) -> Vec<(String, u64)> {
    // The API lists members in the order of their account ids, which the tests create concurrently.
    let together = |found: &Conversation| {
        let mut members = found.members.clone();
        members.sort();
        members.join("+")
    };
    let name = |found: &Conversation| if found.direct { together(found) } else { found.title.clone() };
    inbox(user).await.iter().map(|found| (name(found), found.unread_count)).collect()
}

async fn listed(user: &User, of: Option<&Recipient>, request: ListMessagesRequest) -> Vec<Message> {
    user.session.messages(of, request).await.expect("messages").messages
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.body.as_str()).collect()
}

#[tokio::test]
async fn rooms_are_found_joined_left_renamed_and_kept_private() {
    let cluster = Cluster::of(1).start().await;
    let [alice, bob, carol] = cluster.accounts(["alice", "bob", "carol"]).await;
    let den = alice.session.create_room("den", true, vec!["bob".into()]).await.unwrap();
    let hall = alice.session.create_room("hall", false, Vec::new()).await.unwrap();
    let joinable = ListConversationsRequest { joinable: true, ..Default::default() };
    let found = bob.session.conversations(joinable).await.unwrap().conversations;
    assert_eq!(
        found.iter().map(|room| room.title.as_str()).collect::<Vec<_>>(),
        ["hall"],
        "private rooms are unlisted"
    );
    assert_eq!(reason(carol.session.join_room(id_of(&den)).await), Reason::ConversationNotFound);

    let mut joined = carol.session.join_room(id_of(&hall)).await.unwrap();
    joined.members.sort();
    assert_eq!(joined.members, ["alice", "carol"]);
    assert_eq!(reason(carol.session.kick(id_of(&hall), vec!["alice".into()]).await), Reason::NotAllowed);
    carol.session.rename_room(id_of(&hall), "great hall").await.unwrap();
    carol.session.invite(id_of(&hall), vec!["bob".into()]).await.unwrap();
    alice.session.kick(id_of(&hall), vec!["carol".into()]).await.unwrap();
    assert!(counts(&carol).await.is_empty(), "removed");
    assert_eq!(
        reason(carol.session.send(&Recipient::Conversation(id_of(&hall)), "?").await),
        Reason::ConversationNotFound
    );
    alice.session.leave_room(id_of(&hall)).await.unwrap();
    // Ownership passes to the member who joined first.
    carol.session.join_room(id_of(&hall)).await.unwrap();
    let left = bob.session.kick(id_of(&hall), vec!["carol".into()]).await.unwrap();
    assert_eq!((left.title.as_str(), left.members, left.member_count), ("great hall", vec!["bob".to_owned()], 1));
}

#[tokio::test]
async fn the_next_unread_oldest_first_are_marked_and_no_others() {
    let cluster = Cluster::of(1).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    let room = alice.session.create_room("room", false, vec!["bob".into()]).await.unwrap();
    for number in 0..3 {
        alice.send("bob", &format!("direct {number}")).await;
        alice.session.send(&Recipient::Conversation(id_of(&room)), &format!("room {number}")).await.unwrap();
    }
    assert_eq!(counts(&bob).await, [("alice+bob".to_owned(), 3), ("room".to_owned(), 3)]);

    let unread = |page_size| ListMessagesRequest { unread_only: true, page_size, ..Default::default() };
    let next = listed(&bob, None, unread(3)).await;
    assert_eq!(
        bodies(&next),
        ["direct 0", "room 0", "direct 1"],
        "over all conversations, in the order they were sent"
    );
    assert_eq!(bob.session.mark_read(next.iter().map(reference).collect()).await.unwrap(), 3);
    assert_eq!(counts(&bob).await, [("alice+bob".to_owned(), 1), ("room".to_owned(), 2)]);
    let rest = listed(&bob, None, unread(10)).await;
    assert_eq!(bodies(&rest), ["room 1", "direct 2", "room 2"]);

    // A single message ahead of the read mark, then a whole conversation.
    assert_eq!(bob.session.mark_read(vec![reference(&rest[2])]).await.unwrap(), 2);
    assert_eq!(bob.session.mark_read_up_to(id_of(&room), 0).await.unwrap(), 1);
    assert_eq!(bodies(&listed(&bob, None, unread(10)).await), ["direct 2"]);
    assert_eq!(counts(&alice).await.iter().map(|(_, unread)| unread).sum::<u64>(), 0, "one's own are read");
}

#[tokio::test]
async fn history_goes_both_ways_in_pages() {
    let cluster = Cluster::of(1).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    for number in 1..=7 {
        alice.send("bob", &number.to_string()).await;
    }
    let page =
        |after_seq, before_seq| ListMessagesRequest { after_seq, before_seq, page_size: 3, ..Default::default() };
    let of = direct("alice");
    let forwards = listed(&bob, Some(&of), page(2, 0)).await;
    assert_eq!(bodies(&forwards), ["3", "4", "5"]);
    let mut backwards = listed(&bob, Some(&of), page(0, 5)).await;
    backwards.sort_by_key(|message| message.seq);
    assert_eq!(bodies(&backwards), ["2", "3", "4"]);
    assert!(listed(&bob, Some(&of), page(7, 0)).await.is_empty());
    assert_eq!(reason(bob.session.messages(Some(&direct("nobody")), page(0, 0)).await), Reason::AccountNotFound);
}

#[tokio::test]
async fn deleting_is_for_oneself_or_by_the_author_for_everyone_and_live_clients_are_told() {
    let cluster = Cluster::of(1).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    let (kept, erased) = (alice.send("bob", "kept").await, alice.send("bob", "erased").await);
    let mut live = bob.subscribe(erased.cursor);
    assert_eq!(reason(bob.session.delete(vec![reference(&erased)], true).await), Reason::NotAllowed);
    assert_eq!(alice.session.delete(vec![reference(&erased)], true).await.unwrap(), 1);
    let Some(Event::Deleted(told)) = event_of(&mut live).await.event else { panic!("a deletion is told") };
    assert_eq!((told.conversation_id.as_str(), told.messages.len(), told.by.as_str()), ("c1", 1, "alice"));
    assert_eq!(bob.session.delete(vec![reference(&kept)], false).await.unwrap(), 1);
    let all = listed(&bob, Some(&direct("alice")), ListMessagesRequest::default()).await;
    assert!(all.iter().all(|message| message.deleted && message.body.is_empty()), "{all:?}");
    let all = listed(&alice, Some(&direct("bob")), ListMessagesRequest::default()).await;
    assert_eq!(bodies(&all), ["kept", ""], "bob hid it for himself alone");
    assert_eq!(counts(&bob).await[0].1, 0, "erased and hidden messages are not unread");
}

#[tokio::test]
async fn read_receipts_are_seen_live_until_either_turns_them_off() {
    let cluster = Cluster::of(1).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    let sent = alice.send("bob", "hello").await;
    let mut live = alice.subscribe(sent.cursor);
    bob.session.mark_read(vec![reference(&sent)]).await.unwrap();
    let Some(Event::Read(read)) = event_of(&mut live).await.event else { panic!("a receipt is told") };
    assert_eq!((read.username.as_str(), read.read_seq), ("bob", 1));
    assert_eq!(inbox(&alice).await[0].peer_read_seq, 1);
    assert!(bob.session.settings().await.unwrap().read_receipts);
    assert!(!bob.session.set_read_receipts(false).await.unwrap().read_receipts);
    let second = alice.send("bob", "again").await;
    bob.session.mark_read(vec![reference(&second)]).await.unwrap();
    assert_eq!((inbox(&alice).await[0].peer_read_seq, inbox(&bob).await[0].peer_read_seq), (0, 0));
    alice.send("bob", "last").await;
    loop {
        match event_of(&mut live).await.event {
            Some(Event::Message(message)) if message.body == "last" => break,
            Some(Event::Read(read)) => assert_ne!(read.username, "bob", "no receipt is told any more"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_blocked_account_neither_writes_nor_invites_until_it_is_unblocked() {
    let cluster = Cluster::of(1).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    bob.session.block("Alice").await.unwrap();
    assert_eq!(reason(alice.session.send(&direct("bob"), "hello").await), Reason::NotAllowed);
    assert_eq!(reason(alice.session.create_room("trap", false, vec!["bob".into()]).await), Reason::NotAllowed);
    assert!(inbox(&bob).await.is_empty());
    let blocked = bob.session.blocked().await.unwrap();
    assert_eq!(blocked.iter().map(|account| account.username.as_str()).collect::<Vec<_>>(), ["alice"]);
    assert_eq!(reason(bob.session.block("nobody").await), Reason::AccountNotFound);
    bob.session.unblock("alice").await.unwrap();
    alice.send("bob", "hello").await;
}

#[tokio::test]
async fn wrong_passwords_are_slowed_down_and_say_for_how_long() {
    let cluster = Cluster::of(1).start().await;
    let [alice] = cluster.accounts(["alice"]).await;
    let client = cluster.client_with(Duration::from_millis(500));
    for _ in 0..10 {
        let refused = Session::login(&client, "alice", "not the password", "test").await.map(|_| ());
        assert_eq!(reason(refused), Reason::BadCredentials);
    }
    let fault = Session::login(&client, "alice", PASSWORD, "test").await.map(|_| ()).unwrap_err();
    assert_eq!(fault.reason, Reason::RateLimited, "{fault:?}");
    assert!(fault.retry_after.is_some_and(|wait| wait <= Duration::from_secs(6)), "{fault:?}");
    let impatient = alice.session.through(&client);
    assert_eq!(reason(impatient.change_password("wrong", "another password").await), Reason::RateLimited);
    alice.send("alice", "who is signed in goes on").await;
}

/// A connection to the first node from the loopback address `from`.
async fn channel_from(cluster: &Cluster, from: &'static str) -> Channel {
    let to = cluster.address(1).as_str().parse::<SocketAddr>().expect("an address");
    let connector = service_fn(move |_| async move {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from.parse().expect("an address"), 0))?;
        Ok::<_, std::io::Error>(TokioIo::new(socket.connect(to).await?))
    });
    let endpoint = Endpoint::from_shared(format!("http://{to}")).expect("an endpoint");
    endpoint.connect_with_connector(connector).await.expect("a connection")
}

#[tokio::test]
async fn a_flood_from_one_address_is_told_to_wait_while_another_address_is_served() {
    let rate = Rate { interval: Duration::from_millis(20), burst: 100 };
    let cluster = Cluster::of(1).rates(Rates { requests: Some(rate), ..Rates::UNLIMITED }).start().await;
    let [alice, mallory] = cluster.accounts(["alice", "mallory"]).await;
    let (here, there) = (channel_from(&cluster, "127.0.0.1").await, channel_from(&cluster, "127.0.0.9").await);
    let ask = async || {
        let mut client = AccountServiceClient::new(there.clone());
        client.list_sessions(mallory.signed(ListSessionsRequest {})).await.map(drop)
    };
    let answers = join_all((0..400).map(|_| ask())).await;
    let refused: Vec<Status> = answers.into_iter().filter_map(Result::err).collect();
    assert!(refused.len() > 100, "{} of 400 were refused", refused.len());
    for status in &refused {
        let details = status.get_error_details();
        let delay = details.retry_info().and_then(|info| info.retry_delay).expect("how long to wait");
        assert!(!delay.is_zero() && delay <= rate.interval, "{delay:?}");
        let reason = details.error_info().map(|info| info.reason.clone());
        assert_eq!((status.code(), reason.as_deref()), (Code::ResourceExhausted, Some("RATE_LIMITED")));
    }
    for number in 0..10 {
        alice.send_at(here.clone(), "mallory", &number.to_string(), common::TIMEOUT).await.expect("it is served");
    }
    // A client that waits for the given delay is served again.
    while let Err(status) = ask().await {
        let wait = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
        tokio::time::sleep(wait.expect("how long to wait")).await;
    }
}

/// Waits until every node refuses `user`'s session by its own state.
async fn over_everywhere(cluster: &Cluster, user: &User) {
    for number in 1..=3 {
        eventually(&format!("{}'s session is over at n{number}", user.name), async || {
            let request = user.signed(ListSessionsRequest {});
            let asked = AccountServiceClient::new(cluster.channel(number)).list_sessions(request).await;
            match asked.map_err(|status| Fault::from_status(&status)) {
                Err(fault) if fault.reason == Reason::SessionInvalid => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

/// Waits until the subscription ends with SESSION_INVALID.
async fn ended(following: tokio::task::JoinHandle<Fault>) {
    let fault = tokio::time::timeout(common::TIMEOUT, following).await.expect("it ends in time").expect("no panic");
    assert_eq!(fault.reason, Reason::SessionInvalid);
}

fn follow_to_the_end(session: &Session) -> tokio::task::JoinHandle<Fault> {
    let mut subscription = session.subscribe(Start::Now);
    tokio::spawn(async move {
        loop {
            match subscription.next().await {
                Some(Err(fault)) => return fault,
                Some(Ok(_)) => {}
                None => panic!("the subscription ended without a reason"),
            }
        }
    })
}

#[tokio::test]
async fn sessions_end_at_once_on_every_node() {
    let cluster = Cluster::of(3).start().await;
    let [alice, bob, carol] = cluster.accounts(["alice", "bob", "carol"]).await;
    let login = |name: &'static str| {
        let client = cluster.client();
        async move {
            let (session, created) = Session::login(&client, name, PASSWORD, "other").await.expect("a sign-in");
            User { name: name.to_owned(), session, token: created.token }
        }
    };
    for (user, other) in [(&alice, login("alice").await), (&bob, login("bob").await), (&carol, login("carol").await)] {
        let live = follow_to_the_end(&other.session);
        match user.name.as_str() {
            "alice" => user.session.logout(None, true).await.unwrap(),
            "bob" => user.session.change_password(PASSWORD, "another password").await.unwrap(),
            _ => drop(user.session.delete_account(PASSWORD, false).await.unwrap()),
        }
        over_everywhere(&cluster, &other).await;
        assert_eq!(reason(other.session.send(&direct("bob"), "too late").await), Reason::SessionInvalid);
        ended(live).await;
    }
    assert_eq!(bob.session.sessions().await.unwrap().len(), 1, "the session that changed the password goes on");
    assert_eq!(
        reason(Session::login(&cluster.client(), "carol", PASSWORD, "").await.map(|_| ())),
        Reason::BadCredentials
    );
    cluster.assert_replicas_agree().await;
}

#[tokio::test]
async fn an_erasure_goes_on_by_itself_where_nobody_writes() {
    const MESSAGES: usize = 1_500;
    let cluster = Cluster::of(1).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    for chunk in (0..MESSAGES).collect::<Vec<_>>().chunks(100) {
        let sends = chunk.iter().map(async |number| {
            alice.send("bob", &number.to_string()).await;
        });
        join_all(sends).await;
    }
    assert_eq!(alice.session.delete_account(PASSWORD, true).await.unwrap(), MESSAGES as u64);
    let node = cluster.node(1).expect("it runs");
    eventually("nothing is left to be erased", async || {
        let read = node.query(Consistency::Stale, common::TIMEOUT, quorate::machine::query::chores).await;
        match read.expect("a read").0 {
            0 => Ok(()),
            chores => Err(format!("{chores} chores")),
        }
    })
    .await;
    assert_eq!(counts(&bob).await[0].1, 0);
}

/// P5: 200 subscribers over five nodes receive the same events in the same order while two nodes are killed and
/// restarted.
#[tokio::test]
async fn two_hundred_subscribers_receive_the_same_sequence_while_nodes_are_killed() {
    const SUBSCRIBERS: usize = 200;
    const MESSAGES: usize = 60;
    let cluster = Cluster::of(5).start().await;
    let [owner] = cluster.accounts(["owner"]).await;
    let names: Vec<String> = (0..SUBSCRIBERS).map(|number| format!("member{number}")).collect();
    let members = join_all(names.iter().map(|name| cluster.user(name))).await;
    let room = id_of(&owner.session.create_room("square", false, names.clone()).await.unwrap());
    let following: Vec<_> = members.iter().map(|member| tokio::spawn(follow(member.session.clone()))).collect();
    for number in 0..MESSAGES {
        if number == MESSAGES / 3 || number == 2 * MESSAGES / 3 {
            let (leader, followers) = cluster.roles().await;
            let victim = if number == MESSAGES / 3 { leader } else { followers[0] };
            cluster.kill([victim]).await;
            owner.session.send(&Recipient::Conversation(room), "one is down").await.unwrap();
            cluster.restart(victim).await.unwrap();
        }
        owner.session.send(&Recipient::Conversation(room), &number.to_string()).await.unwrap();
    }
    owner.session.send(&Recipient::Conversation(room), "end").await.unwrap();
    let all = join_all(following).await;
    let first = all[0].as_ref().unwrap_or_else(|error| panic!("{error}\n{}", cluster.status()));
    assert_eq!(first.len(), MESSAGES + 3);
    for (name, seen) in names.iter().zip(&all) {
        let seen = seen.as_ref().unwrap_or_else(|error| panic!("{name}: {error}\n{}", cluster.status()));
        assert_eq!(seen, first, "{name}");
    }
    assert!(first.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 + 1 == pair[1].1), "dense and in order");
}

/// Follows a subscription until the message `end`; returns cursor, sequence number and body of each message.
async fn follow(session: Session) -> Vec<(u64, u64, String)> {
    let mut subscription = session.subscribe(Start::After(0));
    let mut seen = Vec::new();
    loop {
        let Some(Event::Message(message)) = event_of(&mut subscription).await.event else { continue };
        let last = message.body == "end";
        seen.push((message.cursor, message.seq, message.body));
        if last {
            return seen;
        }
    }
}
