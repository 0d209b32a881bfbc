//! After the faults: everything is held against the ledger, and the replicas against each other.

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
    wire::admin::{GetStateDigestRequest, GetStateDigestResponse, admin_service_client::AdminServiceClient},
};
use tokio::time::{sleep, timeout};

use crate::{
    notes::{Notes, messages},
    users::{PASSWORD, TIMEOUT, cluster},
    world::{World, address},
};

/// Rounds in which the replicas must have come to one index.
const ROUNDS: usize = 300;

/// Judges the whole, once nobody writes any more.
pub async fn judge(world: &World, notes: &Notes, users: &[String]) {
    let cluster = cluster(world, "judge", TIMEOUT);
    let timelines = read_all(world, notes, &cluster).await;
    for name in users {
        heard_all(notes, name, &timelines).await;
    }
    judge_ledger(world, notes, users, timelines);
    judge_replicas(world, &cluster).await;
}

async fn sign_in(cluster: &Cluster, name: &str) -> Session {
    loop {
        match Session::login(cluster, name, PASSWORD, "judge").await {
            Ok((session, _)) => return session,
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Every conversation of the ledger, each as one sees it who is in it from beginning to end.
async fn read_all(world: &World, notes: &Notes, cluster: &Cluster) -> Timelines {
    let mut timelines = Timelines::new();
    let mut sessions: BTreeMap<String, Session> = BTreeMap::new();
    for (conversation, reader) in notes.readers() {
        if !sessions.contains_key(&reader) {
            sessions.insert(reader.clone(), sign_in(cluster, &reader).await);
        }
        let base = notes.ledger.borrow().bases()[&conversation];
        let hidden = notes.hidden_by(&reader);
        let whole = loop {
            match messages(&sessions[&reader], conversation, base).await {
                Ok(whole) => break whole,
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        };
        let entry = |message| notes.entry(&reader, message, &hidden).map_err(|wrong| world.violation(wrong));
        let entries: Vec<Entry> = whole.into_iter().filter_map(|message| entry(message).ok()).collect();
        timelines.insert(conversation, entries);
    }
    timelines
}

/// Waits until the stream of `name` has told the last of every conversation of its own. One that never does is found
/// by the ledger.
async fn heard_all(notes: &Notes, name: &str, timelines: &Timelines) {
    let own: BTreeSet<ConversationId> = notes.own(name).into_iter().collect();
    let owed = timelines.iter().filter(|(conversation, _)| own.contains(conversation));
    let last = owed.filter_map(|(_, timeline)| timeline.last()).map(|entry| entry.cursor).max().unwrap_or(0);
    let heard = || {
        let streams = notes.streams.borrow();
        streams.get(name).and_then(|told| told.last()).map_or(0, |(_, entry)| entry.cursor)
    };
    for _ in 0..ROUNDS {
        if heard() >= last {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn judge_ledger(world: &World, notes: &Notes, users: &[String], timelines: Timelines) {
    let ledger = notes.ledger.borrow();
    let streams = notes.streams.borrow();
    let mut checker = Checker::new(&ledger);
    checker.replica("the cluster", timelines);
    for name in users {
        let told = streams.get(name).map_or(&[][..], Vec::as_slice);
        checker.stream_of(&format!("{name}'s stream"), told, |conversation| notes.is_own(name, conversation));
    }
    for violation in checker.finish().examples() {
        world.violation(format!("{}: {}", violation.kind.as_str(), violation.what));
    }
}

/// All members come to one index, and have one digest there (P8).
async fn judge_replicas(world: &World, cluster: &Cluster) {
    let mut seen: BTreeMap<u64, (String, Vec<u8>)> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let mut indexes = Vec::new();
        for name in world.members() {
            let Some(digest) = digest(cluster, &name).await else { continue };
            indexes.push(digest.index);
            let (first, known) = seen.entry(digest.index).or_insert((name.clone(), digest.digest.to_vec()));
            if known.as_slice() != digest.digest.as_ref() {
                world.violation(format!("{first} and {name} differ at index {}", digest.index));
                return;
            }
        }
        if !indexes.is_empty() && indexes.len() == world.members().len() && indexes.iter().all(|at| *at == indexes[0]) {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    world.violation(format!("the replicas did not come to one index: {:?}", world.members()));
}

async fn digest(cluster: &Cluster, name: &str) -> Option<GetStateDigestResponse> {
    let mut client = AdminServiceClient::new(cluster.channel(&address(name)));
    let asked = client.get_state_digest(GetStateDigestRequest { at_least_index: 0, exact_index: 0 });
    timeout(Duration::from_secs(3), asked).await.ok()?.ok().map(tonic::Response::into_inner)
}
