//! Whether a change to the membership is safe, judged by the layout after it and by which nodes answer now.

use std::collections::BTreeSet;

use super::{
    layout::{Layout, Node},
    tolerance::Tolerance,
};
use crate::types::{NodeId, counted, limits};

/// The flag with which an operator accepts what [`Verdict::NeedsFlag`] warns of.
pub const ACCEPT_LOWER_TOLERANCE: &str = "--accept-lower-tolerance";

/// A change to the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds a new node, which becomes a voter once it has caught up.
    Add(Node),
    /// Adds a new node that does not vote.
    AddLearner(Node),
    /// Removes a member.
    Remove(NodeId),
    /// Replaces a member by a new node in the same role, in one joint change.
    Replace {
        /// The member that leaves.
        old: NodeId,
        /// The node that joins.
        new: Node,
    },
    /// Replaces a member by a learner, which takes its role, in one joint change.
    Swap {
        /// The member that leaves.
        old: NodeId,
        /// The learner that takes its role.
        new: NodeId,
    },
    /// A learner becomes a voter.
    Promote(NodeId),
    /// A voter becomes a learner.
    Demote(NodeId),
}

/// The judgement of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may be made.
    Ok {
        /// What the operator should know; one sentence each.
        warnings: Vec<String>,
    },
    /// It may be made if the operator accepts that the cluster survives fewer failures ([`ACCEPT_LOWER_TOLERANCE`]).
    NeedsFlag {
        /// What gets worse.
        why: String,
        /// What else the operator should know.
        warnings: Vec<String>,
    },
    /// It must not be made, with or without the flag.
    Refused {
        /// Why not.
        why: String,
        /// What to do instead.
        next: String,
    },
}

impl Verdict {
    fn refused(why: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Refused { why: why.into(), next: next.into() }
    }
}

impl Layout {
    /// The layout once `change` is done, or the reason for refusing it. A change that is already in force changes
    /// nothing.
    pub fn after(&self, change: &Change) -> Result<Self, Verdict> {
        let [voters] = self.voter_sets() else {
            return Err(Verdict::refused(
                "another membership change is under way",
                "wait until `chat-admin status` shows it done, then repeat the command",
            ));
        };
        let (mut nodes, mut voters) = (self.nodes().to_vec(), voters.clone());
        match change {
            Change::Add(node) | Change::AddLearner(node) => {
                self.check_fresh(node, None)?;
                if matches!(change, Change::Add(_)) {
                    voters.insert(node.id);
                }
                nodes.push(node.clone());
            }
            Change::Remove(id) => {
                self.member(*id)?;
                nodes.retain(|node| node.id != *id);
                voters.remove(id);
            }
            Change::Replace { old, new } => {
                self.member(*old)?;
                self.check_fresh(new, Some(*old))?;
                nodes.retain(|node| node.id != *old);
                nodes.push(new.clone());
                if voters.remove(old) {
                    voters.insert(new.id);
                }
            }
            Change::Swap { old, new } => {
                let (old, new) = (self.member(*old)?, self.member(*new)?);
                if voters.contains(&new.id) {
                    let why = format!("{} is a voter already and cannot take the place of {}", new.name, old.name);
                    let next = format!("name a fresh node or a learner, or remove {} with remove-node", old.name);
                    return Err(Verdict::refused(why, next));
                }
                nodes.retain(|node| node.id != old.id);
                if voters.remove(&old.id) {
                    voters.insert(new.id);
                }
            }
            Change::Promote(id) => {
                voters.insert(self.member(*id)?.id);
            }
            Change::Demote(id) => {
                voters.remove(&self.member(*id)?.id);
            }
        }
        if nodes.len() > limits::NODES {
            let why = format!("a cluster has at most {}", counted(limits::NODES, "node"));
            return Err(Verdict::refused(why, "remove a node first"));
        }
        Ok(Self::new(nodes, voters))
    }

    fn member(&self, id: NodeId) -> Result<&Node, Verdict> {
        self.node(id).ok_or_else(|| {
            Verdict::refused(format!("no node of this cluster has the id {id}"), "`chat-admin status` lists the nodes")
        })
    }

    /// Refuses a new node whose id or name a member has. The name of `leaving`, which the change removes, is free.
    fn check_fresh(&self, node: &Node, leaving: Option<NodeId>) -> Result<(), Verdict> {
        if self.node(node.id).is_some() {
            let why = format!("node id {} is in use, and ids are never used twice", node.id);
            return Err(Verdict::refused(why, "take a fresh id from the log"));
        }
        let same_name = |other: &&Node| other.name.eq_ignore_ascii_case(&node.name) && Some(other.id) != leaving;
        match self.nodes().iter().find(same_name) {
            Some(other) => Err(Verdict::refused(
                format!("there is a node named {} already", other.name),
                "choose another name, or remove that node first",
            )),
            None => Ok(()),
        }
    }
}

/// Judges `change` to the layout `before`.
///
/// Refused, with or without the flag:
/// - a change without a quorum of answering voters before it or after it, as the joint step needs both;
/// - a new voter that does not answer;
/// - the loss of the last voter;
/// - a change that makes no sense, such as adding a name that is taken.
///
/// A change after which the cluster survives fewer failures needs the flag. Only removing or demoting a voter can be
/// one.
pub fn judge(before: &Layout, change: &Change) -> Verdict {
    let after = match before.after(change) {
        Ok(after) => after,
        Err(refused) => return refused,
    };
    if after == *before {
        return Verdict::Ok { warnings: already(before, change) };
    }
    let (was, will_be) = (before.tolerance(), after.tolerance());
    if let Some(refused) = refuse(before, &after, &was, &will_be) {
        return refused;
    }
    let warnings = warnings(&was, &will_be);
    if will_be.survives_any_nodes < was.survives_any_nodes {
        let why = format!(
            "the cluster would survive {} instead of {}",
            any_nodes(will_be.survives_any_nodes),
            any_nodes(was.survives_any_nodes)
        );
        return Verdict::NeedsFlag { why, warnings };
    }
    Verdict::Ok { warnings }
}

/// The warning that a promotion or demotion has nothing to do.
fn already(before: &Layout, change: &Change) -> Vec<String> {
    let (id, role) = match change {
        Change::Promote(id) => (id, "voter"),
        Change::Demote(id) => (id, "learner"),
        _ => return Vec::new(),
    };
    before.node(*id).map(|node| format!("{} is a {role} already", node.name)).into_iter().collect()
}

fn refuse(before: &Layout, after: &Layout, was: &Tolerance, will_be: &Tolerance) -> Option<Verdict> {
    let (now, then) = (was.settled(), will_be.settled());
    if now.slack().is_none() {
        let why = format!(
            "every change needs a quorum of the present voters, and only {} of the {} needed answer",
            now.answering, now.quorum
        );
        return Some(Verdict::refused(why, format!("bring back enough of {}", was.missing.join(" "))));
    }
    if then.voters == 0 {
        return Some(Verdict::refused("it is the last voter", "add or promote another voter first"));
    }
    let empty = BTreeSet::new();
    let old = before.voter_sets().last().unwrap_or(&empty);
    if let Some(silent) = after.voters().find(|node| !node.healthy && !old.contains(&node.id)) {
        let why = format!("{} does not answer, and an unreachable node never becomes a voter", silent.name);
        return Some(Verdict::refused(why, "start it, and check that the other nodes reach its address"));
    }
    if then.slack().is_none() {
        let why = format!(
            "{} would be left of {} needed for a quorum: writes would stop",
            counted(then.answering, "answering voter"),
            then.quorum
        );
        let next = format!("first bring back, remove or replace what does not answer: {}", will_be.missing.join(" "));
        return Some(Verdict::refused(why, next));
    }
    None
}

fn warnings(was: &Tolerance, will_be: &Tolerance) -> Vec<String> {
    let mut warnings = Vec::new();
    let (now, then) = (was.settled(), will_be.settled());
    if then.voters % 2 == 0 {
        warnings.push(format!(
            "{} is an even number: it survives no more failures than {}",
            counted(then.voters, "voter"),
            then.voters - 1
        ));
    }
    let falls_now = will_be.survives_any_nodes < was.survives_any_nodes;
    if will_be.designed_nodes < was.designed_nodes && !falls_now {
        warnings.push(format!(
            "with every voter answering, {} would survive {}, where {} survive {}; replace-node keeps that",
            then.voters,
            any_nodes(will_be.designed_nodes),
            now.voters,
            any_nodes(was.designed_nodes)
        ));
    }
    let newly_fatal = will_be.fatal_zones.iter().filter(|zone| !was.fatal_zones.contains(zone));
    warnings.extend(newly_fatal.map(|zone| format!("after that the loss of zone {zone} stops writes")));
    warnings
}

fn any_nodes(number: usize) -> String {
    if number == 0 { "no failure".to_owned() } else { format!("any {}", counted(number, "node")) }
}
