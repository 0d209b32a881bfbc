//! Requests to change the membership, with fields that were parsed once, at the edge.

use crate::{
    membership::Node as LayoutNode,
    types::{NodeId, NodeName, Zone},
    wire::{Address, Fault},
};

/// Stands for the id of a node that has none yet, while the change is judged. Never allocated.
const UNALLOCATED: NodeId = NodeId::MAX;

/// A node that is to join, as the operator named it.
#[derive(Debug, Clone)]
pub struct Newcomer {
    /// Its name.
    pub name: NodeName,
    /// Where the other nodes dial it.
    pub address: Address,
    /// Its failure domain. If the operator named none, it is empty until the checks find the zone with which the node was
    /// started; it may stay empty.
    pub zone: String,
}

impl Newcomer {
    /// Parses the three fields.
    pub fn parse(name: &str, address: &str, zone: &str) -> Result<Self, Fault> {
        let name = NodeName::new(name).map_err(|error| Fault::invalid("name", error.to_string()))?;
        let address: Address = address.parse().map_err(|error| Fault::invalid("address", format!("{error}")))?;
        if address.is_unspecified() {
            let message = format!("{address} names every interface, where others cannot dial");
            return Err(Fault::invalid("address", message).next("give the address that the other machines dial"));
        }
        if !zone.is_empty() {
            Zone::new(zone).map_err(|error| Fault::invalid("zone", error.to_string()))?;
        }
        Ok(Self { name, address, zone: zone.to_owned() })
    }

    /// The node as fault-tolerance arithmetic takes it.
    pub fn in_layout(&self) -> LayoutNode {
        LayoutNode { id: UNALLOCATED, name: self.name.to_string(), zone: self.zone.clone(), healthy: true }
    }
}

/// A request to add a node.
#[derive(Debug, Clone)]
pub struct AddNode {
    /// The node.
    pub newcomer: Newcomer,
    /// Whether it stays a learner.
    pub learner_only: bool,
    /// Names the membership that the operator has seen; empty for any.
    pub etag: String,
    /// Whether to run the checks only.
    pub validate_only: bool,
}

/// A request to replace a node by a fresh one.
#[derive(Debug, Clone)]
pub struct ReplaceNode {
    /// The member that leaves.
    pub old_name: NodeName,
    /// The node that comes.
    pub newcomer: Newcomer,
    /// Names the membership that the operator has seen; empty for any.
    pub etag: String,
    /// Whether to run the checks only.
    pub validate_only: bool,
}

/// A request to change the address of a member.
#[derive(Debug, Clone)]
pub struct SetAddress {
    /// The member.
    pub name: NodeName,
    /// Its new address.
    pub address: Address,
    /// Names the membership that the operator has seen; empty for any.
    pub etag: String,
    /// Whether to run the checks only.
    pub validate_only: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_need_an_address_that_others_can_dial() {
        assert!(Newcomer::parse("n1", "10.0.0.1:7400", "a").is_ok());
        assert!(Newcomer::parse("n1", "0.0.0.0:7400", "a").is_err());
        assert!(Newcomer::parse("", "10.0.0.1:7400", "a").is_err());
        assert!(Newcomer::parse("n1", "10.0.0.1", "a").is_err());
        assert!(Newcomer::parse("n1", "10.0.0.1:7400", "a b").is_err());
    }
}
