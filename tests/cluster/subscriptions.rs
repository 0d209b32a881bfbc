//! No gap and no duplicate (P5): every subscriber gets every event once and in order, whatever happens to the nodes.

use futures::future::join_all;
use quorate::{
    client::{Recipient, Session, Start},
    types::ConversationId,
    wire::chat::{Message, SubscribeResponse, subscribe_response::Event},
};

use crate::common::{Cluster, User, event_of, eventually};

/// The message in an event, if it is one.
fn message(event: SubscribeResponse) -> Option<Message> {
    match event.event {
        Some(Event::Message(message)) => Some(message),
        _ => None,
    }
}

/// Collects the messages of a subscription from the beginning until the text `last`.
async fn follow(session: Session, last: &str) -> Vec<Message> {
    let mut subscription = session.subscribe(Start::After(0));
    let mut seen = Vec::new();
    while seen.last().is_none_or(|message: &Message| message.body != last) {
        seen.extend(message(event_of(&mut subscription).await));
    }
    seen
}

async fn room_of(owner: &User, members: &[User]) -> ConversationId {
    let names = members.iter().map(|member| member.name.clone()).collect();
    let room = owner.session.create_room("square", false, names).await.expect("a room");
    room.conversation_id.parse().expect("a conversation id")
}

async fn say(owner: &User, room: ConversationId, from: usize, to: usize) {
    for number in from..to {
        owner.session.send(&Recipient::Conversation(room), &format!("{number}")).await.expect("it is sent");
    }
}

/// P5: fifty subscribers; the leader is killed, a node is restarted and fed by a snapshot, all are restarted.
#[tokio::test]
async fn fifty_subscribers_miss_nothing_while_nodes_die_and_take_snapshots() {
    const SUBSCRIBERS: usize = 52;
    let cluster = Cluster::of(3).snapshots(20, 5).start().await;
    let [owner] = cluster.accounts(["owner"]).await;
    let names: Vec<String> = (0..SUBSCRIBERS).map(|number| format!("member{number}")).collect();
    let members = join_all(names.iter().map(|name| cluster.user(name))).await;
    let room = room_of(&owner, &members).await;
    let following: Vec<_> = members.iter().map(|member| tokio::spawn(follow(member.session.clone(), "end"))).collect();
    say(&owner, room, 0, 20).await;

    let (leader, _) = cluster.roles().await;
    cluster.kill([leader]).await;
    say(&owner, room, 20, 70).await;
    cluster.restart(leader).await.unwrap();
    cluster.assert_replicas_agree().await;

    let (_, followers) = cluster.roles().await;
    cluster.isolate(followers[0]);
    say(&owner, room, 70, 110).await;
    cluster.heal();
    say(&owner, room, 110, 120).await;

    cluster.kill(1..=3).await;
    cluster.restart_all(1..=3).await;
    say(&owner, room, 120, 130).await;
    owner.session.send(&Recipient::Conversation(room), "end").await.unwrap();

    let mut expected: Vec<String> = (0..130).map(|number| number.to_string()).collect();
    expected.push("end".into());
    for (name, followed) in names.iter().zip(following) {
        let seen = followed.await.unwrap_or_else(|error| panic!("{name}: {error}\n{}", cluster.status()));
        let bodies: Vec<&str> = seen.iter().map(|message| message.body.as_str()).collect();
        assert_eq!(bodies, expected, "{name}");
        assert!(seen.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq), "{name}: seqs are dense");
        assert!(seen.windows(2).all(|pair| pair[0].cursor < pair[1].cursor), "{name}: cursors rise");
    }
    cluster.assert_replicas_agree().await;
}

/// P5: a subscription resumes from any cursor on any node.
#[tokio::test]
async fn a_cursor_from_one_node_resumes_on_every_other() {
    let cluster = Cluster::of(3).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    for number in 0..10 {
        alice.send("bob", &format!("{number}")).await;
    }
    let mut live = bob.subscribe(0);
    let mut events = Vec::new();
    while events.len() < 10 {
        let event = event_of(&mut live).await;
        if matches!(event.event, Some(Event::Message(_))) {
            events.push(event);
        }
    }
    for number in 1..=3 {
        for (at, event) in events.iter().enumerate() {
            let rest = bob.events_at(cluster.channel(number), event.cursor, events.len() - at - 1).await;
            assert_eq!(rest, events[at + 1..], "from cursor {} at n{number}", event.cursor);
        }
    }
}

/// P5: a subscription on a follower that is cut off catches up once the link is restored.
#[tokio::test]
async fn a_subscriber_of_a_node_that_is_cut_off_catches_up_when_it_heals() {
    let cluster = Cluster::of(3).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    alice.send("bob", "one").await;
    let (_, followers) = cluster.roles().await;
    let following = bob.follow_at(cluster.channel(followers[0]), 0, 3);
    cluster.isolate(followers[0]);
    alice.send("bob", "two").await;
    alice.send("bob", "three").await;
    cluster.heal();
    let seen = following.await.expect("no panic");
    let bodies: Vec<String> = seen.into_iter().filter_map(message).map(|message| message.body).collect();
    assert_eq!(bodies, ["one", "two", "three"]);
    eventually("all level", async || match cluster.leader() {
        Some(_) => Ok(()),
        None => Err(cluster.status()),
    })
    .await;
}
