//! The cluster as seen from here: asks every node for its view of the membership, and takes the best-informed one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout_at};

use super::layout::layout;
use crate::{
    cli::{Exit, Failure, Result},
    client::{Cluster, fault_tolerance},
    membership::Tolerance,
    types::{NodeId, limits},
    wire::{
        Address,
        cluster::{GetMembershipResponse, Node, Role},
    },
};

/// How long to wait for the other nodes once one has answered. A node that hangs must not hold up the command.
const GRACE: Duration = Duration::from_millis(600);

/// The answers of the nodes, and the view chosen from them.
///
/// # Invariants
/// - All answers are of one cluster, that of `view`.
/// - Nodes are called reachable by the leader's word if a working leader gave the view, else by whether they answered us.
#[derive(Debug, Clone)]
pub(super) struct Survey {
    /// The best-informed answer: the leader's own if there is one, else one of the newest term.
    pub view: GetMembershipResponse,
    /// The answers, by node id.
    pub answers: BTreeMap<NodeId, GetMembershipResponse>,
}

/// Asks `seeds` and the nodes that their answers name. Takes at most `timeout`, and at most [`GRACE`] after the first
/// answer.
pub(super) async fn survey(cluster: &Cluster, seeds: &[Address], timeout: Duration) -> Result<Survey> {
    let ask = |address: Address| async move { cluster.membership_of(&address).await }.boxed();
    let mut asked: BTreeSet<Address> = seeds.iter().cloned().collect();
    let mut asking: FuturesUnordered<_> = asked.iter().cloned().map(ask).collect();
    let mut answers = Vec::new();
    let mut last_fault = None;
    let mut deadline = Instant::now() + timeout;
    while let Ok(Some(answer)) = timeout_at(deadline, asking.next()).await {
        match answer {
            Ok(answer) => {
                if answers.is_empty() {
                    deadline = deadline.min(Instant::now() + GRACE);
                }
                for address in answer.nodes.iter().filter_map(|node| node.address.parse::<Address>().ok()) {
                    // Bounded, because a foreign or broken node could name any number of addresses.
                    if asked.len() < 4 * limits::NODES && asked.insert(address.clone()) {
                        asking.push(ask(address));
                    }
                }
                answers.push(answer);
            }
            Err(fault) => last_fault = Some(fault),
        }
    }
    Survey::of(answers).ok_or_else(|| match last_fault {
        Some(fault) => Failure::from(fault),
        None => Failure::new(Exit::Unavailable, "no node answers").next("check the addresses given with -e"),
    })
}

impl Survey {
    /// Chooses the view, and drops the answers of other clusters. `None` without answers.
    ///
    /// Members come before empty nodes, then those that know a leader of a newer term, then that leader itself.
    pub(super) fn of(answers: Vec<GetMembershipResponse>) -> Option<Self> {
        // A leader of an older term is deposed, even if it does not know it yet.
        let informed = |answer: &GetMembershipResponse| {
            let leads = answer.leader_id == answer.answered_by_id;
            let newest = (answer.leader_id != 0, answer.term);
            (answer.answered_by_id != 0, newest, leads, answer.has_quorum, answer.applied_index)
        };
        let view = answers.iter().max_by_key(|answer| informed(answer))?.clone();
        let of_same_cluster = |answer: &GetMembershipResponse| answer.cluster_id == view.cluster_id;
        let answers = answers.into_iter().filter(of_same_cluster).map(|answer| (answer.answered_by_id, answer));
        Some(Self { answers: answers.collect(), view })
    }

    /// Whether a working leader gave the view. Then its word on which nodes are reachable counts.
    pub(super) fn is_leaders(&self) -> bool {
        self.view.answered_by_id != 0 && self.view.leader_id == self.view.answered_by_id && self.view.has_quorum
    }

    /// Whether the node answers the leader if that gave the view, else whether it answered us.
    pub(super) fn is_reachable(&self, node: &Node) -> bool {
        match self.is_leaders() {
            true => node.reachable || node.node_id == self.view.leader_id,
            false => self.answers_us(node),
        }
    }

    /// The condition of a node that is not as it should be, and the reason: by its own word, or by the view's.
    pub(super) fn condition<'a>(&'a self, node: &'a Node) -> Option<(&'a str, &'a str)> {
        let own = self
            .answers
            .get(&node.node_id)
            .and_then(|answer| answer.nodes.iter().find(|own| own.node_id == node.node_id));
        let known = [Some(node), own].into_iter().flatten().find(|node| !node.condition.is_empty());
        known.map(|node| (node.condition.as_str(), node.condition_reason.as_str()))
    }

    /// Whether the node answered us.
    pub(super) fn answers_us(&self, node: &Node) -> bool {
        self.answers.contains_key(&node.node_id)
    }

    /// The version of the node's program: from its own answer, since nodes do not know each other's. Empty if unknown.
    pub(super) fn version<'a>(&'a self, node: &'a Node) -> &'a str {
        self.answers.get(&node.node_id).map_or(&node.version, |answer| &answer.version)
    }

    /// The number of committed entries that the node lacks, if known.
    pub(super) fn lag(&self, node: &Node) -> Option<u64> {
        if self.is_leaders() && self.is_reachable(node) {
            let matched = if node.node_id == self.view.leader_id { self.view.commit_index } else { node.matched_index };
            return Some(self.view.commit_index.saturating_sub(matched));
        }
        // No working leader: compare with the newest commit index that anyone knows.
        let newest = self.answers.values().map(|answer| answer.commit_index).max()?;
        self.answers.get(&node.node_id).map(|answer| newest.saturating_sub(answer.applied_index))
    }

    /// How far the node's clock is off: by the leader's word, else by the node's own.
    pub(super) fn clock_offset_ms(&self, node: &Node) -> Option<i64> {
        let own =
            || self.answers.get(&node.node_id)?.nodes.iter().find(|own| own.node_id == node.node_id)?.clock_offset_ms;
        node.clock_offset_ms.or_else(own)
    }

    /// How far log time is ahead of the nodes' clocks, in milliseconds; 0 if it is right.
    pub(super) fn log_time_ahead_ms(&self) -> u64 {
        u64::try_from(self.view.log_time_ahead_ms).unwrap_or(0)
    }

    /// Which failures the cluster survives, given which nodes answer now.
    pub(super) fn tolerance(&self) -> Tolerance {
        layout(&self.view, |node| self.is_reachable(node) && self.condition(node).is_none()).tolerance()
    }

    /// Whether a leader has a majority, according to the view.
    pub(super) fn has_quorum(&self) -> bool {
        self.view.leader_id != 0 && self.view.has_quorum
    }

    /// Whether the cluster has a quorum, but too few nodes answer us to tell what it survives.
    pub(super) fn is_cut_off(&self) -> bool {
        self.has_quorum() && !self.tolerance().has_quorum()
    }

    /// The view as a message, with reachability, versions, indexes and tolerance as found here: what the screen shows.
    pub(super) fn message(&self) -> GetMembershipResponse {
        let mut message = self.view.clone();
        for node in &mut message.nodes {
            node.reachable = self.is_reachable(node);
            node.clock_offset_ms = self.clock_offset_ms(node);
            node.version = self.version(node).to_owned();
            if let Some(answer) = self.answers.get(&node.node_id).filter(|_| !self.is_leaders()) {
                node.matched_index = answer.applied_index;
            }
        }
        message.has_quorum = self.has_quorum();
        if !self.is_cut_off() {
            message.tolerance = Some(fault_tolerance(&self.tolerance()));
        }
        message
    }

    /// `leader`, `voter` or `learner`, and whether it joins or leaves in the change under way.
    pub(super) fn role(&self, node: &Node) -> String {
        let role = match node.role() {
            _ if node.node_id == self.view.leader_id => "leader",
            Role::Voter => "voter",
            Role::Learner => "learner",
            Role::Unspecified => "?",
        };
        match (self.view.joint, node.joining, node.leaving) {
            (true, true, _) => format!("{role}, joining"),
            (true, _, true) => format!("{role}, leaving"),
            _ => role.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(by: NodeId, leader_id: NodeId, term: u64, has_quorum: bool) -> GetMembershipResponse {
        let answered_by = format!("n{by}");
        GetMembershipResponse { answered_by_id: by, answered_by, leader_id, term, has_quorum, ..Default::default() }
    }

    #[test]
    fn the_message_has_what_the_screen_shows_of_nodes_that_only_answer_for_themselves() {
        let nodes: Vec<Node> = (1..=3).map(|node_id| Node { node_id, ..Default::default() }).collect();
        let answers = [1, 2].map(|by| GetMembershipResponse {
            nodes: nodes.clone(),
            version: format!("0.{by}.0"),
            applied_index: 10 * by,
            commit_index: 20,
            ..answer(by, 0, 5, false)
        });
        let survey = Survey::of(answers.to_vec()).unwrap();
        let shown: Vec<_> =
            survey.message().nodes.iter().map(|node| (node.version.clone(), node.matched_index)).collect();
        assert_eq!(shown, [("0.1.0".to_owned(), 10), ("0.2.0".to_owned(), 20), (String::new(), 0)]);
    }

    fn believed(answers: &[GetMembershipResponse]) -> NodeId {
        Survey::of(answers.to_vec()).unwrap().view.answered_by_id
    }

    #[test]
    fn the_newest_leader_is_believed_over_a_deposed_one() {
        let (deposed, leader, follower) = (answer(1, 1, 5, true), answer(2, 2, 6, true), answer(3, 2, 6, true));
        assert_eq!(believed(&[deposed.clone(), leader, follower.clone()]), 2);
        assert_eq!(believed(&[follower, deposed]), 3);
    }

    #[test]
    fn a_leader_is_believed_over_candidates_and_members_over_empty_nodes() {
        assert_eq!(believed(&[answer(1, 0, 9, false), answer(2, 2, 6, true)]), 2);
        assert_eq!(believed(&[answer(0, 0, 0, false), answer(3, 0, 1, false)]), 3);
        assert!(Survey::of(Vec::new()).is_none());
    }
}
