//! Brings a node whose disk is not trusted back into the cluster, and looks after the peers' disks.
//!
//! `docs/adr/0050` has the rules and the argument. In short: a node that may have forgotten something asks the leader to
//! commit an entry without it, the barrier; it catches up beyond that; then it votes again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use openraft::ServerState;
use tokio::time::Instant;

use super::{metrics, replica::Replica};
use crate::{
    node::{Exit, Node, disk_record},
    raft::{
        LogStore, OwnState, Stage, convert,
        types::{LogId, Metrics},
    },
    storage::StorageError,
    types::NodeId,
    wire::{
        Address, Fault, Profile, Reason,
        raft::{CheckMemberRequest, CheckMemberResponse, join_service_client::JoinServiceClient},
    },
};

/// How often a node asks to be vouched for, and looks whether it has caught up.
const ASK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a leader may take to commit a barrier.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// Poll interval of the peers' disks.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How often the memory of the peers is handed to the log, which writes it along with the next entry.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// A follower that takes none of the entries that wait for it for so long is stuck.
const STUCK: Duration = Duration::from_millis(1_500);

/// Follows the trust in this node's own disk until the node stops.
pub async fn watch_own_disk(node: Node, replica: Arc<Replica>) {
    let mut changes = replica.disks.own.changes();
    let mut written = None;
    while node.runs(&replica) {
        let state = changes.borrow_and_update().clone();
        let followed = match state.said.stage {
            Stage::Trusted => Ok(()),
            Stage::Verifying => verify(&node, &replica, &state, &mut written).await,
            Stage::CatchingUp => catch_up(&node, &replica, &state, &mut written).await,
        };
        if let Err(exit) = followed {
            return node.give_up(exit);
        }
        // Not for ever: a node that has stopped must be let go.
        let _ = tokio::time::timeout(ASK_INTERVAL, changes.changed()).await;
    }
}

/// Asks to be vouched for. A leader that has forgotten something cannot go on: it stops, and starts again as a suspect.
async fn verify(
    node: &Node,
    replica: &Replica,
    state: &OwnState,
    written: &mut Option<(u64, Stage)>,
) -> Result<(), Exit> {
    replica.raft.runtime_config().elect(false);
    write_down(node, state, written).await?;
    if replica.leadership.is_leader() {
        return Err(Exit::Quarantined(format!("this node led, and its disk cannot be trusted: {}", state.why)));
    }
    let metrics = replica.leadership.metrics();
    let round = ask_all(node, replica, &metrics, state).await?;
    replica.disks.own.set_unheard(round.unheard);
    if let Some((barrier, known_start)) = round.vouched {
        tracing::info!(index = barrier.index(), "a leader vouches for this node: it catches up");
        replica.disks.own.vouched(barrier, known_start);
    }
    Ok(())
}

/// Trusts the disk again once everything up to the barrier is applied and durable.
async fn catch_up(
    node: &Node,
    replica: &Replica,
    state: &OwnState,
    written: &mut Option<(u64, Stage)>,
) -> Result<(), Exit> {
    write_down(node, state, written).await?;
    let applied = replica.leadership.metrics().last_applied;
    if state.barrier.is_none() || applied < state.barrier {
        return Ok(());
    }
    LogStore::new(replica.log.clone())
        .barrier()
        .await
        .map_err(|error| Exit::from(&StorageError::io("the log", error)))?;
    let (dir, start, recovered) = (node.inner.dir.clone(), state.said.incarnation.start, state.said.recovered);
    let trusted = node.settings().blocking.run(move || disk_record::update(&dir, start, recovered, None)).await;
    trusted.map_err(|error| Exit::from(&error))?;
    *written = None;
    // Unless a peer has accused it meanwhile.
    if replica.disks.own.trust(state) {
        tracing::info!(index = metrics::index_of(applied.as_ref()), "this node has caught up: it votes again");
        replica.raft.runtime_config().elect(true);
    }
    Ok(())
}

/// Writes down that the disk is not trusted, and under which number of start, once for each number.
async fn write_down(node: &Node, state: &OwnState, written: &mut Option<(u64, Stage)>) -> Result<(), Exit> {
    let (start, recovered) = (state.said.incarnation.start, state.said.recovered);
    if *written == Some((start, state.said.stage)) {
        return Ok(());
    }
    if written.is_none() {
        tracing::warn!(why = state.why, "this node's disk is not trusted: it votes for nobody until it is vouched for");
    }
    let (dir, why) = (node.inner.dir.clone(), state.why.clone());
    let wrote = node.settings().blocking.run(move || disk_record::update(&dir, start, recovered, Some(&why))).await;
    wrote.map_err(|error| Exit::from(&error))?;
    *written = Some((start, state.said.stage));
    Ok(())
}

/// What came of asking everybody.
#[derive(Default)]
struct Round {
    vouched: Option<(LogId, u64)>,
    unheard: Vec<String>,
}

async fn ask_all(node: &Node, replica: &Replica, metrics: &Metrics, state: &OwnState) -> Result<Round, Exit> {
    let others = metrics.membership_config.nodes().filter(|(id, _)| **id != metrics.id);
    let mut known = BTreeMap::new();
    for (id, member) in others {
        if let Ok(address) = member.address.parse::<Address>() {
            let name = metrics::is_voter(metrics, *id).then(|| member.name.clone());
            known.insert(address, name);
        }
    }
    let mut round = Round::default();
    let mut leaders = Vec::new();
    for (name, answer) in ask_each(node, replica, &known, state).await {
        leaders.extend(judge(answer, name, &mut round)?);
    }
    // The leader may be a node that joined while this one was away.
    let strangers = leaders.into_iter().filter(|leader| !known.contains_key(leader)).map(|leader| (leader, None));
    let strangers: BTreeMap<Address, Option<String>> = strangers.collect();
    for (name, answer) in ask_each(node, replica, &strangers, state).await {
        judge(answer, name, &mut round)?;
    }
    Ok(round)
}

type Answer = Result<CheckMemberResponse, Fault>;

/// Takes one answer into account. Returns the leader that it names.
fn judge(answer: Answer, name: Option<String>, round: &mut Round) -> Result<Option<Address>, Exit> {
    match answer {
        // Whether this node was removed is for `watch_membership` to learn: it asks for a proof.
        Ok(answer) => {
            let barrier = answer.barrier.map(convert::read_log_id);
            round.vouched = round.vouched.or(barrier.map(|barrier| (barrier, answer.known_start)));
            Ok(None)
        }
        Err(fault) if fault.reason == Reason::AlreadyRunning => Err(Exit::AlreadyRunning(fault.message)),
        Err(fault) => {
            if matches!(fault.reason, Reason::Unreachable | Reason::Timeout | Reason::NotMember) {
                round.unheard.extend(name);
            }
            Ok(fault.leader.and_then(|hint| hint.leader_address.parse().ok()))
        }
    }
}

async fn ask_each(
    node: &Node,
    replica: &Replica,
    asked: &BTreeMap<Address, Option<String>>,
    state: &OwnState,
) -> Vec<(Option<String>, Answer)> {
    let own = &replica.identity;
    let ask = |(address, name): (&Address, &Option<String>)| {
        let request = CheckMemberRequest {
            cluster_id: own.cluster_id.clone(),
            epoch: own.epoch,
            node_id: own.node_id,
            vouch: true,
            random: state.said.incarnation.random,
        };
        let mut client = JoinServiceClient::new(node.settings().dialer.channel(address, Profile::Client));
        let name = name.clone();
        async move {
            let answer = match tokio::time::timeout(ASK_TIMEOUT, client.check_member(request)).await {
                Ok(answer) => answer.map(tonic::Response::into_inner).map_err(|status| Fault::from_status(&status)),
                Err(_) => Err(Fault::new(Reason::Timeout, "no answer")),
            };
            (name, answer)
        }
    };
    futures::future::join_all(asked.iter().map(ask)).await
}

/// Watches the peers: lets openraft begin with one anew that has forgotten, says which are stuck, and
/// hands the memory to the log.
pub async fn watch_peer_disks(node: Node, replica: Arc<Replica>) {
    let log = LogStore::new(replica.log.clone());
    let mut saved = Instant::now();
    let mut progress = BTreeMap::new();
    while node.runs(&replica) {
        for id in replica.disks.peers.wanted_resets() {
            // Refused where this node does not lead: then openraft has nothing to forget.
            let _ = replica.raft.trigger().allow_next_revert(&id, true).await;
            replica.disks.peers.allow_reset(id);
        }
        note_stuck(&replica, &mut progress);
        if saved.elapsed() >= SAVE_INTERVAL {
            saved = Instant::now();
            log.save_peer_memory(&replica.disks.peers);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// How far a follower was, and since when.
type Progress = BTreeMap<NodeId, (u64, Instant)>;

fn note_stuck(replica: &Replica, progress: &mut Progress) {
    let metrics = replica.leadership.metrics();
    if metrics.state != ServerState::Leader {
        progress.clear();
        return;
    }
    let committed = metrics::index_of(metrics.cluster_committed.as_ref());
    for id in metrics.membership_config.nodes().map(|(id, _)| *id).filter(|id| *id != metrics.id) {
        let matched = metrics::index_of(metrics::matched(&metrics, id));
        let (before, since) = *progress.entry(id).or_insert((matched, Instant::now()));
        let sending = replica.transfers.of(id).is_some();
        if matched >= committed || matched != before || sending {
            progress.insert(id, (matched, Instant::now()));
        }
        // One that does not answer at all is unreachable, not stuck.
        let answers = metrics::last_answer(&metrics, id).is_some_and(|ago| ago <= metrics::REACHABLE);
        let waits = matched < committed && matched == before && !sending && since.elapsed() >= STUCK;
        replica.disks.peers.set_stuck(id, answers && waits);
    }
}
