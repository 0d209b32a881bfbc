//! From a new node to a learner: resolve what the operator named, allocate an id, adopt the node, add it to the log.

use std::{collections::BTreeMap, time::Duration};

use super::{operation::ChangeOperation, preflight::Preflight, requests::Newcomer};
use crate::{
    fault_injection::{self, Bug},
    membership::{Change, Node as LayoutNode},
    node::lifecycle::inspect_remote,
    raft::types::{ChangeMembers, Member},
    types::{NodeId, RequestId, limits},
    wire::{
        Fault, Profile, Reason,
        admin::change_progress::Phase,
        raft::{AdoptRequest, join_service_client::JoinServiceClient},
        store,
    },
};

/// Timeout of each call and write that an admission makes.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the node that the operator named turns out to be.
pub enum Resolved {
    /// It is a member: an earlier run of the same command added it.
    Member {
        /// Its id.
        id: NodeId,
        /// Whether it answers now.
        answers: bool,
    },
    /// It is no member yet; these are the checks on it.
    Fresh(Preflight),
}

impl ChangeOperation {
    /// Finds out whether `newcomer` is a member already, and checks it accordingly.
    ///
    /// For a node that is not, it runs the preflight of `change`, which fills in the zone of `newcomer`; `leaving` is a
    /// member that is on its way out. For a member it fails if another node answers at the address, or if the zone differs.
    pub async fn resolve_newcomer(
        &self,
        newcomer: &mut Newcomer,
        change: impl FnOnce(LayoutNode) -> Change,
        leaving: Option<NodeId>,
    ) -> Result<Resolved, Fault> {
        match self.existing_member(newcomer) {
            Some((id, member)) => {
                let answers = self.verify_identity(id, newcomer).await?;
                check_zone(&member, newcomer)?;
                Ok(Resolved::Member { id, answers })
            }
            None => Ok(Resolved::Fresh(self.preflight(newcomer, change, leaving).await)),
        }
    }

    /// The member that has both the name and the address of `newcomer`.
    pub fn existing_member(&self, newcomer: &Newcomer) -> Option<(NodeId, Member)> {
        self.member(newcomer.name.as_str()).filter(|(_, member)| member.address == newcomer.address.as_str())
    }

    /// Whether the member `id` answers at its address; a fault if another node does.
    ///
    /// A member whose disk was wiped must not pass for the one it was: it has forgotten its vote and the entries that it
    /// acknowledged, and Raft relies on both (section 5.2 of the paper).
    async fn verify_identity(&self, id: NodeId, newcomer: &Newcomer) -> Result<bool, Fault> {
        let Newcomer { name, address, .. } = newcomer;
        let own = &self.replica.identity;
        let Ok(found) = inspect_remote(&self.node, address, Vec::new()).await else { return Ok(false) };
        let there = if found.cluster_id.is_empty() {
            "empty: its data directory was wiped or replaced".to_owned()
        } else if found.cluster_id != own.cluster_id || found.epoch != own.epoch {
            format!("of cluster {} in epoch {}", found.cluster_id, found.epoch)
        } else if found.node_id != id || found.removed {
            format!("{} with the data of id {}", found.name, found.node_id)
        } else {
            return Ok(true);
        };
        let message = format!("{name} (id {id}) is a member at {address}, but the node there is {there}");
        Err(Fault::new(Reason::Unsafe, message).next(format!(
            "bring its data back, or remove {name} and then add the empty node: it comes back under a new id"
        )))
    }

    /// Gives the node an id and an identity, and adds it to the membership as a learner. Returns its id.
    ///
    /// `adopted_id` is the id that an earlier run of the same command gave the node before it was interrupted. An id that
    /// was allocated for a run that failed is never used again.
    pub async fn add_learner(&self, newcomer: &Newcomer, adopted_id: Option<NodeId>) -> Result<NodeId, Fault> {
        if self.metrics().membership_config.nodes().count() >= limits::NODES {
            return Err(Fault::new(Reason::LimitExceeded, format!("a cluster has at most {} nodes", limits::NODES)));
        }
        let based_on = self.expected_membership();
        let id = match adopted_id {
            Some(id) => id,
            None => self.allocate_id(newcomer).await?,
        };
        // Also for a node that an earlier run adopted: this call waits for that adoption, or finishes it.
        self.adopt(newcomer, id).await?;
        let member = Member {
            name: newcomer.name.to_string(),
            address: newcomer.address.to_string(),
            zone: newcomer.zone.clone(),
        };
        let members = BTreeMap::from([(id, member)]);
        let early = fault_injection::enabled(Bug::PromoteEarly);
        let change = if early { ChangeMembers::AddVoters(members) } else { ChangeMembers::AddNodes(members) };
        self.change_membership_if(based_on, change, true).await?;
        tracing::info!(node = id, name = %newcomer.name, address = %newcomer.address, "added as a learner");
        self.report(self.message(Phase::LearnerAdded));
        Ok(id)
    }

    /// Allocates a node id through the log, so that no two nodes ever have the same one.
    async fn allocate_id(&self, newcomer: &Newcomer) -> Result<NodeId, Fault> {
        if fault_injection::enabled(Bug::NodeIdReused) {
            let metrics = self.metrics();
            return Ok((1..).find(|id| metrics.membership_config.get_node(id).is_none()).unwrap_or(1));
        }
        let request_id = RequestId::new(self.node.now_ms(), self.node.entropy().bytes());
        let verb = store::command::Verb::AllocateNode(store::AllocateNode { name: newcomer.name.to_string() });
        let command = store::Command {
            request_id: request_id.as_bytes().to_vec().into(),
            session_key: Default::default(),
            verb: Some(verb),
        };
        let proposed = self.replica.proposer.propose(command, TIMEOUT).await?;
        match proposed.outcome.result {
            Some(store::outcome::Result::NodeAllocated(allocated)) => Ok(allocated.node_id),
            other => Err(Fault::new(Reason::Internal, format!("no node id was allocated: {other:?}"))),
        }
    }

    async fn adopt(&self, newcomer: &Newcomer, id: NodeId) -> Result<(), Fault> {
        let own = &self.replica.identity;
        let request = AdoptRequest {
            cluster_id: own.cluster_id.clone(),
            epoch: own.epoch,
            node_id: id,
            name: newcomer.name.to_string(),
            address: newcomer.address.to_string(),
            zone: newcomer.zone.clone(),
        };
        let channel = self.node.settings().dialer.channel(&newcomer.address, Profile::Client);
        let adopting = tokio::time::timeout(TIMEOUT, JoinServiceClient::new(channel).adopt(request)).await;
        match adopting {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(Fault::from_status(&status)),
            Err(_) => {
                Err(Fault::new(Reason::Timeout, format!("{} did not take its identity in time", newcomer.address))
                    .next("repeat the command: it continues from there"))
            }
        }
    }
}

/// Refuses another zone for a member: it stays in the zone in which it was added.
fn check_zone(member: &Member, newcomer: &Newcomer) -> Result<(), Fault> {
    if newcomer.zone.is_empty() || newcomer.zone.eq_ignore_ascii_case(&member.zone) {
        return Ok(());
    }
    let of = if member.zone.is_empty() { "in no zone".to_owned() } else { format!("in zone {}", member.zone) };
    let message = format!("{} is a member {of}, not in zone {}", member.name, newcomer.zone);
    Err(Fault::new(Reason::NameTaken, message).next("to change a node's zone, remove it and add it again"))
}
