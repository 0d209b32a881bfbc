//! Asks every known node at once for the membership.

use std::{cmp::Reverse, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout_at};
use tonic::{Request, transport::Channel};

use super::effort::fault_of;
use crate::wire::{
    Address, Fault, Reason,
    cluster::{GetMembershipRequest, GetMembershipResponse, cluster_service_client::ClusterServiceClient},
};

/// Longest wait for one node. It answers from its own view, without a quorum round, so a healthy node is much faster.
pub(super) const TIMEOUT: Duration = Duration::from_millis(700);
/// How much longer to wait for the other nodes once one answer names a leader.
const GRACE: Duration = Duration::from_millis(150);

/// Asks one node.
pub(super) async fn ask(
    address: &Address,
    channel: Channel,
    timeout: Duration,
) -> Result<GetMembershipResponse, Fault> {
    let mut request = Request::new(GetMembershipRequest {});
    request.set_timeout(timeout);
    let mut client = ClusterServiceClient::new(channel);
    match tokio::time::timeout(timeout, client.get_membership(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(fault_of(address, &status)),
        Err(_) => Err(Fault::new(Reason::Timeout, format!("{address} gave no answer in time"))),
    }
}

/// Asks all of `nodes` at once. Returns the answers, best first: those that know a leader, in the newest term, the
/// leader's own before others'. Ends early once a leader with a quorum has answered for itself.
///
/// Also returns the refusal of an overloaded node, if one refused.
pub(super) async fn ask_all(
    nodes: Vec<(Address, Channel)>,
    timeout: Duration,
) -> (Vec<GetMembershipResponse>, Option<Fault>) {
    let mut asking: FuturesUnordered<_> =
        nodes.into_iter().map(|(address, channel)| async move { ask(&address, channel, timeout).await }).collect();
    let mut answers: Vec<GetMembershipResponse> = Vec::new();
    let mut refusal = None;
    let mut until = Instant::now() + timeout;
    while let Ok(Some(answer)) = timeout_at(until, asking.next()).await {
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault) => {
                refusal = Some(fault).filter(|fault| fault.reason == Reason::Overloaded).or(refusal);
                continue;
            }
        };
        let newest = answers.iter().map(|other| other.term).max().unwrap_or(0);
        let certain = is_leaders_own(&answer) && answer.has_quorum && answer.term >= newest;
        if answer.leader_id > 0 {
            until = until.min(Instant::now() + GRACE);
        }
        answers.push(answer);
        if certain {
            break;
        }
    }
    answers.sort_by_key(|answer| Reverse(rank(answer)));
    (answers, refusal)
}

/// Whether the node that answered says that it leads.
fn is_leaders_own(answer: &GetMembershipResponse) -> bool {
    answer.leader_id > 0 && answer.leader_id == answer.answered_by_id
}

/// What makes one answer better than another, most important first.
fn rank(answer: &GetMembershipResponse) -> (bool, u64, bool, u64) {
    (answer.leader_id > 0, answer.term, is_leaders_own(answer), answer.commit_index)
}
