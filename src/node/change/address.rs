//! Telling the cluster that a member has moved.
//!
//! The member runs at its new address already, where it reaches the others though they do not reach it. The leader makes
//! sure that it is that very member, then changes the address in the membership: one guarded entry, no joint step, for
//! the voters stay the same. From that entry on everybody dials the new address.

use std::collections::BTreeMap;

use super::{Changing, Progress};
use crate::{
    node::{Node, join},
    raft::types::{ChangeMembers, Member},
    types::{NodeId, NodeName},
    wire::{
        Address, Fault,
        admin::{ChangeProgress, Check, change_progress::Phase},
    },
};

/// A checked SetAddressRequest.
#[derive(Debug, Clone)]
pub struct SetAddress {
    /// The member that has moved.
    pub name: NodeName,
    /// Where it runs now.
    pub address: Address,
    /// The membership that the operator has seen; empty for any.
    pub etag: String,
    /// Whether to run the checks only.
    pub validate_only: bool,
}

impl Node {
    /// Changes the address of a member. Needs no quorum to begin: of two voters, the one that moved may be what is
    /// missing. The entry takes effect only when a majority, reached at the new address, agrees.
    pub async fn set_address(&self, request: SetAddress) -> Result<Progress, Fault> {
        let SetAddress { name, address, etag, validate_only } = request;
        let (changing, progress) = self.begin_without_quorum(&[name.as_str()], &etag, validate_only)?;
        let (id, member) = changing.require_member(name.as_str())?;
        tokio::spawn(async move {
            let result = changing.move_member(id, member, &address).await;
            changing.finish(result).await;
        });
        Ok(progress)
    }
}

impl Changing {
    async fn move_member(&self, id: NodeId, member: Member, address: &Address) -> Result<ChangeProgress, Fault> {
        if member.address == address.as_str() {
            return Ok(self.done(format!("{} is at {address} already: nothing was left to do", member.name)));
        }
        let based_on = *self.metrics().membership_config.log_id();
        let checks = vec![self.address_is_free(id, address), self.answers_as(id, &member, address).await];
        self.checked(checks)?;
        if self.validate_only {
            return Ok(self.done("every check passed; nothing was changed"));
        }
        self.tell(self.message(Phase::Joint));
        let before = member.address.clone();
        let moved = Member { address: address.to_string(), ..member };
        let note = format!("{} is at {address} now, was at {before}", moved.name);
        self.change_if(based_on, ChangeMembers::SetNodes(BTreeMap::from([(id, moved)])), true).await?;
        tracing::info!(node = id, %before, %address, "a member has moved");
        Ok(self.done(note))
    }

    fn address_is_free(&self, id: NodeId, address: &Address) -> Check {
        let metrics = self.metrics();
        let mut others = metrics.membership_config.nodes().filter(|(other, _)| **other != id);
        match others.find(|(_, member)| member.address == address.as_str()) {
            None => check("address", Ok(format!("{address} is nobody else's"))),
            Some((other, member)) => {
                let detail = format!("{} (id {other}) is at {address}", member.name);
                check("address", Err((detail, "give the address that this node listens on")))
            }
        }
    }

    /// Whether who answers there is this member, of this cluster and epoch, with its data.
    async fn answers_as(&self, id: NodeId, member: &Member, address: &Address) -> Check {
        let own = &self.replica.identity;
        let start = "start the node there on its own data directory: chat-node run --data-dir DIR --listen ADDRESS";
        let result = match join::inspect(&self.node, address, Vec::new()).await {
            Err(fault) => Err((format!("nothing usable at {address}: {fault}"), start)),
            Ok(found) if found.cluster_id.is_empty() => {
                Err((format!("the node at {address} is empty: it is not {}", member.name), start))
            }
            Ok(found) if found.cluster_id != own.cluster_id || found.epoch != own.epoch => {
                let detail =
                    format!("the node at {address} is of cluster {} in epoch {}", found.cluster_id, found.epoch);
                Err((detail, start))
            }
            Ok(found) if found.node_id != id || found.removed => {
                Err((format!("the node at {address} is {} (id {})", found.name, found.node_id), start))
            }
            Ok(_) => Ok(format!("{} (id {id}) answers at {address}", member.name)),
        };
        check("same node", result)
    }
}

fn check(name: &str, result: Result<String, (String, &str)>) -> Check {
    let ok = result.is_ok();
    let (detail, hint) =
        result.map_or_else(|(detail, hint)| (detail, hint.to_owned()), |detail| (detail, String::new()));
    Check { name: name.into(), ok, detail, hint }
}
