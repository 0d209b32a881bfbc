//! Adding a node, and putting a fresh one in the place of another.

use std::collections::BTreeMap;

use super::{
    Changing, Progress,
    preflight::{Findings, Newcomer},
    verdict_check,
};
use crate::{
    fault_injection::{self, Bug},
    membership::{Change, judge},
    node::{Node, join},
    raft::types::{ChangeMembers, Member},
    types::{NodeId, NodeName, RequestId, limits},
    wire::{
        Fault, Profile, Reason,
        admin::{ChangeProgress, change_progress::Phase},
        raft::{AdoptRequest, join_service_client::JoinServiceClient},
        store,
    },
};

/// For the calls that a change makes of its own.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// A checked AddNodeRequest.
#[derive(Debug, Clone)]
pub struct AddNode {
    /// The node to add.
    pub newcomer: Newcomer,
    /// Whether it stays a learner.
    pub learner_only: bool,
    /// The membership that the operator has seen; empty for any.
    pub etag: String,
    /// Whether to run the checks only.
    pub validate_only: bool,
}

/// A checked ReplaceNodeRequest.
#[derive(Debug, Clone)]
pub struct ReplaceNode {
    /// The member to replace.
    pub old_name: NodeName,
    /// The node that takes its place.
    pub newcomer: Newcomer,
    /// The membership that the operator has seen; empty for any.
    pub etag: String,
    /// Whether to run the checks only.
    pub validate_only: bool,
}

impl Node {
    /// Adds a node: checks, learner, catch-up, voter.
    pub async fn add_node(&self, request: AddNode) -> Result<Progress, Fault> {
        let newcomer = request.newcomer;
        let (changing, progress) =
            self.begin_change(&[newcomer.name.as_str()], &request.etag, request.validate_only).await?;
        tokio::spawn(async move {
            let result = changing.add(newcomer, request.learner_only).await;
            changing.finish(result).await;
        });
        Ok(progress)
    }

    /// Replaces a node by a fresh one in one joint change.
    pub async fn replace_node(&self, request: ReplaceNode) -> Result<Progress, Fault> {
        let newcomer = request.newcomer;
        let names = [request.old_name.as_str(), newcomer.name.as_str()];
        if names[0].eq_ignore_ascii_case(names[1]) {
            return Err(Fault::invalid("name", "the new node needs a name of its own, for both run for a while"));
        }
        let (changing, progress) = self.begin_change(&names, &request.etag, request.validate_only).await?;
        if let Some((old, _)) = changing.member(request.old_name.as_str())
            && changing.may_replace(old, &newcomer).await
        {
            changing.step_aside_if(old).await?;
        }
        tokio::spawn(async move {
            let result = changing.replace(request.old_name.as_str(), newcomer).await;
            changing.finish(result).await;
        });
        Ok(progress)
    }
}

impl Changing {
    async fn add(&self, mut newcomer: Newcomer, learner_only: bool) -> Result<ChangeProgress, Fault> {
        if let Some((id, member)) = self.known(&newcomer) {
            return self.go_on(id, &member, &newcomer, learner_only).await;
        }
        let change = if learner_only { Change::AddLearner } else { Change::Add };
        let findings = self.preflight(&mut newcomer, change, None).await;
        self.checked(findings.checks.clone())?;
        if self.validate_only {
            return Ok(self.would_be(&findings.layout, &findings.change));
        }
        let id = self.let_in(&newcomer, &findings).await?;
        if learner_only {
            return Ok(self.done(format!("{} is a learner", newcomer.name)));
        }
        self.catch_up(id).await?;
        self.promote_when_judged(id).await?;
        Ok(self.done(format!("{} is a voter", newcomer.name)))
    }

    /// The member that bears the newcomer's name and address: an earlier run of the command has let it in.
    fn known(&self, newcomer: &Newcomer) -> Option<(NodeId, Member)> {
        self.member(newcomer.name.as_str()).filter(|(_, member)| member.address == newcomer.address.as_str())
    }

    /// The node is a member already: an earlier run of the command got so far, or all the way.
    async fn go_on(
        &self,
        id: NodeId,
        member: &Member,
        newcomer: &Newcomer,
        learner_only: bool,
    ) -> Result<ChangeProgress, Fault> {
        let name = &newcomer.name;
        let answers = self.is_still_itself(id, newcomer).await?;
        same_zone(member, newcomer)?;
        let silent = if answers { "" } else { ", though it does not answer now" };
        match (self.is_voter(id), learner_only) {
            (true, false) => {
                return Ok(self.done(format!("{name} is a voter already{silent}: nothing was left to do")));
            }
            (false, true) => {
                return Ok(self.done(format!("{name} is a learner already{silent}: nothing was left to do")));
            }
            (true, true) => {
                let fault = Fault::new(Reason::NameTaken, format!("{name} is a voter of this cluster, no learner"));
                return Err(fault.next(format!("`chat-admin demote {name}` makes it one")));
            }
            (false, false) => {}
        }
        let (layout, change) = (self.listen_for_learners().await, Change::Promote(id));
        self.checked(vec![verdict_check(judge(&layout, &change), false)])?;
        if self.validate_only {
            return Ok(self.would_be(&layout, &change));
        }
        self.catch_up(id).await?;
        self.promote_when_judged(id).await?;
        Ok(self.done(format!("{name} was a learner already; it is a voter now")))
    }

    /// Whether the member `id` answers at its address; an error if something else does. One whose disk was wiped must
    /// not pass for the member it was: what it had acknowledged and voted is gone (Raft, section 5.2, needs both kept).
    async fn is_still_itself(&self, id: NodeId, newcomer: &Newcomer) -> Result<bool, Fault> {
        let Newcomer { name, address, .. } = newcomer;
        let own = &self.replica.identity;
        let Ok(found) = join::inspect(&self.node, address, Vec::new()).await else { return Ok(false) };
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

    async fn replace(&self, old_name: &str, mut newcomer: Newcomer) -> Result<ChangeProgress, Fault> {
        let known = self.known(&newcomer);
        let old = match (self.member(old_name), &known) {
            (Some((old, _)), _) => old,
            (None, Some((new, _))) if self.is_voter(*new) => {
                let note = format!("{} has replaced {old_name} already: nothing was left to do", newcomer.name);
                return Ok(self.done(note));
            }
            (None, _) => self.require_member(old_name)?.0,
        };
        let new = match known {
            Some((new, member)) => {
                self.is_still_itself(new, &newcomer).await?;
                same_zone(&member, &newcomer)?;
                let (layout, change) = (self.listen().await, self.swapping(old, new));
                self.checked(vec![verdict_check(judge(&layout, &change), false)])?;
                if self.validate_only {
                    return Ok(self.would_be(&layout, &change));
                }
                new
            }
            None => {
                let change = |new| Change::Replace { old, new };
                let findings = self.preflight(&mut newcomer, change, Some(old)).await;
                self.checked(findings.checks.clone())?;
                if self.validate_only {
                    return Ok(self.would_be(&findings.layout, &findings.change));
                }
                self.let_in(&newcomer, &findings).await?
            }
        };
        if !self.is_voter(new) {
            self.catch_up(new).await?;
        }
        self.swap(old, new).await?;
        Ok(self.done(format!("{} has replaced {old_name}", newcomer.name)))
    }

    /// Whether nothing speaks against it, told to nobody: a leader does not step aside for what is refused afterwards.
    async fn may_replace(&self, old: NodeId, newcomer: &Newcomer) -> bool {
        if old != self.replica.identity.node_id || self.validate_only {
            return false;
        }
        match self.known(newcomer) {
            Some((new, _)) => verdict_check(judge(&self.listen().await, &self.swapping(old, new)), false).ok,
            None => {
                let change = |new| Change::Replace { old, new };
                self.preflight(&mut newcomer.clone(), change, Some(old)).await.are_good()
            }
        }
    }

    /// What is left to do when `new` is a member. One that votes while `old` does not any more has come in its place
    /// already, by a run that was broken off.
    fn swapping(&self, old: NodeId, new: NodeId) -> Change {
        match self.is_voter(new) && !self.is_voter(old) {
            true => Change::Remove(old),
            false => Change::Swap { old, new },
        }
    }

    /// One joint change, so that the tolerance never dips between going and coming. Judged once more, for catching up
    /// may have taken long.
    async fn swap(&self, old: NodeId, new: NodeId) -> Result<(), Fault> {
        let based_on = *self.metrics().membership_config.log_id();
        let verdict = verdict_check(judge(&self.listen().await, &self.swapping(old, new)), false);
        if !verdict.ok {
            let message = format!("the node was not replaced: {}", verdict.detail);
            return Err(Fault::new(Reason::Unsafe, message).next(verdict.hint));
        }
        self.tell(self.message(Phase::Joint));
        if !self.is_voter(old) {
            return self.change_if(based_on, ChangeMembers::RemoveNodes([old].into()), true).await;
        }
        let change = ChangeMembers::Batch(vec![
            ChangeMembers::AddVoterIds([new].into()),
            ChangeMembers::RemoveVoters([old].into()),
        ]);
        self.change_if(based_on, change, false).await
    }

    /// A fresh id, an adoption, a learner.
    async fn let_in(&self, newcomer: &Newcomer, findings: &Findings) -> Result<NodeId, Fault> {
        if self.metrics().membership_config.nodes().count() >= limits::NODES {
            return Err(Fault::new(Reason::LimitExceeded, format!("a cluster has at most {} nodes", limits::NODES)));
        }
        let based_on = self.guard();
        let id = match findings.adopted {
            Some(id) => id,
            None => self.allocate(newcomer).await?,
        };
        // Also where an earlier run has begun it: this waits until it is done, or does what is left of it.
        self.adopt(newcomer, id).await?;
        let member = Member {
            name: newcomer.name.to_string(),
            address: newcomer.address.to_string(),
            zone: newcomer.zone.clone(),
        };
        let members = BTreeMap::from([(id, member)]);
        let early = fault_injection::enabled(Bug::PromoteEarly);
        let change = if early { ChangeMembers::AddVoters(members) } else { ChangeMembers::AddNodes(members) };
        self.change_if(based_on, change, true).await?;
        tracing::info!(node = id, name = %newcomer.name, address = %newcomer.address, "added as a learner");
        self.tell(self.message(Phase::LearnerAdded));
        Ok(id)
    }

    async fn allocate(&self, newcomer: &Newcomer) -> Result<NodeId, Fault> {
        if fault_injection::enabled(Bug::NodeIdReused) {
            let metrics = self.metrics();
            return Ok((1..).find(|id| metrics.membership_config.get_node(id).is_none()).unwrap_or(1));
        }
        let request_id = RequestId::new(self.node.clock().now_ms(), self.node.entropy().bytes());
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
                    .next("the same command again goes on"))
            }
        }
    }
}

/// A member stays in the zone in which it was added.
fn same_zone(member: &Member, newcomer: &Newcomer) -> Result<(), Fault> {
    if newcomer.zone.is_empty() || newcomer.zone.eq_ignore_ascii_case(&member.zone) {
        return Ok(());
    }
    let of = if member.zone.is_empty() { "in no zone".to_owned() } else { format!("in zone {}", member.zone) };
    let message = format!("{} is a member {of}, not in zone {}", member.name, newcomer.zone);
    Err(Fault::new(Reason::NameTaken, message).next("a node's zone changes only by removing it and adding it anew"))
}
