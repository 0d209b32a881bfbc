//! Polls the members: who leads, and does a majority of the voters answer.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::time::sleep;

use super::Run;
use crate::wire::{
    Address,
    cluster::{GetMembershipResponse, Node, Role},
};

/// Poll interval.
const EVERY: Duration = Duration::from_millis(100);
/// Longest wait for one member in one poll.
const TIMEOUT: Duration = Duration::from_millis(700);

/// A change of leader, as seen from outside. Times count from the start of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// It happened between these two observations.
    pub between: (Duration, Duration),
    /// The name of the former leader; empty if none was known.
    pub deposed: String,
    /// The name of the new leader.
    pub leader: String,
    /// The term of the new leader.
    pub term: u64,
}

/// What the polls have shown so far. Times count from the start of the run.
///
/// # Invariants
/// - `view` is the newest answer that named a leader. Its term never goes back.
/// - `outages` are in order and do not overlap. While `majority` is false, the last one is still going on and grows
///   with every poll.
/// - An outage is counted from the last poll that saw a majority, so it is rather too long than too short: no write may
///   be held against a cluster that could not serve it.
pub(super) struct Watched {
    view: GetMembershipResponse,
    /// Number of members that answered the last poll.
    answering: usize,
    /// When the last poll ended.
    polled: Duration,
    changes: Vec<Change>,
    /// The times without a majority of the voters: begin and end.
    outages: Vec<(Duration, Duration)>,
    /// Whether a majority of the voters answered the last poll.
    majority: bool,
}

impl Watched {
    pub fn new(view: GetMembershipResponse) -> Self {
        let (polled, changes, outages) = (Duration::ZERO, Vec::new(), Vec::new());
        Self { view, answering: 0, polled, changes, outages, majority: true }
    }

    /// The name and address of each member.
    pub fn members(&self) -> Vec<(String, Address)> {
        let member = |node: &Node| Some((node.name.clone(), node.address.parse().ok()?));
        self.view.nodes.iter().filter_map(member).collect()
    }

    /// The address of each member.
    pub fn addresses(&self) -> Vec<Address> {
        self.members().into_iter().map(|(_, address)| address).collect()
    }

    /// The name of the last known leader; empty if none is known.
    pub fn leader(&self) -> &str {
        name_of(&self.view, self.view.leader_id)
    }

    pub fn term(&self) -> u64 {
        self.view.term
    }

    pub fn answering(&self) -> usize {
        self.answering
    }

    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    pub fn outages(&self) -> &[(Duration, Duration)] {
        &self.outages
    }

    /// Learns from the answers of one poll, which ended at `now`.
    pub fn learn(&mut self, now: Duration, answers: Vec<GetMembershipResponse>) {
        let before = std::mem::replace(&mut self.polled, now);
        self.answering = answers.len();
        let voters: Vec<u64> = self.view.nodes.iter().filter(|node| votes(node)).map(|node| node.node_id).collect();
        let answering = voters.iter().filter(|id| answers.iter().any(|answer| answer.answered_by_id == **id)).count();
        self.majority(answering > voters.len() / 2, before, now);
        let best = answers.into_iter().filter(|answer| answer.leader_id != 0);
        let Some(best) = best.max_by_key(|answer| (answer.term, answer.leader_id == answer.answered_by_id)) else {
            return;
        };
        if best.term < self.view.term {
            return;
        }
        if best.leader_id != self.view.leader_id || best.term != self.view.term {
            let leader = name_of(&best, best.leader_id).to_owned();
            let deposed = self.leader().to_owned();
            self.changes.push(Change { between: (before, now), deposed, leader, term: best.term });
        }
        self.view = best;
    }

    /// Records whether a majority answered, between the polls at `before` and `now`.
    fn majority(&mut self, answers: bool, before: Duration, now: Duration) {
        match self.outages.last_mut() {
            // The outage goes on, or has just ended.
            Some((_, until)) if !self.majority => *until = now,
            _ if !answers => self.outages.push((before, now)),
            _ => {}
        }
        self.majority = answers;
    }
}

fn votes(node: &Node) -> bool {
    node.role() == Role::Voter
}

fn name_of(view: &GetMembershipResponse, id: u64) -> &str {
    view.nodes.iter().find(|node| node.node_id == id && id != 0).map_or("", |node| &node.name)
}

/// Polls until the task is aborted.
pub(super) async fn watch(run: Arc<Run>) {
    loop {
        let addresses = run.watched().addresses();
        let ask = |address: &Address| {
            let (address, run) = (address.clone(), run.clone());
            async move { tokio::time::timeout(TIMEOUT, run.cluster.membership_of(&address)).await.ok()?.ok() }
        };
        let answers = join_all(addresses.iter().map(ask)).await.into_iter().flatten();
        // Leave out a node of another cluster that has taken over the address, and a node that has no identity yet.
        let ours = run.watched().view.cluster_id.clone();
        let answers = answers.filter(|answer| answer.answered_by_id != 0 && answer.cluster_id == ours).collect();
        let now = run.now();
        run.watched().learn(now, answers);
        sleep(EVERY).await;
    }
}
