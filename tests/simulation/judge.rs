//! The final check, once all faults are over and nobody writes any more: the ledger holds every message, every stream
//! is complete, and all replicas have the same state.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quorate::{
    client::{
        Cluster, Session,
        ledger::{Checker, Entry, Timelines},
    },
    types::ConversationId,
    wire::{
        Fault,
        admin::{GetStateDigestRequest, GetStateDigestResponse, admin_service_client::AdminServiceClient},
    },
};
use tokio::time::{sleep, timeout};

use crate::{
    client::{PASSWORD, TIMEOUT, connect, messages_after},
    notes::Notes,
    retry,
    world::{World, address},
};

/// Pause between two attempts, or two looks.
const POLL: Duration = Duration::from_millis(100);
/// Looks after which streams must be complete, and replicas at one index.
const ROUNDS: usize = 300;
/// Deadline for one node's digest.
const DIGEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Checks everything. The users must have finished: a message that arrives meanwhile would look like a lost one.
pub async fn judge(world: &World, notes: &Notes, users: &[String]) {
    let cluster = connect(world, "judge", TIMEOUT);
    let timelines = read_all(world, notes, &cluster).await;
    for name in users {
        wait_for_stream(notes, name, &timelines).await;
    }
    check_ledger(world, notes, users, timelines);
    check_replicas(world, &cluster).await;
}

/// Repeats a call until it succeeds.
async fn until_ok<T>(call: impl AsyncFn() -> Result<T, Fault>) -> T {
    retry::until_answered(call, |result| result, async |_: &Fault| sleep(POLL).await).await
}

async fn sign_in(cluster: &Cluster, name: &str) -> Session {
    until_ok(async || Session::login(cluster, name, PASSWORD, "judge").await).await.0
}

/// Reads every conversation of the ledger, each as a permanent member sees it.
async fn read_all(world: &World, notes: &Notes, cluster: &Cluster) -> Timelines {
    let mut timelines = Timelines::new();
    let mut sessions: BTreeMap<String, Session> = BTreeMap::new();
    for (conversation, reader) in notes.readers() {
        if !sessions.contains_key(&reader) {
            sessions.insert(reader.clone(), sign_in(cluster, &reader).await);
        }
        let base = notes.ledger.borrow().bases()[&conversation];
        let hidden = notes.hidden_by(&reader);
        let all = until_ok(async || messages_after(&sessions[&reader], conversation, base).await).await;
        let entry = |message| notes.entry(&reader, message, &hidden).map_err(|what| world.violation(what));
        let entries: Vec<Entry> = all.into_iter().filter_map(|message| entry(message).ok()).collect();
        timelines.insert(conversation, entries);
    }
    timelines
}

/// Waits until the stream of `name` has delivered the last message of all its own conversations. If it never does, the
/// ledger's check of the stream will find the gap.
async fn wait_for_stream(notes: &Notes, name: &str, timelines: &Timelines) {
    let own: BTreeSet<ConversationId> = notes.own(name).into_iter().collect();
    let expected = timelines.iter().filter(|(conversation, _)| own.contains(conversation));
    let last = expected.filter_map(|(_, timeline)| timeline.last()).map(|entry| entry.cursor).max().unwrap_or(0);
    let delivered = || {
        let streams = notes.streams.borrow();
        streams.get(name).and_then(|entries| entries.last()).map_or(0, |(_, entry)| entry.cursor)
    };
    for _ in 0..ROUNDS {
        if delivered() >= last {
            return;
        }
        sleep(POLL).await;
    }
}

fn check_ledger(world: &World, notes: &Notes, users: &[String], timelines: Timelines) {
    let ledger = notes.ledger.borrow();
    let streams = notes.streams.borrow();
    // One replica is enough here: that all of them are equal is checked by digests.
    let mut checker = Checker::new(&ledger);
    checker.replica("the cluster", timelines);
    for name in users {
        let delivered = streams.get(name).map_or(&[][..], Vec::as_slice);
        checker.stream_of(&format!("{name}'s stream"), delivered, |conversation| notes.is_own(name, conversation));
    }
    for violation in checker.finish().examples() {
        world.violation(format!("{}: {}", violation.kind.as_str(), violation.what));
    }
}

/// Checks that all members come to one index, and that digests at equal indexes are equal (P8). Indexes move on while
/// the digests are taken, so earlier ones are kept for comparison.
async fn check_replicas(world: &World, cluster: &Cluster) {
    let mut seen: BTreeMap<u64, (String, Vec<u8>)> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let mut indexes = Vec::new();
        for name in world.members() {
            let Some(digest) = digest(cluster, &name).await else { continue };
            indexes.push(digest.index);
            let (first, known) = seen.entry(digest.index).or_insert((name.clone(), digest.digest.to_vec()));
            if known.as_slice() != digest.digest.as_ref() {
                world.violation(format!("the states of {first} and {name} differ at index {}", digest.index));
                return;
            }
        }
        let all_answered = !indexes.is_empty() && indexes.len() == world.members().len();
        if all_answered && indexes.iter().all(|at| *at == indexes[0]) {
            return;
        }
        sleep(POLL).await;
    }
    world.violation(format!("the replicas did not come to one index: {:?}", world.members()));
}

/// One node's digest of its state, and the index at which it was taken. `None` if it did not answer in time.
async fn digest(cluster: &Cluster, name: &str) -> Option<GetStateDigestResponse> {
    let mut client = AdminServiceClient::new(cluster.channel(&address(name)));
    let asking = client.get_state_digest(GetStateDigestRequest { at_least_index: 0, exact_index: 0 });
    timeout(DIGEST_TIMEOUT, asking).await.ok()?.ok().map(tonic::Response::into_inner)
}
