//! The operator's calls: add, remove and replace nodes, change roles, transfer leadership.

use std::{future::Future, time::Duration};

use quorate::{
    client,
    wire::{
        Fault, Reason,
        admin::{
            AddNodeRequest, ChangeProgress, RemoveNodeRequest, ReplaceNodeRequest, SetRoleRequest,
            TransferLeadershipRequest, admin_service_client::AdminServiceClient,
        },
        cluster::Role,
    },
};
use tokio::time::{Instant, sleep};
use tonic::{Response, Status, Streaming, transport::Channel};

use super::{Cluster, TIMEOUT, eventually};

type Admin = AdminServiceClient<Channel>;
type Changes = Result<Response<Streaming<ChangeProgress>>, Status>;

/// Asks the leader once for a change and follows it to its end. Calls `watch` with each progress message.
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

/// Whether giving the same command again continues what this one began.
fn may_repeat(fault: &Fault) -> bool {
    fault.reason.is_transient() || matches!(fault.reason, Reason::EtagMismatch | Reason::ChangeInProgress)
}

/// Repeats a command until it is done or refused, as an operator does.
async fn until_done<F, Fut>(mut ask: F) -> Result<ChangeProgress, Fault>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<ChangeProgress, Fault>>,
{
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match ask().await {
            Err(fault) if may_repeat(&fault) && Instant::now() < deadline => sleep(Duration::from_millis(50)).await,
            done => return done,
        }
    }
}

impl Cluster {
    /// The request that adds node `number`.
    pub fn adding(&self, number: usize) -> AddNodeRequest {
        AddNodeRequest {
            name: format!("n{number}"),
            address: self.address(number).to_string(),
            zone: self.zone(number),
            ..Default::default()
        }
    }

    /// `chat-admin add-node`, repeated until it is done or refused.
    pub async fn add_node(&self, number: usize) -> Result<ChangeProgress, Fault> {
        until_done(|| self.try_add_node(self.adding(number), |_| {})).await
    }

    /// `chat-admin add-node --learner`, repeated until it is done or refused.
    pub async fn add_learner(&self, number: usize) -> Result<ChangeProgress, Fault> {
        let request = AddNodeRequest { learner_only: true, ..self.adding(number) };
        until_done(|| self.try_add_node(request.clone(), |_| {})).await
    }

    /// `chat-admin add-node`, once.
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

    /// `chat-admin remove-node`, repeated until it is done or refused.
    pub async fn remove_node(&self, number: usize, accept_lower_tolerance: bool) -> Result<ChangeProgress, Fault> {
        let request = RemoveNodeRequest { name: format!("n{number}"), accept_lower_tolerance, ..Default::default() };
        let mut seen = false;
        match until_done(|| self.try_remove_node(request.clone())).await {
            // An earlier attempt has done it, and its answer was lost.
            Err(fault) if fault.reason == Reason::NodeNotFound && std::mem::replace(&mut seen, true) => {
                Ok(ChangeProgress::default())
            }
            result => result,
        }
    }

    /// `chat-admin remove-node`, once.
    pub async fn try_remove_node(&self, request: RemoveNodeRequest) -> Result<ChangeProgress, Fault> {
        let ask = |mut admin: Admin| {
            let request = request.clone();
            async move { admin.remove_node(request).await }
        };
        change(&self.client(), ask, |_| {}).await
    }

    /// `chat-admin replace-node`, repeated until it is done or refused.
    pub async fn replace_node(&self, old: usize, new: usize) -> Result<ChangeProgress, Fault> {
        let request = ReplaceNodeRequest {
            old_name: format!("n{old}"),
            name: format!("n{new}"),
            address: self.address(new).to_string(),
            zone: self.zone(new),
            ..Default::default()
        };
        until_done(|| {
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

    /// `chat-admin promote` or `demote`, repeated until it is done or refused.
    pub async fn set_role(&self, number: usize, role: Role) -> Result<ChangeProgress, Fault> {
        let request = SetRoleRequest { name: format!("n{number}"), role: role.into(), ..Default::default() };
        until_done(|| {
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

    /// `chat-admin transfer-leader`, repeated until the node leads.
    pub async fn transfer_leader(&self, to: usize) {
        let request = TransferLeadershipRequest { to_name: format!("n{to}") };
        eventually(&format!("n{to} leads"), async || {
            let client = self.client().for_slow_calls();
            let asked = client.on_leader(|channel| {
                let request = request.clone();
                async move { AdminServiceClient::new(channel).transfer_leadership(request).await }
            });
            let refused = asked.await.err();
            if self.leader() == Some(to) { Ok(()) } else { Err(format!("{refused:?}\n{}", self.status())) }
        })
        .await;
    }
}

/// Adds these nodes at once.
pub async fn grow(cluster: &Cluster, numbers: impl IntoIterator<Item = usize>) {
    let adding = numbers.into_iter().map(|number| async move { (number, cluster.add_node(number).await) });
    for (number, added) in futures::future::join_all(adding).await {
        added.unwrap_or_else(|fault| panic!("n{number} was not added: {fault:?}\n{}", cluster.status()));
    }
}
