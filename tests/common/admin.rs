//! The operator's calls.

use std::{future::Future, time::Duration};

use quorate::{
    client,
    wire::{
        Fault, Reason,
        admin::{
            AddNodeRequest, ChangeProgress, RemoveNodeRequest, ReplaceNodeRequest, SetRoleRequest,
            admin_service_client::AdminServiceClient,
        },
        cluster::Role,
    },
};
use tokio::time::{Instant, sleep};
use tonic::{Response, Status, Streaming, transport::Channel};

use super::{Cluster, TIMEOUT};

type Admin = AdminServiceClient<Channel>;
type Changes = Result<Response<Streaming<ChangeProgress>>, Status>;

/// Asks the leader for a change, once, and follows it to its end. `watch` is called with every message.
pub async fn change<F, Fut>(
    cluster: &client::Cluster,
    ask: F,
    mut watch: impl FnMut(&ChangeProgress),
) -> Result<ChangeProgress, Fault>
where
    F: Fn(Admin) -> Fut,
    Fut: Future<Output = Changes>,
{
    let mut stream =
        cluster.for_slow_calls().on_leader(|channel| ask(AdminServiceClient::new(channel))).await?.into_inner();
    let mut last = None;
    loop {
        match stream.message().await {
            Ok(Some(message)) => {
                watch(&message);
                last = Some(message);
            }
            Ok(None) => {
                let broken = || Fault::new(Reason::Unreachable, "the change's stream ended before the change");
                return last.ok_or_else(broken);
            }
            Err(status) => return Err(Fault::from_status(&status)),
        }
    }
}

/// Whether the same command again goes on where this one ended.
fn repeat(fault: &Fault) -> bool {
    fault.reason.is_transient() || matches!(fault.reason, Reason::EtagMismatch | Reason::ChangeInProgress)
}

/// Gives the command again until it is done or refused, as an operator does.
async fn insist<F, Fut>(mut ask: F) -> Result<ChangeProgress, Fault>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<ChangeProgress, Fault>>,
{
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match ask().await {
            Err(fault) if repeat(&fault) && Instant::now() < deadline => sleep(Duration::from_millis(50)).await,
            done => return done,
        }
    }
}

impl Cluster {
    fn add_request(&self, number: usize) -> AddNodeRequest {
        AddNodeRequest {
            name: format!("n{number}"),
            address: self.address(number).to_string(),
            zone: self.zone(number),
            ..Default::default()
        }
    }

    /// `chat-admin add-node`, given again until it is done or refused.
    pub async fn add_node(&self, number: usize) -> Result<ChangeProgress, Fault> {
        insist(|| self.try_add_node(self.add_request(number), |_| {})).await
    }

    /// Adds a node as a learner.
    pub async fn add_learner(&self, number: usize) -> Result<ChangeProgress, Fault> {
        let request = AddNodeRequest { learner_only: true, ..self.add_request(number) };
        insist(|| self.try_add_node(request.clone(), |_| {})).await
    }

    /// `chat-admin add-node`, asked once.
    pub async fn try_add_node(
        &self,
        request: AddNodeRequest,
        watch: impl FnMut(&ChangeProgress),
    ) -> Result<ChangeProgress, Fault> {
        let ask = |mut admin: Admin| {
            let request = request.clone();
            async move { admin.add_node(request).await }
        };
        change(&self.client(), ask, watch).await
    }

    /// The request that adds node `number`, for a test that asks once.
    pub fn adding(&self, number: usize) -> AddNodeRequest {
        self.add_request(number)
    }

    /// `chat-admin remove-node`, given again until it is done or refused.
    pub async fn remove_node(&self, number: usize, accept_lower_tolerance: bool) -> Result<ChangeProgress, Fault> {
        let request = RemoveNodeRequest { name: format!("n{number}"), accept_lower_tolerance, ..Default::default() };
        let mut seen = false;
        match insist(|| self.try_remove_node(request.clone())).await {
            // An earlier attempt whose answer was lost has done it.
            Err(fault) if fault.reason == Reason::NodeNotFound && std::mem::replace(&mut seen, true) => {
                Ok(ChangeProgress::default())
            }
            result => result,
        }
    }

    /// `chat-admin remove-node`, asked once.
    pub async fn try_remove_node(&self, request: RemoveNodeRequest) -> Result<ChangeProgress, Fault> {
        let ask = |mut admin: Admin| {
            let request = request.clone();
            async move { admin.remove_node(request).await }
        };
        change(&self.client(), ask, |_| {}).await
    }

    /// `chat-admin replace-node`.
    pub async fn replace_node(&self, old: usize, new: usize) -> Result<ChangeProgress, Fault> {
        let request = ReplaceNodeRequest {
            old_name: format!("n{old}"),
            name: format!("n{new}"),
            address: self.address(new).to_string(),
            zone: self.zone(new),
            ..Default::default()
        };
        insist(|| {
            let (request, client) = (request.clone(), self.client());
            async move {
                let ask = |mut admin: Admin| {
                    let request = request.clone();
                    async move { admin.replace_node(request).await }
                };
                change(&client, ask, |_| {}).await
            }
        })
        .await
    }

    /// `chat-admin promote` or `demote`.
    pub async fn set_role(&self, number: usize, role: Role) -> Result<ChangeProgress, Fault> {
        let request = SetRoleRequest { name: format!("n{number}"), role: role.into(), ..Default::default() };
        insist(|| {
            let (request, client) = (request.clone(), self.client());
            async move {
                let ask = |mut admin: Admin| {
                    let request = request.clone();
                    async move { admin.set_role(request).await }
                };
                change(&client, ask, |_| {}).await
            }
        })
        .await
    }
}

/// Adds these nodes side by side.
pub async fn grow(cluster: &Cluster, numbers: impl IntoIterator<Item = usize>) {
    let adding = numbers.into_iter().map(|number| async move { (number, cluster.add_node(number).await) });
    for (number, added) in futures::future::join_all(adding).await {
        added.unwrap_or_else(|fault| panic!("n{number} was not added: {fault:?}\n{}", cluster.status()));
    }
}
