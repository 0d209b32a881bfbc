//! Changing the address of a member that has moved.
//!
//! The member already runs at its new address, from where it reaches the others though they cannot reach it. The leader
//! verifies that this member answers there, then changes the address in the membership: one guarded entry and no joint
//! step, because the voters stay the same. From that entry on all nodes dial the new address.

use std::collections::BTreeMap;

use super::{Progress, checks::check, operation::ChangeOperation, requests::SetAddress};
use crate::{
    node::{Node, lifecycle::inspect_remote},
    raft::types::{ChangeMembers, Member},
    types::NodeId,
    wire::{
        Address, Fault,
        admin::{ChangeProgress, Check, change_progress::Phase},
    },
};

impl Node {
    /// Changes the address of a member.
    ///
    /// It needs no quorum to begin: of two voters, the one that moved may be the one that is missing. The entry is
    /// committed only when a majority, reached at the new address, has it.
    pub async fn set_address(&self, request: SetAddress) -> Result<Progress, Fault> {
        let SetAddress { name, address, etag, validate_only } = request;
        let (operation, progress) = self.begin_without_quorum(&[name.as_str()], &etag, validate_only)?;
        let (id, member) = operation.require_member(name.as_str())?;
        tokio::spawn(async move {
            let result = operation.move_member(id, member, &address).await;
            operation.finish(result).await;
        });
        Ok(progress)
    }
}

impl ChangeOperation {
    async fn move_member(&self, id: NodeId, member: Member, address: &Address) -> Result<ChangeProgress, Fault> {
        if member.address == address.as_str() {
            return Ok(self.done(format!("{} is at {address} already: nothing was left to do", member.name)));
        }
        let based_on = *self.metrics().membership_config.log_id();
        let checks = vec![self.address_is_free(id, address), self.answers_as(id, &member, address).await];
        self.require_passed(checks)?;
        if self.validate_only {
            return Ok(self.done("every check passed; nothing was changed"));
        }
        self.report(self.message(Phase::Joint));
        let before = member.address.clone();
        let moved = Member { address: address.to_string(), ..member };
        let note = format!("{} is at {address} now, was at {before}", moved.name);
        let change = ChangeMembers::SetNodes(BTreeMap::from([(id, moved)]));
        self.change_membership_if(based_on, change, true).await?;
        tracing::info!(node = id, %before, %address, "a member has moved");
        Ok(self.done(note))
    }

    fn address_is_free(&self, id: NodeId, address: &Address) -> Check {
        let metrics = self.metrics();
        let mut others = metrics.membership_config.nodes().filter(|(other, _)| **other != id);
        let result = match others.find(|(_, member)| member.address == address.as_str()) {
            None => Ok(format!("{address} is nobody else's")),
            Some((other, member)) => {
                let detail = format!("{} (id {other}) is at {address}", member.name);
                Err((detail, "give the address that this node listens on"))
            }
        };
        check("address", result)
    }

    /// Whether the node that answers at `address` is this member, of this cluster and epoch, with its data.
    async fn answers_as(&self, id: NodeId, member: &Member, address: &Address) -> Check {
        let own = &self.replica.identity;
        let start = "start the node there on its own data directory: chat-node run --data-dir DIR --listen ADDRESS";
        let result = match inspect_remote(&self.node, address, Vec::new()).await {
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
