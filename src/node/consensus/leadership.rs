//! Who leads, as this node knows it, and what it tells callers that need another node.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use openraft::{Instant as _, ServerState, async_runtime::WatchReceiver};
use tokio::time::Instant;

use crate::{
    node::Identity,
    raft::{DiskChecks, Raft, types::Metrics},
    types::NodeId,
    wire::{Fault, Reason, cluster::LeaderHint},
};

/// When this node last heard a leader. Cheap to clone; all clones are the same.
///
/// The peer service writes it whenever it accepts an append; [`Leadership`] and the status read it. The lock is held for
/// one assignment or copy.
#[derive(Clone, Debug)]
pub struct LeaderContact(Arc<Mutex<Option<Instant>>>);

impl Default for LeaderContact {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }
}

impl LeaderContact {
    /// A leader was heard now.
    pub fn record(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// How long ago a leader was heard; `None` for never.
    pub fn elapsed(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed())
    }
}

/// Who leads. Cheap to clone.
///
/// openraft remembers the last leader until another is elected, so a follower that is cut off would name it for ever.
/// Here a leader counts only while it is present: another node must have been heard within `timeout`, and this node must
/// be in the role of leader.
///
/// It holds no state of its own beyond openraft's metrics and [`LeaderContact`], and never waits. Its answers may be
/// outdated by the time they are used, so they decide only where a call goes. A quorum, in openraft, decides which entries
/// are committed and which index a read must see.
#[derive(Clone)]
pub struct Leadership {
    raft: Raft,
    cluster_id: Arc<str>,
    name: Arc<str>,
    contact: LeaderContact,
    timeout: Duration,
    disks: DiskChecks,
}

impl Leadership {
    /// `timeout`: how long a leader counts as present without being heard, twice the longest election timeout.
    pub fn new(raft: Raft, identity: &Identity, contact: LeaderContact, timeout: Duration, disks: DiskChecks) -> Self {
        let (cluster_id, name) = (identity.cluster_id.as_str().into(), identity.name.as_str().into());
        Self { raft, cluster_id, name, contact, timeout, disks }
    }

    /// Why nodes take no part, in their own words: this one first.
    fn untrusted(&self) -> String {
        let own = self.disks.own.refusal_now().map(|fault| fault.message);
        let metrics = self.metrics();
        let others = metrics.membership_config.voter_ids().filter(|id| *id != metrics.id);
        let others = others.filter_map(|id| {
            let reason = self.disks.peers.condition(id).filter(|condition| condition.word != "stuck")?.reason;
            Some(reason).filter(|reason| !reason.is_empty())
        });
        own.into_iter().chain(others).map(|why| format!("; {why}")).collect()
    }

    /// openraft's current metrics.
    pub fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow_watched().clone()
    }

    /// The present leader: this node itself, or one that was heard lately.
    pub fn leader(&self) -> Option<NodeId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        self.leader_in(&metrics)
    }

    fn leader_in(&self, metrics: &Metrics) -> Option<NodeId> {
        leader_in(metrics, self.contact.elapsed().is_some_and(|ago| ago <= self.timeout))
    }

    /// The leader that nobody but a voter can have deposed: another node that was heard within `lease`, or this node with a
    /// quorum behind it.
    pub fn leased_leader(&self, lease: Duration) -> Option<NodeId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leader = leader_in(&metrics, self.contact.elapsed().is_some_and(|ago| ago <= lease))?;
        (leader != metrics.id || self.quorum_answers(&metrics)).then_some(leader)
    }

    /// Whether a majority supports the leader, as far as this node can tell.
    pub fn has_quorum(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        match self.leader_in(&metrics) {
            Some(leader) if leader == metrics.id => self.quorum_answers(&metrics),
            Some(_) => true,
            None => false,
        }
    }

    fn quorum_answers(&self, metrics: &Metrics) -> bool {
        let alone = metrics.membership_config.voter_ids().all(|id| id == metrics.id);
        alone || metrics.last_quorum_acked.is_some_and(|at| at.elapsed() <= self.timeout)
    }

    /// Whether this node is the leader.
    pub fn is_leader(&self) -> bool {
        self.raft.metrics().borrow_watched().state == ServerState::Leader
    }

    /// Fails with [`Leadership::not_leader`] unless this node is the leader.
    pub fn ensure_leader(&self) -> Result<(), Fault> {
        if self.is_leader() { Ok(()) } else { Err(self.not_leader()) }
    }

    /// The hint that goes with NOT_LEADER: who leads, in which term.
    pub fn hint(&self) -> LeaderHint {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        // A node never names itself: the caller was just refused here.
        let leader = self.leader_in(&metrics).filter(|leader| *leader != metrics.id);
        let member = leader.and_then(|id| metrics.membership_config.get_node(&id));
        LeaderHint {
            cluster_id: self.cluster_id.to_string(),
            leader_id: leader.unwrap_or(0),
            leader_address: member.map(|member| member.address.clone()).unwrap_or_default(),
            term: metrics.current_term,
        }
    }

    /// NOT_LEADER with a hint, or NO_LEADER when none is present.
    pub fn not_leader(&self) -> Fault {
        let hint = self.hint();
        let name = &self.name;
        let fault = match hint.leader_id {
            0 => Fault::new(Reason::NoLeader, format!("node {name} knows no leader at the moment{}", self.untrusted()))
                .next("repeat the call: an election takes about a second, and needs a majority of the voters"),
            _ => Fault::new(Reason::NotLeader, format!("node {name} is not the leader"))
                .next(format!("ask {}", hint.leader_address)),
        };
        fault.leader(hint).retry_after(Duration::from_millis(50))
    }

    /// This leader has lost its majority.
    pub fn no_quorum(&self) -> Fault {
        Fault::new(
            Reason::NoQuorum,
            format!("node {} leads, but a majority of the voters does not answer{}", self.name, self.untrusted()),
        )
        .next("bring voters back, then repeat the call")
        .leader(self.hint())
        .retry_after(Duration::from_millis(200))
    }

    /// The same for a write: it may be repeated safely.
    pub fn no_quorum_for_a_write(&self) -> Fault {
        self.no_quorum().next("bring voters back; the write is safe to repeat with the same request_id")
    }

    /// A write was proposed and not agreed on in time.
    pub fn write_timed_out(&self, timeout: Duration) -> Fault {
        if self.is_leader() && !self.has_quorum() {
            return self.no_quorum_for_a_write();
        }
        let waited = humantime::format_duration(timeout);
        Fault::new(Reason::Timeout, format!("the write was not agreed on within {waited}"))
            .next("its outcome is unknown; it is safe to repeat with the same request_id")
    }
}

/// The leader in these metrics, if it is present. `heard`: whether a leader was heard lately.
///
/// openraft's `current_leader` is the node that the vote is for. The vote of a leader that was removed stays for itself
/// until it hears of a higher one, even across restarts. So whether this node itself leads is told by its role alone.
fn leader_in(metrics: &Metrics, heard: bool) -> Option<NodeId> {
    let leader = metrics.current_leader?;
    let present = if leader == metrics.id { metrics.state == ServerState::Leader } else { heard };
    present.then_some(leader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_leads_in_its_role_or_is_heard() {
        let named = |leader: NodeId, state: ServerState, heard: bool| {
            let metrics = Metrics { current_leader: Some(leader), state, ..Metrics::new_initial(5) };
            leader_in(&metrics, heard)
        };
        assert_eq!(named(5, ServerState::Leader, false), Some(5));
        assert_eq!(named(5, ServerState::Learner, true), None, "it was removed");
        assert_eq!(named(3, ServerState::Follower, true), Some(3));
        assert_eq!(named(3, ServerState::Follower, false), None, "it may be dead");
    }
}
