//! An operator who grows the cluster, and then changes its membership at random.

use std::{rc::Rc, time::Duration};

use quorate::{
    client::Cluster,
    wire::{
        Fault,
        admin::{
            AddNodeRequest, ChangeProgress, RemoveNodeRequest, ReplaceNodeRequest, TransferLeadershipRequest,
            TriggerSnapshotRequest, admin_service_client::AdminServiceClient, change_progress::Phase,
        },
    },
};
use tokio::time::{sleep, timeout};
use tonic::{Streaming, transport::Channel};

use crate::{
    replica::FOUNDER,
    rng::Rng,
    users::cluster,
    world::{World, address},
};

/// How long one change is followed.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Operator {
    world: Rc<World>,
    cluster: Cluster,
    rng: Rng,
}

impl Operator {
    pub fn new(world: Rc<World>) -> Self {
        let cluster = cluster(&world, "operator", PATIENCE).patient();
        let rng = Rng::of(world.seed, "operator");
        Self { world, cluster, rng }
    }

    /// Adds nodes until there are `size`, without any fault: each must succeed.
    pub async fn grow(&mut self, size: usize) {
        for name in self.world.names().into_iter().filter(|name| name != FOUNDER).take(size - 1) {
            while let Err(why) = self.add(&name).await {
                tracing::info!(target: "simulation", name, why, "not added yet");
                sleep(Duration::from_millis(200)).await;
            }
        }
    }

    /// Changes things at random until the world is calm.
    pub async fn meddle(&mut self) {
        while !self.world.calm.get() {
            let pause = self.rng.within(500..5_000);
            sleep(Duration::from_millis(pause)).await;
            let members: Vec<String> = self.world.members().into_iter().collect();
            let spare: Vec<String> = self.world.names().into_iter().filter(|name| !members.contains(name)).collect();
            let (member, new) = (self.rng.pick(&members).cloned(), self.rng.pick(&spare).cloned());
            let (what, done) = match (self.rng.within(0..10), member, new) {
                (0..3, _, Some(new)) => ("add", self.add(&new).await),
                (3..5, Some(old), _) if members.len() > 3 => ("remove", self.remove(&old).await),
                (5..7, Some(old), Some(new)) => ("replace", self.replace(&old, &new).await),
                (7..9, Some(member), _) => ("transfer", self.transfer(&member).await),
                _ => ("snapshot", self.snapshot().await),
            };
            tracing::info!(target: "simulation", what, ?done, "operator");
            match done {
                Ok(()) => self.world.count(match what {
                    "add" => "nodes added",
                    "remove" => "nodes removed",
                    "replace" => "nodes replaced",
                    "transfer" => "leaderships handed over",
                    _ => "snapshots asked for",
                }),
                Err(_) => self.world.count("changes refused or broken off"),
            }
        }
    }

    pub async fn add(&mut self, name: &str) -> Result<(), String> {
        let request = AddNodeRequest { name: name.into(), address: address(name).to_string(), ..Default::default() };
        let call = async |channel: Channel| AdminServiceClient::new(channel).add_node(request.clone()).await;
        let stream = self.cluster.on_leader(call).await.map_err(told)?;
        follow(stream.into_inner()).await
    }

    pub async fn remove(&mut self, name: &str) -> Result<(), String> {
        let request = RemoveNodeRequest { name: name.into(), accept_lower_tolerance: true, ..Default::default() };
        let call = async |channel: Channel| AdminServiceClient::new(channel).remove_node(request.clone()).await;
        let stream = self.cluster.on_leader(call).await.map_err(told)?;
        follow(stream.into_inner()).await
    }

    pub async fn replace(&mut self, old: &str, new: &str) -> Result<(), String> {
        let (old_name, name) = (old.into(), new.into());
        let request = ReplaceNodeRequest { old_name, name, address: address(new).to_string(), ..Default::default() };
        let call = async |channel: Channel| AdminServiceClient::new(channel).replace_node(request.clone()).await;
        let stream = self.cluster.on_leader(call).await.map_err(told)?;
        follow(stream.into_inner()).await
    }

    pub async fn transfer(&mut self, to: &str) -> Result<(), String> {
        let request = TransferLeadershipRequest { to_name: to.into() };
        let call = async |channel: Channel| AdminServiceClient::new(channel).transfer_leadership(request.clone()).await;
        self.cluster.on_leader(call).await.map(drop).map_err(told)
    }

    pub async fn snapshot(&mut self) -> Result<(), String> {
        let call =
            async |channel: Channel| AdminServiceClient::new(channel).trigger_snapshot(TriggerSnapshotRequest {}).await;
        self.cluster.on_any(call).await.map(drop).map_err(told)
    }
}

fn told(fault: Fault) -> String {
    format!("{:?}: {}", fault.reason, fault.message)
}

/// Follows a change to its end.
async fn follow(mut stream: Streaming<ChangeProgress>) -> Result<(), String> {
    let mut phase = Phase::Unspecified;
    let mut failed = String::new();
    loop {
        match timeout(PATIENCE, stream.message()).await {
            Ok(Ok(Some(progress))) => {
                phase = progress.phase();
                if let Some(check) = progress.checks.iter().find(|check| !check.ok) {
                    failed = format!("{}: {}", check.name, check.detail);
                }
            }
            Ok(Ok(None)) if phase == Phase::Done => return Ok(()),
            Ok(Ok(None)) => return Err(format!("ended in {phase:?} {failed}")),
            Ok(Err(status)) => return Err(told(Fault::from_status(&status))),
            Err(_) => return Err(format!("silent in {phase:?}")),
        }
    }
}
