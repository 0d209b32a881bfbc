//! The words in which scenarios are told: each waits for a fact, and a fact that does not come is a violation.

use std::time::Duration;

use quorate::wire::{Fault, Reason, admin::change_progress::Phase, cluster::Role};

use crate::{
    cluster::{Cluster, NOTED},
    errands::{Errand, Ticket},
    world::State,
};

/// Within this a cluster with a majority has a leader and a uniform membership, whatever was before.
const SETTLING: Duration = Duration::from_secs(20);
/// Within this an errand ends, one way or the other.
const ERRAND: Duration = Duration::from_secs(60);

impl Cluster {
    /// The names of the nodes with this role, as the leader has it.
    pub fn named(&self, role: Role) -> Vec<String> {
        let nodes = self.world.newest_leader().map(|said| said.nodes).unwrap_or_default();
        nodes.into_iter().filter(|node| node.role() == role).map(|node| node.name).collect()
    }

    /// Waits for a leader with a quorum and a uniform membership, and names it.
    pub fn settled(&mut self) -> String {
        let has_leader = |cluster: &mut Self| {
            let said = cluster.world.newest_leader();
            said.is_some_and(|said| said.has_quorum && !said.joint)
        };
        self.expect("one leader with a quorum and a uniform membership", SETTLING, has_leader);
        self.leader().unwrap_or_default()
    }

    /// The leader, and the voters that follow it.
    pub fn roles(&mut self) -> (String, Vec<String>) {
        let leader = self.settled();
        let followers = self.named(Role::Voter).into_iter().filter(|name| *name != leader).collect();
        (leader, followers)
    }

    /// Waits until the leader has exactly these voters, all answer, and nothing is under way.
    pub fn expect_voters(&mut self, names: &[&str]) {
        let told = format!("the voters are {names:?}");
        self.expect(&told, SETTLING, |cluster| {
            let Some(said) = cluster.world.newest_leader().filter(|said| !said.joint && said.has_quorum) else {
                return false;
            };
            let answering = said.nodes.iter().filter(|node| node.role() == Role::Voter && node.reachable);
            let mut voters: Vec<&str> = answering.map(|node| node.name.as_str()).collect();
            voters.sort_unstable();
            voters == names && cluster.named(Role::Voter).len() == names.len()
        });
    }

    /// Waits until users have been told "sent" `more` times again.
    pub fn goes_on(&mut self, more: usize) {
        let goal = self.acknowledged() + more;
        let told = format!("{more} more messages are acknowledged");
        self.expect(&told, Duration::from_secs(20), |cluster| cluster.acknowledged() >= goal);
    }

    /// No user is told "sent" for so long, a first moment aside in which answers may be on their way.
    pub fn stands_still(&mut self, time: Duration) {
        self.run_for(Duration::from_millis(2_500));
        let before = self.acknowledged();
        self.run_for(time);
        let after = self.acknowledged();
        if after != before {
            self.world.violation(format!("{} messages were acknowledged without a majority", after - before));
        }
    }

    pub fn ask(&self, errand: Errand) -> Ticket {
        self.errands.ask(errand)
    }

    /// Waits until the errand has come to `phase`, or has ended.
    pub fn until_phase(&mut self, ticket: Ticket, phase: Phase) {
        let errands = self.errands.clone();
        let told = format!("{ticket:?} comes to {phase:?}");
        let reached =
            move |_: &mut Self| errands.phase(ticket) as i32 >= phase as i32 || errands.ended(ticket).is_some();
        self.expect(&told, ERRAND, reached);
    }

    /// Waits for the end of an errand.
    pub fn end_of(&mut self, ticket: Ticket) -> Result<(), Fault> {
        let errands = self.errands.clone();
        self.expect(&format!("{ticket:?} ends"), ERRAND, move |_| errands.ended(ticket).is_some());
        // What nodes say of themselves is noted now and then.
        self.run_for(NOTED);
        self.errands.ended(ticket).unwrap_or_else(|| Err(Fault::new(Reason::Timeout, "it has not ended")))
    }

    pub fn errand(&mut self, errand: Errand) -> Result<(), Fault> {
        let ticket = self.ask(errand);
        self.end_of(ticket)
    }

    /// Gives the same command again until it is done: whatever broke off an earlier one, it goes on from there.
    pub fn insist(&mut self, errand: Errand) {
        let mut told = String::new();
        for _ in 0..12 {
            match self.errand(errand.clone()) {
                Ok(()) => return,
                // What is to go is gone.
                Err(fault) if fault.reason == Reason::NodeNotFound && errand.lets_go() => return,
                Err(fault) => told = format!("{:?}: {}", fault.reason, fault.message),
            }
            if self.is_broken() {
                return;
            }
            self.run_for(Duration::from_millis(500));
        }
        let status = self.status();
        self.world.violation(format!("{errand:?} could not be done: {told}\n{status}"));
    }

    /// An errand that a safety check must refuse.
    pub fn refused(&mut self, errand: Errand, reason: Reason) {
        let ended = self.errand(errand.clone());
        if self.is_broken() || ended.as_ref().is_err_and(|fault| fault.reason == reason) {
            return;
        }
        self.world.violation(format!("{errand:?} was to be refused with {reason:?}: {ended:?}"));
    }

    /// Kills a process, or cuts the power, and starts it again.
    pub fn bounce(&mut self, name: &str, power: bool) {
        self.crash(name, power);
        self.restart(name);
    }

    /// Waits until a machine's process has ended by itself because it was removed, then gives it an empty disk.
    pub fn recycle(&mut self, name: &str) {
        let told = format!("{name} learns that it was removed");
        let gone = |cluster: &mut Self| *cluster.world.machine(name).state.borrow() == State::Removed;
        self.expect(&told, Duration::from_secs(30), gone);
        self.restart(name);
    }

    /// Cuts a machine off from all others but its users.
    pub fn isolate(&self, name: &str) {
        self.world.names().iter().filter(|other| *other != name).for_each(|other| self.cut_both(name, other));
    }

    /// Nothing reaches or leaves a machine until the links are mended; then all of it does, late.
    pub fn freeze(&self, name: &str) {
        self.hosts().iter().filter(|other| *other != name).for_each(|other| self.hold(name, other));
    }

    /// What this node itself says of its cluster.
    pub fn said(&self, name: &str) -> Option<quorate::wire::cluster::GetMembershipResponse> {
        self.world.machine(name).said.borrow().clone()
    }

    /// Lets time pass until the disk of `name` has made so many steps more, or the errand has ended. Says which: true
    /// if it came to that step.
    pub fn until_step(&mut self, name: &str, steps: u64, ticket: Ticket) -> bool {
        let disks = self.world.machine(name).disks();
        let goal = disks.counts().steps + steps;
        let errands = self.errands.clone();
        let there = |_: &mut Self| disks.counts().steps >= goal || errands.ended(ticket).is_some();
        self.expect(&format!("{name} comes to step {steps}"), ERRAND, there);
        disks.counts().steps >= goal
    }
}
