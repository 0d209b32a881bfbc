//! An operator who grows the cluster, runs errands, and changes the membership at random.

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
use tokio::time::{sleep, timeout};
use tonic::{Response, Status, Streaming, transport::Channel};

use crate::{
    errands::Errand,
    replica::FOUNDER,
    rng::Rng,
    users::cluster,
    world::{World, address},
};

/// How long one change is followed.
const TIMEOUT: Duration = Duration::from_secs(20);

type Changing = Result<Response<Streaming<ChangeProgress>>, Status>;

pub struct Operator {
    world: Rc<World>,
    cluster: Cluster,
    rng: Rng,
}

impl Operator {
    /// `who` tells one operator from another.
    pub fn new(world: Rc<World>, who: &str) -> Self {
        let cluster = cluster(&world, "operator", TIMEOUT).for_slow_calls();
        let rng = Rng::of(world.seed, &format!("operator {who}"));
        Self { world, cluster, rng }
    }

    /// Adds nodes until there are `size`, without any fault: each must succeed.
    pub async fn grow(&mut self, size: usize) {
        for name in self.world.names().into_iter().filter(|name| name != FOUNDER).take(size - 1) {
            while let Err(why) = self.run(&Errand::Add(name.clone()), |_| {}).await {
                tracing::info!(target: "simulation", name, ?why, "not added yet");
                sleep(Duration::from_millis(200)).await;
            }
        }
    }

    /// Changes things at random until the world is calm.
    pub async fn meddle(mut self) {
        while !self.world.calm.get() {
            let pause = self.rng.within(300..4_000);
            sleep(Duration::from_millis(pause)).await;
            let Some(errand) = self.whim() else { continue };
            let done = self.run(&errand, |_| {}).await;
            tracing::info!(target: "simulation", ?errand, ?done, "operator");
            self.world.count(match done {
                Ok(()) => accomplished(&errand),
                Err(_) => "change:refused or broken off",
            });
        }
    }

    /// Something that may make sense, as things stand.
    fn whim(&mut self) -> Option<Errand> {
        let nodes = self.world.newest_leader()?.nodes;
        let named = |role: Role| -> Vec<String> {
            nodes.iter().filter(|node| node.role() == role).map(|node| node.name.clone()).collect()
        };
        let (voters, learners) = (named(Role::Voter), named(Role::Learner));
        let members: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
        let spare: Vec<String> = self.world.names().into_iter().filter(|name| !members.contains(name)).collect();
        let leader = self.world.newest_leader().map(|said| said.answered_by);
        let (member, voter) = (self.rng.pick(&members).cloned()?, self.rng.pick(&voters).cloned()?);
        let (learner, new) = (self.rng.pick(&learners).cloned(), self.rng.pick(&spare).cloned());
        let room = voters.len() > 3;
        Some(match (self.rng.within(0..100), new, learner) {
            (0..20, Some(new), _) => Errand::Add(new),
            (20..26, Some(new), _) => Errand::AddLearner(new),
            (0..36, _, Some(learner)) => Errand::Promote(learner),
            (36..42, ..) if room => Errand::Demote(voter),
            (42..52, ..) if room => Errand::Remove(member),
            (52..58, ..) if room => Errand::Remove(leader?),
            (58..72, Some(new), _) => Errand::Replace(member, new),
            (72..84, ..) => Errand::Transfer(member),
            _ => Errand::Snapshot,
        })
    }

    /// Runs one errand to its end; `at` is told how far a change has come.
    pub async fn run(&mut self, errand: &Errand, at: impl FnMut(Phase)) -> Result<(), Fault> {
        match errand {
            Errand::Add(name) => self.add(name, false, at).await,
            Errand::AddLearner(name) => self.add(name, true, at).await,
            Errand::Promote(name) => self.set_role(name, Role::Voter, at).await,
            Errand::Demote(name) => self.set_role(name, Role::Learner, at).await,
            Errand::Remove(name) => self.remove(name, at).await,
            Errand::Replace(old, new) => self.replace(old, new, at).await,
            Errand::Transfer(to) => self.transfer(to).await,
            Errand::Snapshot => self.cluster.on_any(snapshot).await.map(drop),
            Errand::SnapshotOn(name) => {
                let asked = timeout(TIMEOUT, snapshot(self.cluster.channel(&address(name))));
                let answer = asked.await.map_err(|_| Fault::new(Reason::Timeout, "no snapshot in time"))?;
                answer.map(drop).map_err(|status| Fault::from_status(&status))
            }
        }
    }

    async fn change(
        &mut self,
        begin: impl AsyncFn(AdminServiceClient<Channel>) -> Changing,
        at: impl FnMut(Phase),
    ) -> Result<(), Fault> {
        let stream = self.cluster.on_leader(async |channel| begin(AdminServiceClient::new(channel)).await).await?;
        follow(stream.into_inner(), at).await
    }

    async fn add(&mut self, name: &str, learner_only: bool, at: impl FnMut(Phase)) -> Result<(), Fault> {
        let address = address(name).to_string();
        let request = AddNodeRequest { name: name.into(), address, learner_only, ..Default::default() };
        self.change(async |mut admin| admin.add_node(request.clone()).await, at).await
    }

    async fn set_role(&mut self, name: &str, role: Role, at: impl FnMut(Phase)) -> Result<(), Fault> {
        let accept_lower_tolerance = role == Role::Learner;
        let request =
            SetRoleRequest { name: name.into(), role: role.into(), accept_lower_tolerance, ..Default::default() };
        self.change(async |mut admin| admin.set_role(request.clone()).await, at).await
    }

    async fn remove(&mut self, name: &str, at: impl FnMut(Phase)) -> Result<(), Fault> {
        let request = RemoveNodeRequest { name: name.into(), accept_lower_tolerance: true, ..Default::default() };
        self.change(async |mut admin| admin.remove_node(request.clone()).await, at).await
    }

    async fn replace(&mut self, old: &str, new: &str, at: impl FnMut(Phase)) -> Result<(), Fault> {
        let (old_name, name) = (old.into(), new.into());
        let request = ReplaceNodeRequest { old_name, name, address: address(new).to_string(), ..Default::default() };
        self.change(async |mut admin| admin.replace_node(request.clone()).await, at).await
    }

    async fn transfer(&mut self, to: &str) -> Result<(), Fault> {
        let request = TransferLeadershipRequest { to_name: to.into() };
        let call = async |channel: Channel| AdminServiceClient::new(channel).transfer_leadership(request.clone()).await;
        self.cluster.on_leader(call).await.map(drop)
    }
}

async fn snapshot(channel: Channel) -> Result<Response<quorate::wire::admin::TriggerSnapshotResponse>, Status> {
    AdminServiceClient::new(channel).trigger_snapshot(TriggerSnapshotRequest {}).await
}

fn accomplished(errand: &Errand) -> &'static str {
    match errand {
        Errand::Add(_) => "change:nodes added",
        Errand::AddLearner(_) => "change:learners added",
        Errand::Promote(_) => "change:learners promoted",
        Errand::Demote(_) => "change:voters demoted",
        Errand::Remove(_) => "change:nodes removed",
        Errand::Replace(..) => "change:nodes replaced",
        Errand::Transfer(_) => "change:leaderships handed over",
        Errand::Snapshot | Errand::SnapshotOn(_) => "change:snapshots asked for",
    }
}

/// Follows a change to its end.
async fn follow(mut stream: Streaming<ChangeProgress>, mut at: impl FnMut(Phase)) -> Result<(), Fault> {
    let mut phase = Phase::Unspecified;
    loop {
        match timeout(TIMEOUT, stream.message()).await {
            Ok(Ok(Some(progress))) => {
                phase = progress.phase();
                at(phase);
            }
            Ok(Ok(None)) if phase == Phase::Done => return Ok(()),
            Ok(Ok(None)) => return Err(Fault::new(Reason::Timeout, format!("broken off in {phase:?}"))),
            Ok(Err(status)) => return Err(Fault::from_status(&status)),
            Err(_) => return Err(Fault::new(Reason::Timeout, format!("silent in {phase:?}"))),
        }
    }
}
