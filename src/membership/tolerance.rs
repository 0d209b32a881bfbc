//! How many nodes and zones may fail next.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::{Layout, Node};
use crate::types::NodeId;

/// The size of one voter set and its quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Majority {
    /// Voters in the set.
    pub voters: usize,
    /// How many voters must answer: more than half.
    pub quorum: usize,
    /// How many answer now.
    pub answering: usize,
}

impl Majority {
    /// How many more voters may fail; `None` if too few answer already.
    pub fn slack(&self) -> Option<usize> {
        self.answering.checked_sub(self.quorum)
    }
}

/// The effect of losing one zone and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneLoss {
    /// The zone, in the spelling of its first node.
    pub zone: String,
    /// The names of its voters, whether they answer or not.
    pub voters: Vec<String>,
    /// How many of them answer now.
    pub answering: usize,
    /// How many more nodes, whichever, may fail after that. `None` if the loss stops writes, or writes have stopped
    /// already.
    pub then_any_nodes: Option<usize>,
    /// The remaining voters of the set closest to losing its quorum.
    pub left: Majority,
}

/// What a layout survives, given which nodes answer now.
///
/// A zone counts if it has a name and a voter. While writes have stopped, `survives_*` are 0 and `fatal_*` are empty:
/// nothing is survived, and nothing more is fatal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tolerance {
    /// The voter sets: one, or the old and the new one during a membership change.
    pub majorities: Vec<Majority>,
    /// How many more nodes, whichever, may fail at once.
    pub survives_any_nodes: usize,
    /// The same if every voter answered.
    pub designed_nodes: usize,
    /// How many zones, whichever, may fail at once.
    pub survives_any_zones: usize,
    /// The names of the nodes whose loss alone stops writes.
    pub fatal_nodes: Vec<String>,
    /// The zones whose loss alone stops writes.
    pub fatal_zones: Vec<String>,
    /// The effect of losing each zone, by name.
    pub zones: Vec<ZoneLoss>,
    /// The names of the voters that do not answer.
    pub missing: Vec<String>,
    /// What could be better, a sentence each.
    pub advice: Vec<String>,
}

impl Tolerance {
    /// Whether writes go on now.
    pub fn has_quorum(&self) -> bool {
        self.majorities.iter().all(|majority| majority.slack().is_some())
    }

    /// The voter set that remains when the membership change, if there is one, is done.
    pub fn settled(&self) -> Majority {
        *self.majorities.last().expect("a layout has at least one voter set")
    }
}

impl Layout {
    /// What this layout survives, without advice. Takes time in proportion to nodes times zones.
    pub(super) fn figures(&self) -> Tolerance {
        let majorities = self.majorities_without(|_| false);
        let zones: Vec<ZoneLoss> = self.zones().into_values().map(|members| self.zone_loss(&members)).collect();
        let fatal = |loss: &&ZoneLoss| loss.then_any_nodes.is_none();
        let has_quorum = slack(&majorities).is_some();
        Tolerance {
            survives_any_nodes: slack(&majorities).unwrap_or(0),
            designed_nodes: slack(&self.all_healthy().majorities_without(|_| false)).unwrap_or(0),
            survives_any_zones: self.survivable_zones(),
            fatal_nodes: if has_quorum { self.fatal_nodes() } else { Vec::new() },
            fatal_zones: match has_quorum {
                true => zones.iter().filter(fatal).map(|loss| loss.zone.clone()).collect(),
                false => Vec::new(),
            },
            missing: self.voters().filter(|node| !node.healthy).map(|node| node.name.clone()).collect(),
            majorities,
            zones,
            advice: Vec::new(),
        }
    }

    /// The voter sets as if the nodes for which `lost` returns true did not answer.
    fn majorities_without(&self, lost: impl Fn(&Node) -> bool) -> Vec<Majority> {
        let answers = |id: &NodeId| self.node(*id).is_some_and(|node| node.healthy && !lost(node));
        let count = |set: &BTreeSet<NodeId>| Majority {
            voters: set.len(),
            quorum: set.len() / 2 + 1,
            answering: set.iter().filter(|id| answers(id)).count(),
        };
        self.voter_sets().iter().map(count).collect()
    }

    /// The voters of each named zone, by its name in lower case.
    pub(super) fn zones(&self) -> BTreeMap<String, Vec<&Node>> {
        let mut zones: BTreeMap<String, Vec<&Node>> = BTreeMap::new();
        for node in self.voters().filter(|node| !node.zone.is_empty()) {
            zones.entry(node.zone.to_ascii_lowercase()).or_default().push(node);
        }
        zones
    }

    /// The names of the answering voters without each of which writes stop.
    fn fatal_nodes(&self) -> Vec<String> {
        let is_fatal = |node: &&Node| slack(&self.majorities_without(|lost| lost.id == node.id)).is_none();
        self.voters().filter(|node| node.healthy).filter(is_fatal).map(|node| node.name.clone()).collect()
    }

    fn zone_loss(&self, members: &[&Node]) -> ZoneLoss {
        let majorities = self.majorities_without(|node| members.iter().any(|member| member.id == node.id));
        let deciding = majorities.iter().min_by_key(|majority| margin(majority));
        ZoneLoss {
            zone: members.first().map(|node| node.zone.clone()).unwrap_or_default(),
            voters: members.iter().map(|node| node.name.clone()).collect(),
            answering: members.iter().filter(|node| node.healthy).count(),
            then_any_nodes: slack(&majorities),
            left: *deciding.expect("a layout has at least one voter set"),
        }
    }

    /// How many zones, whichever, may fail: for each voter set the zones with most of its answering voters fail first.
    fn survivable_zones(&self) -> usize {
        let zones = self.zones();
        let survivable_by = |(set, majority): (&BTreeSet<NodeId>, Majority)| {
            let Some(mut slack) = majority.slack() else { return 0 };
            let answering = |members: &Vec<&Node>| members.iter().filter(|n| n.healthy && set.contains(&n.id)).count();
            let mut fullest_first: Vec<usize> = zones.values().map(answering).collect();
            fullest_first.sort_unstable_by(|a, b| b.cmp(a));
            let survives = |voters: &&usize| match slack.checked_sub(**voters) {
                Some(rest) => {
                    slack = rest;
                    true
                }
                None => false,
            };
            fullest_first.iter().take_while(survives).count()
        };
        let sets = self.voter_sets().iter().zip(self.majorities_without(|_| false));
        sets.map(survivable_by).min().unwrap_or(0)
    }
}

/// How many more nodes may fail, over all sets; `None` if one set has lost its quorum.
fn slack(majorities: &[Majority]) -> Option<usize> {
    majorities.iter().map(Majority::slack).min().flatten()
}

/// How many answering voters a set has above its quorum; negative below it.
fn margin(majority: &Majority) -> isize {
    majority.answering.cast_signed() - majority.quorum.cast_signed()
}
