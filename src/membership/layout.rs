//! Which nodes vote, which zone they are in, and which of them answer.

use std::collections::BTreeSet;

use crate::types::NodeId;

/// One member of the cluster, voter or learner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// Its failure domain, in any case; empty if it has none.
    pub zone: String,
    /// Whether it answers now.
    pub healthy: bool,
}

/// The members of a cluster and its voter sets.
///
/// Invariants: `nodes` is sorted by id. There are one or two voter sets, and two differ. A set may name ids that have
/// no node: these count as voters that do not answer.
///
/// ```
/// use quorate::membership::Layout;
///
/// // Five voters over three zones: any two nodes may fail, or any one zone.
/// let tolerance = Layout::of_zones([("a", 2), ("b", 2), ("c", 1)]).tolerance();
/// assert_eq!((tolerance.settled().voters, tolerance.settled().quorum), (5, 3));
/// assert_eq!((tolerance.survives_any_nodes, tolerance.survives_any_zones), (2, 1));
///
/// // Three of the five in one zone: without it, writes stop.
/// let tolerance = Layout::of_zones([("a", 3), ("b", 2)]).tolerance();
/// assert_eq!((tolerance.survives_any_zones, tolerance.fatal_zones), (0, vec!["a".to_owned()]));
///
/// // A sixth voter does not help: the quorum grows with it.
/// assert_eq!(Layout::of_zones([("a", 6)]).tolerance().survives_any_nodes, 2);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    nodes: Vec<Node>,
    voter_sets: Vec<BTreeSet<NodeId>>,
}

impl Layout {
    /// A cluster with one voter set.
    pub fn new(nodes: impl IntoIterator<Item = Node>, voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self::of_sets(nodes, vec![voters.into_iter().collect()])
    }

    /// A cluster during a membership change, when both sets must agree. Equal sets are one set.
    pub fn joint(
        nodes: impl IntoIterator<Item = Node>,
        old: impl IntoIterator<Item = NodeId>,
        new: impl IntoIterator<Item = NodeId>,
    ) -> Self {
        let mut sets = vec![old.into_iter().collect(), new.into_iter().collect()];
        sets.dedup();
        Self::of_sets(nodes, sets)
    }

    fn of_sets(nodes: impl IntoIterator<Item = Node>, voter_sets: Vec<BTreeSet<NodeId>>) -> Self {
        let mut nodes: Vec<Node> = nodes.into_iter().collect();
        nodes.sort_by_key(|node| node.id);
        Self { nodes, voter_sets }
    }

    /// A planned cluster: so many voters in each zone, named `n1`, `n2`, ... in the order given, all healthy.
    pub fn of_zones<'a>(zones: impl IntoIterator<Item = (&'a str, usize)>) -> Self {
        let zone_of_each = zones.into_iter().flat_map(|(zone, voters)| std::iter::repeat_n(zone, voters));
        let nodes: Vec<Node> = (1..)
            .zip(zone_of_each)
            .map(|(id, zone)| Node { id, name: format!("n{id}"), zone: zone.to_owned(), healthy: true })
            .collect();
        let voters: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
        Self::new(nodes, voters)
    }

    /// The members, by id.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The member with this id.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The voter sets: one, or the old and the new one during a membership change.
    pub fn voter_sets(&self) -> &[BTreeSet<NodeId>] {
        &self.voter_sets
    }

    /// Whether a membership change is in progress.
    pub fn is_joint(&self) -> bool {
        self.voter_sets.len() > 1
    }

    /// Whether the node votes, in any set.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voter_sets.iter().any(|set| set.contains(&id))
    }

    /// The members that vote in any set, by id.
    pub fn voters(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| self.is_voter(node.id))
    }

    /// The same layout with every node answering.
    #[must_use]
    pub fn all_healthy(&self) -> Self {
        let nodes = self.nodes.iter().map(|node| Node { healthy: true, ..node.clone() }).collect();
        Self { nodes, voter_sets: self.voter_sets.clone() }
    }
}
