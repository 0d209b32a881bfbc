//! Whether a snapshot continues the history of this node.
//!
//! A snapshot replaces everything a node has. A foreign one, sent by mistake or on purpose, would take the data and the
//! membership of the cluster with it. So a member compares the membership in the snapshot with the last one that it knows
//! to be committed: the two must be of one line.
//!
//! An empty member knows nothing to compare with. It takes what the cluster that adopted it sends.

use super::types::StoredMembership;
use crate::types::NodeId;

/// Why a snapshot is of another history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// A membership from before the one that is known to be committed.
    #[error("its membership is older than the one that is committed here")]
    Older,
    /// Another membership under the log id of the one that is known.
    #[error("its membership is not the one that is committed here under the same log id")]
    Differs,
    /// The node itself is unknown. A leader replicates only to members, and a later snapshot has all of them.
    #[error("it does not know this node, {0}")]
    Unknown(NodeId),
    /// A node id that belongs to another node. Ids are never used twice, and nodes keep their names.
    #[error("node {0} has another name in it")]
    Renamed(NodeId),
}

/// Compares the membership of a snapshot for node `own`, `offered`, with the committed one that the node knows.
pub fn check(own: NodeId, known: &StoredMembership, offered: &StoredMembership) -> Result<(), Foreign> {
    if known.nodes().next().is_none() {
        return Ok(());
    }
    if offered.log_id() < known.log_id() {
        return Err(Foreign::Older);
    }
    if offered.log_id() == known.log_id() && offered.membership() != known.membership() {
        return Err(Foreign::Differs);
    }
    if known.get_node(&own).is_some() && offered.get_node(&own).is_none() {
        return Err(Foreign::Unknown(own));
    }
    let renamed =
        known.nodes().find(|(id, member)| offered.get_node(id).is_some_and(|found| found.name != member.name));
    renamed.map_or(Ok(()), |(id, _)| Err(Foreign::Renamed(*id)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::raft::types::{CommittedLeaderId, LogId, Member, Membership};

    /// A membership committed at `index`; the first `voters` of the members are voters.
    fn at(index: u64, members: &[(NodeId, &str)], voters: usize) -> StoredMembership {
        let member = |(id, name): &(NodeId, &str)| {
            (*id, Member { name: (*name).into(), address: format!("{name}:7400"), zone: String::new() })
        };
        let all: BTreeMap<NodeId, Member> = members.iter().map(member).collect();
        let set = members.iter().take(voters).map(|(id, _)| *id).collect();
        StoredMembership::new(
            Some(LogId::new(CommittedLeaderId::new(2), index)),
            Membership::new(vec![set], all).unwrap(),
        )
    }

    const THREE: [(NodeId, &str); 3] = [(1, "n1"), (2, "n2"), (3, "n3")];

    #[test]
    fn a_snapshot_of_the_same_line_is_taken_however_far_it_has_gone() {
        let known = at(10, &THREE, 3);
        assert_eq!(check(3, &known, &known), Ok(()));
        assert_eq!(
            check(3, &known, &at(90, &[(3, "n3"), (7, "n7"), (8, "n8")], 3)),
            Ok(()),
            "the others were replaced"
        );
        assert_eq!(check(3, &known, &at(90, &[(7, "n7"), (3, "n3")], 1)), Ok(()), "it is a learner now");
        let moved = StoredMembership::new(
            *known.log_id(),
            Membership::new(vec![[1].into()], BTreeMap::from([(1, Member::default())])).unwrap(),
        );
        assert_eq!(check(1, &StoredMembership::default(), &moved), Ok(()), "a newcomer knows nothing");
        assert_eq!(check(9, &known, &at(90, &THREE, 3)), Ok(()), "a newcomer that the log has not named yet");
    }

    #[test]
    fn a_snapshot_of_another_line_is_refused() {
        let known = at(10, &THREE, 3);
        assert_eq!(check(3, &known, &at(9, &THREE, 3)), Err(Foreign::Older));
        assert_eq!(check(3, &known, &at(10, &THREE, 2)), Err(Foreign::Differs));
        assert_eq!(check(3, &known, &at(90, &[(1, "n1")], 1)), Err(Foreign::Unknown(3)));
        assert_eq!(check(1, &known, &at(90, &[(1, "evil")], 1)), Err(Foreign::Renamed(1)));
        assert_eq!(check(1, &known, &StoredMembership::default()), Err(Foreign::Older));
    }
}
