//! The commands that are one call to the leader: transfer-leader, snapshot, correct-time.

use std::time::{Duration, SystemTime};

use super::CommandContext;
use crate::{
    cli::{Failure, Output, Result, text},
    types::NodeName,
    wire::admin::{
        CorrectTimeRequest, CorrectTimeResponse, TransferLeadershipRequest, TriggerSnapshotRequest,
        admin_service_client::AdminServiceClient,
    },
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

/// Sets log time back to what the clocks of a majority say.
pub(super) async fn correct_time(
    context: &CommandContext<'_>,
    clients_ahead: Option<Duration>,
    dry_run: bool,
    output: &mut Output,
) -> Result<()> {
    let clients_ahead = clients_ahead.and_then(|ahead| ahead.try_into().ok());
    let request = CorrectTimeRequest { validate_only: dry_run, clients_ahead };
    let call = |channel| async move { AdminServiceClient::new(channel).correct_time(request).await };
    let answer = context.cluster.on_leader(call).await;
    let answer = answer.map_err(|fault| Failure::from(fault).context("cannot correct log time"))?.into_inner();
    if output.is_json() {
        return output.message(&answer);
    }
    correction(&answer, dry_run).into_iter().try_for_each(|line| output.line(line))
}

/// What a correction did, or would do.
pub(super) fn correction(answer: &CorrectTimeResponse, dry_run: bool) -> Vec<String> {
    let moment = |time: Option<prost_types::Timestamp>| {
        SystemTime::try_from(time.unwrap_or_default()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let shown = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
    let (log_time, now, accepts_from) = (moment(answer.log_time), moment(answer.time), moment(answer.accepts_from));
    let ahead = Duration::from_secs(log_time.duration_since(now).unwrap_or_default().as_secs());
    let mut lines = vec![match (answer.was_ahead, dry_run) {
        (false, _) => "log time is right: it was left as it is".to_owned(),
        (true, true) => {
            format!(
                "dry run: log time is ahead by {}, it would be set to {}",
                humantime::format_duration(ahead),
                shown(now)
            )
        }
        (true, false) => {
            format!("log time was ahead by {}, it was set to {}", humantime::format_duration(ahead), shown(now))
        }
    }];
    if accepts_from > now {
        lines.push(format!(
            "  new writes are refused until {}: until then they could be repetitions",
            shown(accepts_from)
        ));
        lines.push("  of writes that are forgotten already".to_owned());
        lines.push("  next: if no client's clock was ever a minute ahead, run this with --clients-ahead 1m".to_owned());
    } else {
        lines.push("  new writes are accepted".to_owned());
    }
    lines
}
