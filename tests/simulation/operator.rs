//! Operators: clients of the admin service who grow the cluster, run tasks, and change the membership at random.

use std::{rc::Rc, time::Duration};

use quorate::{
    client::Cluster,
    wire::{
        Fault, Reason,
        admin::{
            AddNodeRequest, ChangeProgress, RemoveNodeRequest, ReplaceNodeRequest, SetRoleRequest,
            TransferLeadershipRequest, TriggerSnapshotRequest, admin_service_client::AdminServiceClient,
            change_progress::Phase,
        },
        cluster::Role,
    },
};
use tokio::{
    task::spawn_local,
    time::{sleep, timeout},
};
use tonic::{Response, Status, Streaming, transport::Channel};

use crate::{
    client::connect,
    operator_tasks::{Task, TaskQueue},
    replica::FOUNDER,
    rng::Rng,
    world::{World, address},
};

/// Deadline of one call, and of each message of a change's progress.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Interval at which the queue is looked at.
const POLL: Duration = Duration::from_millis(20);

/// The answer to a change of the membership: a stream of its progress.
type ProgressStream = Result<Response<Streaming<ChangeProgress>>, Status>;

/// One operator, who does one thing after another.
///
/// The clients of all operators draw the same random numbers, because they have one name. That is harmless: admin
/// requests carry no request id. What an operator does at random follows from its own name.
pub struct Operator {
    world: Rc<World>,
    cluster: Cluster,
    rng: Rng,
}

impl Operator {
    /// `name` selects the random numbers of [`run_random_tasks`](Self::run_random_tasks).
    pub fn new(world: Rc<World>, name: &str) -> Self {
        let cluster = connect(&world, "operator", TIMEOUT).for_slow_calls();
        let rng = Rng::of(world.seed, &format!("operator {name}"));
        Self { world, cluster, rng }
    }

    /// Adds nodes until there are `size`. There are no faults yet, so it repeats each command until it succeeds.
    pub async fn grow(&mut self, size: usize) {
        for name in self.world.names().into_iter().filter(|name| name != FOUNDER).take(size - 1) {
            while let Err(why) = self.run(&Task::Add(name.clone()), |_| {}).await {
                tracing::info!(target: "simulation", name, ?why, "not added yet");
                sleep(Duration::from_millis(200)).await;
            }
        }
    }

    /// Runs random tasks until the workload is stopped. Any of them may fail.
    pub async fn run_random_tasks(mut self) {
        while !self.world.workload_stopped.get() {
            let pause = self.rng.within(300..4_000);
            sleep(Duration::from_millis(pause)).await;
            let Some(task) = self.random_task() else { continue };
            let result = self.run(&task, |_| {}).await;
            tracing::info!(target: "simulation", ?task, ?result, "operator");
            self.world.count(match result {
                Ok(()) => counter_of(&task),
                Err(_) => "change:refused or broken off",
            });
        }
    }

    /// Picks a task that makes sense with the present members. It keeps at least three voters.
    fn random_task(&mut self) -> Option<Task> {
        let nodes = self.world.newest_leader()?.nodes;
        let named = |role: Role| -> Vec<String> {
            nodes.iter().filter(|node| node.role() == role).map(|node| node.name.clone()).collect()
        };
        let (voters, learners) = (named(Role::Voter), named(Role::Learner));
        let members: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
        let spare: Vec<String> = self.world.names().into_iter().filter(|name| !members.contains(name)).collect();
        let leader = self.world.newest_leader().map(|report| report.answered_by);
        let (member, voter) = (self.rng.pick(&members).cloned()?, self.rng.pick(&voters).cloned()?);
        let (learner, new) = (self.rng.pick(&learners).cloned(), self.rng.pick(&spare).cloned());
        // At least three voters stay, so that one may always fail.
        let can_shrink = voters.len() > 3;
        Some(match (self.rng.within(0..100), new, learner) {
            (0..20, Some(new), _) => Task::Add(new),
            (20..26, Some(new), _) => Task::AddLearner(new),
            (0..36, _, Some(learner)) => Task::Promote(learner),
            (36..42, ..) if can_shrink => Task::Demote(voter),
            (42..52, ..) if can_shrink => Task::Remove(member),
            (52..58, ..) if can_shrink => Task::Remove(leader?),
            (58..72, Some(new), _) => Task::Replace(member, new),
            (72..84, ..) => Task::Transfer(member),
            _ => Task::Snapshot,
        })
    }

    /// Runs one task to its end. `on_phase` is called with each phase of a change.
    pub async fn run(&mut self, task: &Task, on_phase: impl FnMut(Phase)) -> Result<(), Fault> {
        match task {
            Task::Add(name) => self.add(name, false, on_phase).await,
            Task::AddLearner(name) => self.add(name, true, on_phase).await,
            Task::Promote(name) => self.set_role(name, Role::Voter, on_phase).await,
            Task::Demote(name) => self.set_role(name, Role::Learner, on_phase).await,
            Task::Remove(name) => self.remove(name, on_phase).await,
            Task::Replace(old, new) => self.replace(old, new, on_phase).await,
            Task::Transfer(to) => self.transfer(to).await,
            Task::Snapshot => self.cluster.on_any(snapshot).await.map(drop),
            Task::SnapshotOn(name) => {
                let asking = timeout(TIMEOUT, snapshot(self.cluster.channel(&address(name))));
                let answer =
                    asking.await.map_err(|_| Fault::new(Reason::Timeout, "the node took no snapshot in time"))?;
                answer.map(drop).map_err(|status| Fault::from_status(&status))
            }
        }
    }

    /// Starts a change on the leader and follows it to its end.
    async fn change(
        &mut self,
        start: impl AsyncFn(AdminServiceClient<Channel>) -> ProgressStream,
        on_phase: impl FnMut(Phase),
    ) -> Result<(), Fault> {
        let stream = self.cluster.on_leader(async |channel| start(AdminServiceClient::new(channel)).await).await?;
        follow(stream.into_inner(), on_phase).await
    }

    async fn add(&mut self, name: &str, learner_only: bool, on_phase: impl FnMut(Phase)) -> Result<(), Fault> {
        let address = address(name).to_string();
        let request = AddNodeRequest { name: name.into(), address, learner_only, ..Default::default() };
        self.change(async |mut admin| admin.add_node(request.clone()).await, on_phase).await
    }

    async fn set_role(&mut self, name: &str, role: Role, on_phase: impl FnMut(Phase)) -> Result<(), Fault> {
        // Without this the safety check would refuse every demotion from an odd number of voters.
        let accept_lower_tolerance = role == Role::Learner;
        let request =
            SetRoleRequest { name: name.into(), role: role.into(), accept_lower_tolerance, ..Default::default() };
        self.change(async |mut admin| admin.set_role(request.clone()).await, on_phase).await
    }

    async fn remove(&mut self, name: &str, on_phase: impl FnMut(Phase)) -> Result<(), Fault> {
        let request = RemoveNodeRequest { name: name.into(), accept_lower_tolerance: true, ..Default::default() };
        self.change(async |mut admin| admin.remove_node(request.clone()).await, on_phase).await
    }

    async fn replace(&mut self, old: &str, new: &str, on_phase: impl FnMut(Phase)) -> Result<(), Fault> {
        let (old_name, name) = (old.into(), new.into());
        let request = ReplaceNodeRequest { old_name, name, address: address(new).to_string(), ..Default::default() };
        self.change(async |mut admin| admin.replace_node(request.clone()).await, on_phase).await
    }

    async fn transfer(&mut self, to: &str) -> Result<(), Fault> {
        let request = TransferLeadershipRequest { to_name: to.into() };
        let call = async |channel: Channel| AdminServiceClient::new(channel).transfer_leadership(request.clone()).await;
        self.cluster.on_leader(call).await.map(drop)
    }
}

/// Runs every task of `queue`, for ever: each by an operator of its own, so that tasks which a scenario submits
/// together run at the same time.
pub async fn serve(queue: Rc<TaskQueue>, world: Rc<World>) {
    loop {
        while let Some((id, task)) = queue.take_next() {
            let (queue, mut operator) = (queue.clone(), Operator::new(world.clone(), &format!("{id:?}")));
            spawn_local(async move {
                let result = operator.run(&task, |phase| queue.set_phase(id, phase)).await;
                tracing::info!(target: "simulation", ?task, ?result, "operator");
                queue.finish(id, result);
            });
        }
        sleep(POLL).await;
    }
}

async fn snapshot(channel: Channel) -> Result<Response<quorate::wire::admin::TriggerSnapshotResponse>, Status> {
    AdminServiceClient::new(channel).trigger_snapshot(TriggerSnapshotRequest {}).await
}

/// The count in the report that a successful task adds to.
fn counter_of(task: &Task) -> &'static str {
    match task {
        Task::Add(_) => "change:nodes added",
        Task::AddLearner(_) => "change:learners added",
        Task::Promote(_) => "change:learners promoted",
        Task::Demote(_) => "change:voters demoted",
        Task::Remove(_) => "change:nodes removed",
        Task::Replace(..) => "change:nodes replaced",
        Task::Transfer(_) => "change:leaderships transferred",
        Task::Snapshot | Task::SnapshotOn(_) => "change:snapshots taken on request",
    }
}

/// Follows the progress of a change. A stream that ends before the phase `Done` was broken off: the change may go on
/// without the operator.
async fn follow(mut stream: Streaming<ChangeProgress>, mut on_phase: impl FnMut(Phase)) -> Result<(), Fault> {
    let mut phase = Phase::Unspecified;
    loop {
        match timeout(TIMEOUT, stream.message()).await {
            Ok(Ok(Some(progress))) => {
                phase = progress.phase();
                on_phase(phase);
            }
            Ok(Ok(None)) if phase == Phase::Done => return Ok(()),
            Ok(Ok(None)) => {
                return Err(Fault::new(Reason::Timeout, format!("the change was broken off in phase {phase:?}")));
            }
            Ok(Err(status)) => return Err(Fault::from_status(&status)),
            Err(_) => return Err(Fault::new(Reason::Timeout, format!("no progress was reported in phase {phase:?}"))),
        }
    }
}
