//! The commands that are one call to the leader: transfer-leader, snapshot.

use std::time::Duration;

use super::CommandContext;
use crate::{
    cli::{Failure, Output, Result, text},
    types::NodeName,
    wire::admin::{TransferLeadershipRequest, TriggerSnapshotRequest, admin_service_client::AdminServiceClient},
};

/// Transfers leadership.
pub(super) async fn transfer_leader(
    context: &CommandContext<'_>,
    name: Option<&NodeName>,
    output: &mut Output,
) -> Result<()> {
    let request = TransferLeadershipRequest { to_name: name.map(NodeName::to_string).unwrap_or_default() };
    let call = |channel| {
        let request = request.clone();
        async move { AdminServiceClient::new(channel).transfer_leadership(request).await }
    };
    let answer = context.cluster.on_leader(call).await;
    let answer = answer.map_err(|fault| Failure::from(fault).context("cannot transfer leadership"))?.into_inner();
    if output.is_json() {
        return output.message(&answer);
    }
    let gap = answer.write_gap.and_then(|gap| Duration::try_from(gap).ok());
    let gap = gap.map(|gap| format!("; writes paused for {} ms", gap.as_millis())).unwrap_or_default();
    output.line(format!("{} leads since term {}{gap}", text::line(&answer.leader_name), answer.term))
}

/// Triggers a snapshot on the leader.
pub(super) async fn snapshot(context: &CommandContext<'_>, output: &mut Output) -> Result<()> {
    let call =
        |channel| async move { AdminServiceClient::new(channel).trigger_snapshot(TriggerSnapshotRequest {}).await };
    let answer = context.cluster.on_leader(call).await;
    let answer = answer.map_err(|fault| Failure::from(fault).context("cannot take a snapshot"))?.into_inner();
    if output.is_json() {
        return output.message(&answer);
    }
    output.line(format!("snapshot taken: it covers the log up to index {}", answer.index))
}
