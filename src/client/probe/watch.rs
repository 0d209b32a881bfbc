//! Keeps an eye on the members: who leads, and whether a majority answers.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::time::sleep;

use super::{Desk, report::Change};
use crate::wire::{
    Address,
    cluster::{GetMembershipResponse, Node, Role},
};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(100);
/// How long a member may take to answer one look.
const TIMEOUT: Duration = Duration::from_millis(700);

/// What was seen so far. Times count from the start of the run.
pub(super) struct Watched {
    view: GetMembershipResponse,
    answering: usize,
    looked: Duration,
    changes: Vec<Change>,
    /// From and to when no majority of the voters answered.
    outages: Vec<(Duration, Duration)>,
    majority: bool,
}

impl Watched {
    pub fn new(view: GetMembershipResponse) -> Self {
        let (looked, changes, outages) = (Duration::ZERO, Vec::new(), Vec::new());
        Self { view, answering: 0, looked, changes, outages, majority: true }
    }

    /// Every member's name and address.
    pub fn members(&self) -> Vec<(String, Address)> {
        let member = |node: &Node| Some((node.name.clone(), node.address.parse().ok()?));
        self.view.nodes.iter().filter_map(member).collect()
    }

    /// Every member's address.
    pub fn addresses(&self) -> Vec<Address> {
        self.members().into_iter().map(|(_, address)| address).collect()
    }

    /// The last known leader's name; empty if none is known.
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

    /// Takes in the answers of one look, which ended at `now`.
    pub fn learn(&mut self, now: Duration, answers: Vec<GetMembershipResponse>) {
        let before = std::mem::replace(&mut self.looked, now);
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

    fn majority(&mut self, answers: bool, before: Duration, now: Duration) {
        match self.outages.last_mut() {
            // It lasted from when it was last seen until it is seen again.
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

/// Looks until it is stopped.
pub(super) async fn watch(desk: Arc<Desk>) {
    loop {
        let addresses = desk.watched().addresses();
        let ask = |address: &Address| {
            let (address, desk) = (address.clone(), desk.clone());
            async move { tokio::time::timeout(TIMEOUT, desk.cluster.membership_of(&address)).await.ok()?.ok() }
        };
        let answers = join_all(addresses.iter().map(ask)).await.into_iter().flatten();
        // An address may have passed to another cluster, and an empty node knows nothing.
        let ours = desk.watched().view.cluster_id.clone();
        let answers = answers.filter(|answer| answer.answered_by_id != 0 && answer.cluster_id == ours).collect();
        let now = desk.now();
        desk.watched().learn(now, answers);
        sleep(EVERY).await;
    }
}
