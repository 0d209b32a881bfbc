//! After the faults: everything is held against the ledger, and the replicas against each other.

use std::{collections::BTreeMap, time::Duration};

use quorate::{
    client::{Cluster, Session},
    wire::{
        admin::{GetStateDigestRequest, GetStateDigestResponse, admin_service_client::AdminServiceClient},
        chat::Message,
    },
};
use tokio::time::{sleep, timeout};

use crate::{
    users::{Notes, PASSWORD, PATIENCE, cluster, timeline},
    world::{World, address},
};

/// Rounds in which the replicas must have come to one index.
const ROUNDS: usize = 300;

/// Judges the whole, once nobody writes any more.
pub async fn judge(world: &World, notes: &Notes, users: &[String]) {
    let cluster = cluster(world, "judge", PATIENCE);
    for name in users {
        let session = sign_in(&cluster, name).await;
        for other in users.iter().filter(|other| *other != name) {
            judge_timeline(world, notes, &session, (name, other)).await;
        }
    }
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

async fn judge_timeline(world: &World, notes: &Notes, session: &Session, (name, other): (&String, &String)) {
    let whole = loop {
        match timeline(session, other).await {
            Ok(timeline) => break timeline,
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    };
    for wrong in notes.ledger.borrow().check_timeline(name, other, &whole) {
        world.violation(format!("{name} and {other}: {wrong}"));
    }
    let Some(last) = whole.last() else { return };
    let conversation = &last.conversation_id;
    let heard = || {
        let streams = notes.streams.borrow();
        streams.get(name).and_then(|mine| mine.get(conversation)).cloned().unwrap_or_default()
    };
    for _ in 0..ROUNDS {
        if heard().last().is_some_and(|message| message.seq >= last.seq) {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    let parts = |of: &[Message]| -> Vec<_> { of.iter().map(|m| (m.seq, m.cursor, m.body.clone())).collect() };
    let (heard, whole) = (parts(&heard()), parts(&whole));
    if heard != whole {
        let at = heard.iter().zip(&whole).take_while(|(a, b)| a == b).count();
        let (got, owed) = (heard.get(at), whole.get(at));
        world
            .violation(format!("{name}'s stream of {conversation} differs at place {at}: heard {got:?}, not {owed:?}"));
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
