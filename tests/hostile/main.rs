//! Hostile connections to a real node in a process of its own.
//!
//! Each test floods the node in one way and checks four things: the node's memory stays bounded, a bystander on another
//! address is served all the time, refused clients are told why, and the node takes new clients when the flood is over.
//!
//! The flood comes from addresses of its own (127.0.0.2, 127.0.0.3, …), as on a network, because limits count by
//! address.

mod node;
mod raw;

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use node::{Bystander, NOTICED, Node, STRAINED};
use prost::Message;
use quorate::{
    client::{Recipient, Session},
    types::limits,
    wire::{chat, raft as pb},
};
use raw::{
    CONTINUATION, Connection, END_HEADERS, END_STREAM, FRAME_BYTES, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, call,
    dial, frame, message, settings,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The address of the flood.
const FLOOD: &str = "127.0.0.2";
/// Turns the rate limits off: they would stop a flood before it reaches the bound that a test is about.
const UNLIMITED: &str = "address_requests_per_second = 0\naccount_writes_per_second = 0\n";
/// Memory that a flood may take, in MiB: about twice the measured growth.
const MIB: u64 = 256;
const SEND: &str = "/chat.v1.MessageService/SendMessage";

/// Prints what a flood did, and checks it against the bounds on memory (`mib`) and on the bystander's waiting
/// (`timeout`).
async fn endured(name: &str, node: &Node, memory: &node::Memory, bystander: Bystander, mib: u64, timeout: Duration) {
    let (turns, longest) = bystander.has_noticed_nothing(timeout).await;
    let grown = memory.grown();
    println!("{name}: {grown} MiB, the longest of the bystander's {turns} turns {longest:?}");
    assert!(grown < mib, "{name} took {grown} MiB; {}", node.log());
}

/// Whether the node closes a connection within three seconds. Reads what it has sent.
async fn ends(mut stream: tokio::net::TcpStream) -> bool {
    tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut Vec::new())).await.is_ok()
}

/// Waits until the node has closed a connection, and returns what it sent before.
async fn closed(mut stream: tokio::net::TcpStream, what: &str) -> Vec<u8> {
    let mut said = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(40), stream.read_to_end(&mut said)).await;
    let local = stream.local_addr();
    assert!(reading.is_ok(), "{local:?}, which said {what}, is still open, and has heard {said:?}");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_or_never_finish_are_closed_and_take_no_place_from_others() {
    let node = Node::start("max_connections = 1000\n");
    let (bystander, memory) = (Bystander::start(&node).await, node.memory());
    let share = 1_000 / limits::ADDRESS_SHARE;
    // Half of them send nothing; the others stop in the middle of the preface or of their first headers.
    let open = async |number: usize| {
        let mut stream = dial(FLOOD, &node.address).await.expect("a connection");
        match number % 4 {
            0 => stream.write_all(&PREFACE[..20]).await.expect("a few bytes"),
            1 => {
                let begun = frame(HEADERS, 0, 1, &call(SEND, &[]));
                stream.write_all(&[PREFACE, &settings(0), &begun].concat()).await.expect("a few bytes");
            }
            _ => {}
        }
        stream
    };
    let begun = Instant::now();
    let held = join_all((0..share).map(open)).await;
    node.account("newcomer").await;
    const KINDS: [&str; 4] = ["half a preface", "half of its headers", "nothing", "nothing"];
    let said = |number: usize| KINDS[number % KINDS.len()];
    let lose = async |(number, stream)| (closed(stream, said(number)).await, begun.elapsed());
    let (heard, ends): (Vec<_>, Vec<_>) = join_all(held.into_iter().enumerate().map(lose)).await.into_iter().unzip();
    let (first, last) = (ends.iter().min().expect("some"), ends.iter().max().expect("some"));
    println!("all of {share} were closed after {first:?} to {last:?}");
    assert!(*first > Duration::from_secs(5), "one had no place that it could lose: it was closed after {first:?}");
    let farewell = b"the node takes no more connections";
    let refused = heard.iter().filter(|heard| heard.windows(farewell.len()).any(|words| words == farewell)).count();
    assert_eq!(refused, 0, "of {share} within the share of one address");
    let again = Connection::open(FLOOD, &node.address, 0).await.expect("a connection");
    let health = call("/grpc.health.v1.Health/Check", &[]);
    again.begin(&health, &message(0, &[]), true).await.expect("a call");
    let heard = again.hears("an answer", |heard| heard.answers > 0).await;
    assert_eq!(heard.refusals, 0, "{heard:?}");
    endured("silent connections", &node, &memory, bystander, MIB, NOTICED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_place_is_told_so_and_served_once_there_is_one() {
    let node = Node::start("max_connections = 8\n");
    let (bystander, memory) = (Bystander::start(&node).await, node.memory());
    let mut held = Vec::new();
    // The bystander holds one of the eight connections. One address may hold four.
    for (from, count) in [(FLOOD, 5), ("127.0.0.3", 4)] {
        for _ in 0..count {
            held.push(Connection::open(from, &node.address, 0).await.expect("a connection"));
        }
    }
    for (number, why) in [(4, "this address has taken its share of 4 places"), (8, "all 8 places are taken")] {
        let heard = held[number].hears("a refusal", |heard| heard.goaway.is_some()).await;
        assert_eq!(heard.goaway, Some(format!("the node takes no more connections: {why}")));
    }
    let client = node.client(Duration::from_millis(500));
    let fault = Session::register(&client, "late", node::PASSWORD).await.unwrap_err();
    assert!(fault.reason.is_transient() && fault.message.contains("all 8 places are taken"), "{fault:?}");
    drop(held);
    node.account("late").await;
    endured("too few places", &node, &memory, bystander, MIB, NOTICED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_never_take_the_files_that_the_node_itself_needs() {
    let node = Node::start_with_files(300, UNLIMITED);
    let (bystander, memory) = (Bystander::start(&node).await, node.memory());
    let flood = [FLOOD, "127.0.0.3", "127.0.0.4"];
    let open = async |number: usize| Connection::open(flood[number % 3], &node.address, 0).await;
    let opened = join_all((0..400).map(open)).await;
    let has_place = |connection: &Connection| !connection.heard().closed && connection.heard().goaway.is_none();
    let connected: Vec<_> = opened.into_iter().flatten().filter(has_place).collect();
    // Some refused connections may not have read the refusal yet.
    assert!((1..200).contains(&connected.len()), "{} of 400 have a place", connected.len());
    assert!(!node.log().contains("could not be accepted"), "{}", node.log());
    assert!(node.log().contains("raise the limit of open files"), "{}", node.log());
    drop(connected);
    node.account("newcomer").await;
    endured("few files", &node, &memory, bystander, MIB, NOTICED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_never_arrive_are_given_up_and_hold_no_more_than_they_have_sent() {
    let node = Node::start(UNLIMITED);
    let (bystander, memory) = (Bystander::start(&node).await, node.memory());
    // Five connections of a thousand streams: more than the bound on calls, so some calls are refused at once.
    let headers = call(SEND, &[("authorization", "Bearer abc")]);
    let announced = u32::try_from(limits::REQUEST_BYTES).expect("not much");
    let body = message(announced, &[b'x'; 16 * 1024]);
    let mut connections = Vec::new();
    for _ in 0..5 {
        let connection = Connection::open(FLOOD, &node.address, 1 << 20).await.expect("a connection");
        for _ in 0..1_000 {
            connection.begin(&headers, &body, false).await.expect("the beginning of a call");
        }
        connections.push(connection);
    }
    let waiting: usize = connections.iter().map(|connection| 1_000 - connection.heard().answers).sum();
    println!("{waiting} of 5000 are waited for");
    // The count includes answers that are still on their way.
    assert!(waiting > 1_000, "{waiting} of 5000 are waited for");
    let begun = Instant::now();
    for connection in &connections {
        connection.hears("an end of every call", |heard| heard.answers >= 1_000).await;
    }
    println!("all of 5000 were given up after {:?}", begun.elapsed());
    let again = connections[0].begin(&call("/grpc.health.v1.Health/Check", &[]), &message(0, &[]), true).await;
    again.expect("a call");
    connections[0].hears("an answer", |heard| heard.bytes > 0).await;
    endured("slow requests", &node, &memory, bystander, 2 * MIB, NOTICED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_and_pages_that_nobody_reads_cost_what_they_may_and_no_more() {
    let node = Node::start(UNLIMITED);
    let (sender, token) = node.account("sender").await;
    let notes = Recipient::Username("sender".into());
    let body = "x".repeat(limits::BODY_BYTES);
    for _ in 0..16 {
        sender.send(&notes, &body).await.expect("a message");
    }
    let (bystander, memory) = (Bystander::start(&node).await, node.memory());
    let authorization = format!("Bearer {token}");
    let with = |path: &str, request: &[u8]| {
        let body = message(u32::try_from(request.len()).expect("not much"), request);
        (call(path, &[("authorization", &authorization), ("x-chat-consistency", "stale")]), body)
    };
    let (subscribe, all) = with("/chat.v1.EventService/Subscribe", &chat::SubscribeRequest::default().encode_to_vec());
    let page = chat::ListMessagesRequest { page_size: 500, ..Default::default() };
    let (list, everything) = with("/chat.v1.MessageService/ListMessages", &page.encode_to_vec());
    let mut connections = Vec::new();
    for _ in 0..2 {
        let connection = Connection::open(FLOOD, &node.address, 0).await.expect("a connection");
        for number in 0..400 {
            if number % 2 == 0 {
                connection.begin(&subscribe, &all, true).await.expect("a call");
            }
            connection.begin(&list, &everything, true).await.expect("a call");
        }
        connections.push(connection);
    }
    // One more connection that does not even read HTTP/2 control frames.
    let mut deaf = dial(FLOOD, &node.address).await.expect("a connection");
    let mut said = [PREFACE, &settings(1 << 24)].concat();
    for number in 0..100 {
        said.extend_from_slice(&frame(HEADERS, END_HEADERS, 2 * number + 1, &list));
        said.extend_from_slice(&frame(raw::DATA, END_STREAM, 2 * number + 1, &everything));
    }
    deaf.write_all(&said).await.expect("calls");
    // Events for the subscriptions that nobody reads.
    for _ in 0..100 {
        sender.send(&notes, &body).await.expect("a message");
    }
    let mut refusals = 0;
    for connection in &connections {
        let heard = connection.hears("answers without bytes", |heard| heard.answers >= 600).await;
        assert_eq!(heard.bytes, 0, "nothing was read");
        refusals += heard.refusals;
    }
    let held = 800 - refusals;
    let share = limits::PAGES_KIB * 1024 / limits::ADDRESS_SHARE / limits::PAGE_BYTES;
    // Pages are a little smaller than their bound, so a few more fit into the share.
    println!("{held} of 800 pages are held");
    assert!(refusals > 0 && held <= share + share / 4, "{held} pages are held, the share is {share}");
    assert!(held >= share / 2, "{held} pages are held, the share is {share}: nobody was kept waiting");
    endured("unread streams", &node, &memory, bystander, 2 * MIB, STRAINED).await;
    drop(deaf);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_metadata_and_messages_are_refused_before_they_are_held() {
    let node = Node::start(UNLIMITED);
    let (bystander, memory) = (Bystander::start(&node).await, node.memory());
    let mut told = 0;
    for _ in 0..20 {
        // 4 MiB of headers, in CONTINUATION frames without an end.
        let connection = Connection::open(FLOOD, &node.address, 1 << 20).await.expect("a connection");
        let long = "v".repeat(4 << 20);
        let block = call(SEND, &[("x-long", &long)]);
        let mut pieces = block.chunks(FRAME_BYTES);
        let first = frame(HEADERS, 0, 1, pieces.next().expect("a piece"));
        let mut sent = connection.send(&first).await;
        for piece in pieces {
            sent = match sent {
                Ok(()) => connection.send(&frame(CONTINUATION, 0, 1, piece)).await,
                refused => refused,
            };
        }
        let ended = |heard: &raw::Heard| heard.closed || heard.goaway.is_some() || heard.answers > 0;
        let heard = connection.hears("an end", ended).await;
        assert_eq!(heard.answers, 0, "{heard:?}");
        told += usize::from(heard.goaway.is_some());
    }
    // A connection that breaks while the test writes may lose the GOAWAY, but not every one does.
    assert!(told > 0, "nobody was told why");
    for path in [SEND, "/chat.raft.v1.RaftService/Vote", "/chat.raft.v1.JoinService/Adopt"] {
        // The length prefix announces 4 GiB; 20 MiB are sent.
        let connection = Connection::open(FLOOD, &node.address, 1 << 20).await.expect("a connection");
        let stream = connection.begin(&call(path, &[]), &message(u32::MAX, &[]), false).await.expect("a call");
        let mut sent = Ok(());
        for _ in 0..20 * 64 {
            if sent.is_ok() {
                sent = connection.data(stream, &[b'x'; FRAME_BYTES], false).await;
            }
            if connection.heard().answers + connection.heard().resets > 0 {
                break;
            }
        }
        connection.hears("a refusal", |heard| heard.answers + heard.resets > 0).await;
    }
    endured("huge metadata and messages", &node, &memory, bystander, MIB, NOTICED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_resets_pings_settings_and_streams_end_their_own_connection_alone() {
    let node = Node::start(UNLIMITED);
    let (bystander, memory) = (Bystander::start(&node).await, node.memory());
    let headers = call(SEND, &[("authorization", "Bearer abc")]);
    let cancel = 8_u32.to_be_bytes();
    let pair = |number: u32| {
        let stream = 2 * number + 1;
        [frame(HEADERS, END_HEADERS, stream, &headers), frame(RST_STREAM, 0, stream, &cancel)].concat()
    };
    let resets: Vec<u8> = (0..50_000).flat_map(pair).collect();
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(200_000);
    let settings_of_one = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]).repeat(200_000);
    let begun: Vec<u8> = (0..20_000).flat_map(|n| frame(HEADERS, END_HEADERS, 2 * n + 1, &headers)).collect();
    for (name, flood) in [("resets", resets), ("pings", pings), ("settings", settings_of_one), ("streams", begun)] {
        let flood = Bytes::from(flood);
        let hurl = async |_: usize| {
            let mut stream = dial(FLOOD, &node.address).await.expect("a connection");
            let sending = async {
                stream.write_all(&[PREFACE, &settings(1)].concat()).await?;
                stream.write_all(&flood).await
            };
            // The test reads nothing, so the node must not queue an answer to each frame.
            let sent = tokio::time::timeout(Duration::from_secs(15), sending).await;
            (stream, matches!(sent, Ok(Ok(()))))
        };
        let hurled = join_all((0..8).map(hurl)).await;
        let taken = hurled.iter().filter(|(_, sent)| *sent).count();
        let ended = join_all(hurled.into_iter().map(|(stream, _)| ends(stream))).await;
        let ended = ended.into_iter().filter(|ended| *ended).count();
        println!("{name}: {taken} of 8 floods were taken, {ended} ended, {} MiB so far", memory.grown());
        match name {
            "resets" | "streams" => assert_eq!(ended, 8, "{name} go on"),
            _ => assert!(taken > 0, "none of the {name} has arrived"),
        }
    }
    node.account("newcomer").await;
    endured("floods of frames", &node, &memory, bystander, MIB, STRAINED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_from_would_be_peers_is_refused_and_changes_nothing() {
    let node = Node::start(UNLIMITED);
    let (bystander, memory) = (Bystander::start(&node).await, node.memory());
    let membership = node.client(STRAINED).membership().await.expect("a membership");
    let cluster = membership.cluster_id.clone();
    let named = [("x-chat-cluster", cluster.as_str()), ("x-chat-epoch", "1"), ("x-chat-from", "9"), ("x-chat-to", "1")];
    let vote = Some(pb::Vote { term: 0, node_id: 9, committed: true });
    let far = Some(pb::LogId { term: u64::MAX, index: u64::MAX });
    let entry = pb::Entry { log_id: far, payload: Some(pb::entry::Payload::Batch(vec![0xff; 9].into())) };
    let header = pb::SnapshotHeader { vote, last_log_id: far, ..Default::default() };
    let chunk = |part| pb::SnapshotChunk { part: Some(part) }.encode_to_vec();
    let bodies = [
        vec![0xff; 1000],
        vec![0x0a; 64 * 1024],
        pb::VoteRequest { vote: None, last_log_id: far, pre_vote: false }.encode_to_vec(),
        pb::AppendRequest { vote, prev_log_id: far, entries: vec![entry], leader_commit: far, time_ms: 0 }
            .encode_to_vec(),
        chunk(pb::snapshot_chunk::Part::Header(header)),
        chunk(pb::snapshot_chunk::Part::Data(Bytes::from_static(b"QRTARCHV rubbish"))),
        pb::TransferLeaderRequest { from: vote, to_node_id: 1, last_log_id: far }.encode_to_vec(),
    ];
    let services = [
        "RaftService/Append",
        "RaftService/Vote",
        "RaftService/InstallSnapshot",
        "RaftService/TransferLeader",
        "RaftService/ReadIndex",
        "JoinService/Inspect",
        "JoinService/Adopt",
        "JoinService/CheckMember",
    ];
    let connection = Connection::open(FLOOD, &node.address, 1 << 20).await.expect("a connection");
    let mut calls = 0;
    for who in [&named[..], &[]] {
        for service in services {
            for body in &bodies {
                let body = message(u32::try_from(body.len()).expect("not much"), body);
                let call = call(&format!("/chat.raft.v1.{service}"), who);
                connection.begin(&call, &body, true).await.expect("a call");
                calls += 1;
            }
        }
    }
    // Bytes that are no frames.
    let mut rubbish = dial(FLOOD, &node.address).await.expect("a connection");
    rubbish.write_all(&[PREFACE, &[0xa5; 100_000]].concat()).await.ok();
    // A stream may answer with headers before its end, so ends are counted, not answers.
    connection.hears("an end of every call", |heard| heard.refusals + heard.resets >= calls).await;
    let after = node.client(STRAINED).membership().await.expect("a membership");
    assert_eq!((after.etag, after.term, after.leader_id), (membership.etag, membership.term, membership.leader_id));
    endured("would-be peers", &node, &memory, bystander, MIB, NOTICED).await;
}
