//! What a client knows of its cluster: the addresses, the newest term, and the leader in it. Pure, without IO, so each
//! rule has a test of its own.

use crate::{
    fault_injection::{self, Bug},
    wire::{
        Address, Fault, Reason,
        cluster::{GetMembershipResponse, LeaderHint},
    },
};

/// The seeds, the members, and the leader in the newest term seen.
///
/// # Invariants
/// - `term` is the newest term whose leader was named. It never goes back, and `leader` is the leader of `term` or
///   unknown. Raft elects at most one leader in a term (Raft paper, section 5.2), so within a term a known leader is
///   never replaced by another.
/// - `cluster_id` is set by the first answer and never changes.
/// - `nodes` is empty only until the first answer that lists members.
/// - A suspect leads again only in a newer term, or once it has answered for itself.
#[derive(Debug)]
pub(super) struct View {
    seeds: Vec<Address>,
    /// The members' addresses, from the newest answer.
    nodes: Vec<Address>,
    cluster_id: String,
    term: u64,
    leader: Option<Address>,
    /// A leader that did not answer, and its term. Another node's word that it leads does not count in that term.
    suspect: Option<(Address, u64)>,
}

impl View {
    pub(super) fn new(seeds: Vec<Address>) -> Self {
        let (nodes, cluster_id) = (Vec::new(), String::new());
        Self { seeds, nodes, cluster_id, term: 0, leader: None, suspect: None }
    }

    pub(super) fn leader(&self) -> Option<Address> {
        self.leader.clone()
    }

    pub(super) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// All addresses worth asking: the members, then the seeds that are not members.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let mut all: Vec<Address> = self.nodes.clone();
        all.extend(self.seeds.iter().filter(|seed| !self.nodes.contains(seed)).cloned());
        all
    }

    /// Learns from a redirect. Returns whether a new leader is known now.
    pub(super) fn learn_hint(&mut self, hint: &LeaderHint) -> bool {
        let before = self.leader.clone();
        if self.is_ours(&hint.cluster_id) && hint.leader_id > 0 {
            self.learn_leader(hint.term, &hint.leader_address, false);
        }
        self.leader.is_some() && self.leader != before
    }

    /// Learns from one node's view of the membership.
    pub(super) fn learn_membership(&mut self, answer: &GetMembershipResponse) {
        if !self.is_ours(&answer.cluster_id) || self.is_outdated(answer.term) {
            return;
        }
        self.cluster_id.clone_from(&answer.cluster_id);
        let nodes: Vec<Address> = answer.nodes.iter().filter_map(|node| node.address.parse().ok()).collect();
        if !nodes.is_empty() {
            self.nodes = nodes;
        }
        if answer.leader_id > 0 {
            self.learn_leader(answer.term, &answer.leader_address, answer.leader_id == answer.answered_by_id);
        }
    }

    /// Whether an answer comes from this client's cluster: the first that answered. Other clusters may reuse addresses.
    pub(super) fn is_ours(&self, cluster_id: &str) -> bool {
        !cluster_id.is_empty() && (self.cluster_id.is_empty() || self.cluster_id == cluster_id)
    }

    /// Whether a newer term than `term` is known.
    fn is_outdated(&self, term: u64) -> bool {
        term < self.term && !fault_injection::enabled(Bug::LeaderTermIgnored)
    }

    /// Learns that `address` leads in `term`. `witnessed`: it said so itself.
    fn learn_leader(&mut self, term: u64, address: &str, witnessed: bool) {
        let Ok(address) = address.parse::<Address>() else { return };
        let suspected = self.suspect.as_ref().is_some_and(|(who, when)| *who == address && term <= *when);
        // A term has one leader, so within the known term only a leader that is not known yet is news.
        let news = !self.is_outdated(term) && (term != self.term || self.leader.is_none());
        if news && (witnessed || !suspected) {
            self.follow(address, term);
        }
    }

    fn follow(&mut self, leader: Address, term: u64) {
        debug_assert!(term >= self.term, "{leader} led in term {term}, and term {} is known", self.term);
        self.leader = Some(leader);
        self.term = term;
    }

    /// Learns from a transient fault of `address`, which was taken for the leader. Returns whether another leader is
    /// known, so that the caller can go there at once.
    pub(super) fn leader_failed(&mut self, address: &Address, fault: &Fault) -> bool {
        // It is busy, not deposed.
        if matches!(fault.reason, Reason::Overloaded | Reason::RateLimited | Reason::DiskFull) {
            return false;
        }
        if self.leader.as_ref() == Some(address) {
            self.leader = None;
        }
        // A node that refuses is alive; a node that is silent may be frozen.
        let refused = matches!(fault.reason, Reason::NotLeader | Reason::NoLeader | Reason::NoQuorum);
        if !refused {
            self.suspect = Some((address.clone(), self.term));
        }
        fault.leader.as_ref().is_some_and(|hint| self.learn_hint(hint)) && self.leader.as_ref() != Some(address)
    }

    /// Learns that `address` has served a call as the leader.
    pub(super) fn leader_served(&mut self, address: &Address) {
        if self.suspect.as_ref().is_some_and(|(who, _)| who == address) {
            self.suspect = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Address {
        format!("127.0.0.1:{port}").parse().expect("an address")
    }

    fn hint(port: u16, term: u64) -> LeaderHint {
        LeaderHint { cluster_id: "q".into(), leader_id: 1, leader_address: at(port).to_string(), term }
    }

    fn not_leader(hint: LeaderHint) -> Fault {
        Fault::new(Reason::NotLeader, "not the leader").leader(hint)
    }

    fn silent() -> Fault {
        Fault::new(Reason::Timeout, "silent")
    }

    #[test]
    fn a_hint_is_followed_at_once() {
        let mut view = View::new(vec![at(1)]);
        assert!(view.leader_failed(&at(1), &not_leader(hint(2, 5))));
        assert_eq!(view.leader(), Some(at(2)));
    }

    #[test]
    fn a_hint_of_an_older_term_is_ignored() {
        let mut view = View::new(vec![at(1)]);
        view.learn_hint(&hint(2, 5));
        assert!(!view.learn_hint(&hint(3, 4)));
        assert_eq!(view.leader(), Some(at(2)));
        assert!(!view.leader_failed(&at(2), &not_leader(hint(3, 4))));
        assert_eq!(view.leader(), None, "the leader denied itself, and an older term names nobody");
    }

    #[test]
    fn a_hint_of_another_cluster_is_ignored() {
        let mut view = View::new(vec![at(1)]);
        view.learn_membership(&GetMembershipResponse { cluster_id: "mine".into(), term: 1, ..Default::default() });
        assert!(!view.learn_hint(&hint(2, 9)));
    }

    #[test]
    fn a_silent_leader_counts_again_only_by_its_own_word_or_in_a_newer_term() {
        let mut view = View::new(vec![at(1)]);
        view.learn_hint(&hint(2, 5));
        view.leader_failed(&at(2), &silent());
        let claim = |by: u64, term| GetMembershipResponse {
            cluster_id: "q".into(),
            leader_id: 2,
            leader_address: at(2).to_string(),
            answered_by_id: by,
            term,
            ..Default::default()
        };
        view.learn_membership(&claim(1, 5));
        assert_eq!(view.leader(), None, "a follower's word about a silent leader is not news");
        view.learn_membership(&claim(2, 5));
        assert_eq!(view.leader(), Some(at(2)), "it spoke for itself");
        view.leader_failed(&at(2), &silent());
        view.learn_membership(&claim(1, 6));
        assert_eq!(view.leader(), Some(at(2)), "it was elected anew");
    }

    #[test]
    fn an_overloaded_leader_is_still_the_leader() {
        let mut view = View::new(vec![at(1)]);
        view.learn_hint(&hint(2, 5));
        view.leader_failed(&at(2), &Fault::new(Reason::Overloaded, "busy"));
        assert_eq!(view.leader(), Some(at(2)));
    }
}
