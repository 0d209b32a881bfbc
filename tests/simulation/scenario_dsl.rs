//! The steps of which scenarios are made. Each waits for a fact with a deadline; a fact that does not come true is a
//! violation. After a violation every step returns at once, with whatever it has, so scenarios need no error handling.

use std::time::Duration;

use quorate::wire::{Fault, Reason, admin::change_progress::Phase, cluster::Role};

use crate::{
    cluster::{Cluster, REPORT_AGE},
    operator_tasks::{Task, TaskId},
    world::State,
};

/// Deadline for a cluster with a majority to have a leader and a uniform membership, whatever happened before.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Deadline for a task to end, successful or not.
const TASK_TIMEOUT: Duration = Duration::from_secs(60);
/// Deadline for messages to be acknowledged again.
const WRITES_TIMEOUT: Duration = Duration::from_secs(20);
/// Deadline for a removed node to learn of its removal.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often an operator repeats a command before it gives up.
const MAX_REPEATS: usize = 12;

impl Cluster {
    /// The names of the nodes with this role, as the leader reports it.
    pub fn names_with_role(&self, role: Role) -> Vec<String> {
        let nodes = self.world.newest_leader().map(|report| report.nodes).unwrap_or_default();
        nodes.into_iter().filter(|node| node.role() == role).map(|node| node.name).collect()
    }

    /// Waits for a leader with a quorum and a uniform membership, and returns its name.
    pub fn wait_until_settled(&mut self) -> String {
        let has_leader = |cluster: &mut Self| {
            let report = cluster.world.newest_leader();
            report.is_some_and(|report| report.has_quorum && !report.joint)
        };
        self.expect("one leader with a quorum and a uniform membership", SETTLE_TIMEOUT, has_leader);
        self.leader().unwrap_or_default()
    }

    /// Waits until the cluster is settled, and returns the leader and the voters that follow it.
    pub fn leader_and_followers(&mut self) -> (String, Vec<String>) {
        let leader = self.wait_until_settled();
        let followers = self.names_with_role(Role::Voter).into_iter().filter(|name| *name != leader).collect();
        (leader, followers)
    }

    /// Waits until the leader reports exactly these voters, all reachable, and no change is under way.
    pub fn expect_voters(&mut self, names: &[&str]) {
        let what = format!("the voters are {names:?}");
        self.expect(&what, SETTLE_TIMEOUT, |cluster| {
            let Some(report) = cluster.world.newest_leader().filter(|report| !report.joint && report.has_quorum) else {
                return false;
            };
            let reachable = report.nodes.iter().filter(|node| node.role() == Role::Voter && node.reachable);
            let mut voters: Vec<&str> = reachable.map(|node| node.name.as_str()).collect();
            voters.sort_unstable();
            voters == names && cluster.names_with_role(Role::Voter).len() == names.len()
        });
    }

    /// Waits until `more` further messages of users are acknowledged.
    pub fn expect_writes(&mut self, more: usize) {
        let goal = self.acknowledged() + more;
        let what = format!("{more} more messages are acknowledged");
        self.expect(&what, WRITES_TIMEOUT, |cluster| cluster.acknowledged() >= goal);
    }

    /// Expects that no message is acknowledged for `time`. Answers that are still under way get a moment to arrive
    /// first.
    pub fn expect_no_writes(&mut self, time: Duration) {
        self.run_for(Duration::from_millis(2_500));
        let before = self.acknowledged();
        self.run_for(time);
        let after = self.acknowledged();
        if after != before {
            self.world.violation(format!("{} messages were acknowledged without a majority", after - before));
        }
    }

    /// Gives a task to an operator, and does not wait for it.
    pub fn submit(&self, task: Task) -> TaskId {
        self.tasks.submit(task)
    }

    /// Waits until a task has reached `phase`, or has ended.
    pub fn wait_for_phase(&mut self, id: TaskId, phase: Phase) {
        let tasks = self.tasks.clone();
        let what = format!("{id:?} reaches phase {phase:?}");
        let reached = move |_: &mut Self| tasks.phase(id) as i32 >= phase as i32 || tasks.result(id).is_some();
        self.expect(&what, TASK_TIMEOUT, reached);
    }

    /// Waits for the end of a task, and returns its result.
    pub fn wait_for_result(&mut self, id: TaskId) -> Result<(), Fault> {
        let tasks = self.tasks.clone();
        self.expect(&format!("{id:?} ends"), TASK_TIMEOUT, move |_| tasks.result(id).is_some());
        // Reports may be older than the end of the task.
        self.run_for(REPORT_AGE);
        self.tasks.result(id).unwrap_or_else(|| Err(Fault::new(Reason::Timeout, "the task has not ended")))
    }

    /// Runs a task to its end.
    pub fn run_task(&mut self, task: Task) -> Result<(), Fault> {
        let id = self.submit(task);
        self.wait_for_result(id)
    }

    /// Repeats a task until it succeeds. A change that was broken off resumes where it stopped.
    pub fn run_until_done(&mut self, task: Task) {
        let mut last = String::new();
        for _ in 0..MAX_REPEATS {
            match self.run_task(task.clone()) {
                Ok(()) => return,
                // An earlier attempt has removed the node already.
                Err(fault) if fault.reason == Reason::NodeNotFound && task.removes_node() => return,
                Err(fault) => last = format!("{:?}: {}", fault.reason, fault.message),
            }
            if self.is_broken() {
                return;
            }
            self.run_for(Duration::from_millis(500));
        }
        let status = self.status();
        self.world.violation(format!("{task:?} failed {MAX_REPEATS} times, at last with {last}\n{status}"));
    }

    /// Starts to add a node, and calls `disturb` meanwhile. However the task ends, the addition must be possible
    /// afterwards. At the end the node is removed again.
    pub fn add_while(&mut self, name: &str, disturb: impl FnOnce(&mut Self, TaskId)) {
        let id = self.submit(Task::Add(name.into()));
        disturb(self, id);
        let _ = self.wait_for_result(id);
        self.wait_until_settled();
        self.run_until_done(Task::Add(name.into()));
        self.remove_and_reuse(name);
    }

    /// Removes a node, and starts its machine again with an empty disk.
    pub fn remove_and_reuse(&mut self, name: &str) {
        self.run_until_done(Task::Remove(name.into()));
        self.reuse_removed(name);
    }

    /// Runs a task that must be refused for this reason.
    pub fn expect_refused(&mut self, task: Task, reason: Reason) {
        let result = self.run_task(task.clone());
        if self.is_broken() || result.as_ref().is_err_and(|fault| fault.reason == reason) {
            return;
        }
        self.world.violation(format!("{task:?} should be refused with {reason:?}, but ended with {result:?}"));
    }

    /// Kills a process, or cuts its power, and starts it again at once.
    pub fn crash_and_restart(&mut self, name: &str, power: bool) {
        self.crash(name, power);
        self.restart(name);
    }

    /// Waits until a node has stopped by itself because it was removed, then starts its machine again with an empty
    /// disk.
    pub fn reuse_removed(&mut self, name: &str) {
        let what = format!("{name} learns that it was removed");
        let removed = |cluster: &mut Self| *cluster.world.machine(name).state.borrow() == State::Removed;
        self.expect(&what, REMOVAL_TIMEOUT, removed);
        self.restart(name);
    }

    /// Cuts a machine off from all other machines. Users and operators still reach it.
    pub fn isolate(&self, name: &str) {
        self.world.names().iter().filter(|other| *other != name).for_each(|other| self.cut_both(name, other));
    }

    /// Holds back all messages to and from a machine until the links are repaired; then all of them arrive, late.
    pub fn freeze(&self, name: &str) {
        self.hosts().iter().filter(|other| *other != name).for_each(|other| self.hold(name, other));
    }

    /// The latest report of a node about itself and its cluster.
    pub fn report_of(&self, name: &str) -> Option<quorate::wire::cluster::GetMembershipResponse> {
        self.world.machine(name).report.borrow().clone()
    }

    /// Waits until the disk of `name` has taken `steps` further steps, or the task has ended. Returns whether it took
    /// them.
    pub fn wait_for_disk_steps(&mut self, name: &str, steps: u64, id: TaskId) -> bool {
        let disks = self.world.machine(name).disks();
        let goal = disks.counts().steps + steps;
        let tasks = self.tasks.clone();
        let reached = |_: &mut Self| disks.counts().steps >= goal || tasks.result(id).is_some();
        self.expect(&format!("the disk of {name} takes {steps} steps"), TASK_TIMEOUT, reached);
        disks.counts().steps >= goal
    }
}
