//! The checks on a new node before anything is written, while a refusal costs nothing.

use std::time::Duration;

use super::{
    checks::{Judged, check, tolerance_check},
    operation::ChangeOperation,
    requests::Newcomer,
};
use crate::{
    membership::{Change, Layout, Node as LayoutNode},
    node::{Identity, PROTOCOL, VERSION, lifecycle::inspect_remote},
    types::{NodeId, limits},
    wire::{Address, Fault, admin::Check, raft::InspectResponse},
};

/// A clock offset above this is worth a warning.
const CLOCK_WARN: Duration = Duration::from_millis(250);
/// Free bytes that a node needs beyond twice the state. A snapshot is received beside the live file, hence twice.
const DISK_SPARE: u64 = 64 * 1024 * 1024;

/// The result of the checks on a node that is no member yet.
pub struct Preflight {
    /// The id that an earlier, interrupted run of the same command gave the node.
    pub adopted_id: Option<NodeId>,
    /// The checks.
    pub judged: Judged,
}

impl ChangeOperation {
    /// Runs every check on `newcomer`, and fills in the zone with which it was started if the operator named none.
    /// `change` is the change to judge; `leaving` is a member that is on its way out.
    pub async fn preflight(
        &self,
        newcomer: &mut Newcomer,
        change: impl FnOnce(LayoutNode) -> Change,
        leaving: Option<NodeId>,
    ) -> Preflight {
        let mut checks = vec![self.unique(newcomer, leaving)];
        let dial: Vec<String> = self.voters().into_iter().map(|(_, address)| address).collect();
        let asked_at = self.node.now_ms();
        let answer = inspect_remote(&self.node, &newcomer.address, dial).await;
        let answered_at = self.node.now_ms();
        checks.push(answers(newcomer, &answer));
        // Probed after the call, which may have taken seconds: a voter that died meanwhile is no fault of the new node.
        let layout = self.probe_voters().await;
        let mut adopted_id = None;
        if let Ok(found) = answer {
            adopted_id = self.adopted_before(newcomer, &found);
            checks.push(self.empty(newcomer, &found, adopted_id));
            checks.push(as_started(newcomer, &found));
            checks.push(version(&found));
            checks.push(self.reaches_voters(&found, &layout, leaving));
            checks.push(self.reached_by_voters(newcomer, &layout, leaving).await);
            checks.push(clock(&found, asked_at, answered_at));
            checks.push(self.disk(&found));
            if newcomer.zone.is_empty() {
                newcomer.zone = found.started_zone;
            }
        }
        let change = change(newcomer.in_layout());
        checks.push(tolerance_check(&layout, &change, false));
        Preflight { adopted_id, judged: Judged { checks, layout, change } }
    }

    /// Id and address of every voter, this leader included.
    fn voters(&self) -> Vec<(NodeId, String)> {
        let metrics = self.metrics();
        let voters = metrics.membership_config.voter_ids();
        voters
            .filter_map(|id| metrics.membership_config.get_node(&id).map(|member| (id, member.address.clone())))
            .collect()
    }

    /// Whether no other member has the name or the address.
    fn unique(&self, newcomer: &Newcomer, leaving: Option<NodeId>) -> Check {
        let metrics = self.metrics();
        for (id, member) in metrics.membership_config.nodes().filter(|(id, _)| Some(**id) != leaving) {
            if member.name.eq_ignore_ascii_case(newcomer.name.as_str()) {
                let detail = format!("{} (id {id}) at {} bears that name", member.name, member.address);
                return check("name and address", Err((detail, "choose another name, or remove that node first")));
            }
            if member.address == newcomer.address.as_str() {
                let detail = format!("{} (id {id}) is at {}", member.name, member.address);
                return check("name and address", Err((detail, "give the new node's own address")));
            }
        }
        check("name and address", Ok("unique in this cluster".into()))
    }

    /// The id that an earlier run of the same command gave the node, if that run ended after the adoption and before the
    /// node was added to the membership.
    ///
    /// Such a node has our identity and has never voted or received anything, so the id is still its own.
    fn adopted_before(&self, newcomer: &Newcomer, found: &InspectResponse) -> Option<NodeId> {
        let own = &self.replica.identity;
        let ours = found.cluster_id == own.cluster_id && found.epoch == own.epoch && !found.removed;
        let same = ours && found.name.eq_ignore_ascii_case(newcomer.name.as_str());
        (same && found.pristine).then_some(found.node_id)
    }

    /// Whether the node holds no data, or only the identity that an earlier run gave it. Old data would bring back votes and
    /// entries of another history.
    fn empty(&self, newcomer: &Newcomer, found: &InspectResponse, adopted_id: Option<NodeId>) -> Check {
        let Identity { cluster_id: own, epoch, .. } = &self.replica.identity;
        let fresh_start = "stop it, start it again with an empty data directory, and add that";
        let result = if found.cluster_id.is_empty() {
            Ok("no data of any cluster".into())
        } else if adopted_id.is_some() {
            Ok(format!("was adopted as {} before, by this same command", newcomer.name))
        } else if found.removed {
            Err((
                format!("holds the data of node id {}, which was removed from its cluster", found.node_id),
                fresh_start,
            ))
        } else if found.cluster_id == *own && found.epoch != *epoch {
            Err((
                format!("was left behind by a recovery: it is at epoch {}, this cluster at {epoch}", found.epoch),
                fresh_start,
            ))
        } else if found.cluster_id == *own && self.metrics().membership_config.get_node(&found.node_id).is_none() {
            Err((
                format!("holds the data of node id {}, which was removed from this cluster", found.node_id),
                fresh_start,
            ))
        } else if found.cluster_id == *own {
            Err((format!("is {} (id {}) of this cluster already", found.name, found.node_id), fresh_start))
        } else {
            Err((format!("belongs to another cluster, {}", found.cluster_id), fresh_start))
        };
        check("empty node", result)
    }

    /// Whether the new node reached the voters that this leader reaches, and found the right nodes there.
    fn reaches_voters(&self, found: &InspectResponse, layout: &Layout, leaving: Option<NodeId>) -> Check {
        let own = &self.replica.identity;
        for (id, address) in self.voters() {
            let Some(dialled) = found.dialled.iter().find(|dialled| dialled.address == address) else { continue };
            // A voter that this leader does not reach either, or that is to leave, may be replaced there by anything, even
            // by an empty node.
            if Some(id) == leaving || layout.node(id).is_some_and(|node| !node.healthy) {
                continue;
            }
            if !dialled.reachable {
                let detail = format!("it does not reach {address}: {}", dialled.detail);
                return check("reaches the voters", Err((detail, "open the way between the machines, both ways")));
            }
            if dialled.node_id != id || dialled.cluster_id != own.cluster_id {
                let detail = format!("at {address} it finds node id {} of another place", dialled.node_id);
                return check("reaches the voters", Err((detail, "give every node an address that all others dial")));
            }
        }
        check("reaches the voters", Ok("every one that is up".into()))
    }

    /// Whether the voters reach the new node, too: its address may mean one thing on the leader's machine and another, or
    /// nothing, on theirs.
    async fn reached_by_voters(&self, newcomer: &Newcomer, layout: &Layout, leaving: Option<NodeId>) -> Check {
        let own = self.replica.identity.node_id;
        let answering = |id: NodeId| layout.node(id).is_some_and(|node| node.healthy);
        let asked = self.voters().into_iter().filter(|(id, _)| *id != own && Some(*id) != leaving && answering(*id));
        let asking = asked.map(|(_, address)| async move {
            let voter = address.parse::<Address>().ok()?;
            let answer = inspect_remote(&self.node, &voter, vec![newcomer.address.to_string()]).await.ok()?;
            let dialled = answer.dialled.into_iter().next().filter(|dialled| !dialled.reachable)?;
            Some(format!("{} does not reach it: {}", answer.name, dialled.detail))
        });
        match futures::future::join_all(asking).await.into_iter().flatten().next() {
            None => check("reached by the voters", Ok(format!("at {}", newcomer.address))),
            Some(detail) => {
                let hint = "give the address that all others dial, and open the way between the machines, both ways";
                check("reached by the voters", Err((detail, hint)))
            }
        }
    }

    /// Whether the node has room for the state and for a snapshot beside it.
    fn disk(&self, found: &InspectResponse) -> Check {
        let need = self.replica.slot.current().size_bytes().saturating_mul(2).saturating_add(DISK_SPARE);
        let mib = |bytes: u64| bytes / (1024 * 1024);
        match found.disk_free_bytes >= need {
            true => check("disk space", Ok(format!("{} MiB free", mib(found.disk_free_bytes)))),
            false => {
                let detail = format!("{} MiB free, {} MiB needed", mib(found.disk_free_bytes), mib(need));
                check("disk space", Err((detail, "make room on its disk")))
            }
        }
    }
}

/// Whether a node answers at the address at all.
fn answers(newcomer: &Newcomer, answer: &Result<InspectResponse, Fault>) -> Check {
    let hint = "start it with `chat-node run` on an empty data directory, and check address and firewall";
    match answer {
        Ok(_) => check("answers", Ok(format!("at {}", newcomer.address))),
        Err(fault) => check("answers", Err((format!("nothing usable at {}: {fault}", newcomer.address), hint))),
    }
}

/// Compares the operator's words with the settings of the new node, because it will start again with its own settings.
fn as_started(newcomer: &Newcomer, found: &InspectResponse) -> Check {
    let Newcomer { name, address, zone } = newcomer;
    let differs = |given: &str, own: &str| !own.is_empty() && !given.eq_ignore_ascii_case(own);
    let result = if differs(name.as_str(), &found.started_as) {
        let own = &found.started_as;
        Err((
            format!("it was started with --name {own}, not {name}"),
            format!("add it as {own}, or start it again as {name}"),
        ))
    } else if !zone.is_empty() && differs(zone, &found.started_zone) {
        let own = &found.started_zone;
        Err((
            format!("it was started with --zone {own}, not {zone}"),
            format!("give --zone {own}, or start it again with --zone {zone}"),
        ))
    } else if differs(address.as_str(), &found.advertises) {
        let own = &found.advertises;
        let hint = format!("give {own}, or start it with --advertise {address}");
        Err((format!("it advertises {own}, not {address}"), hint))
    } else {
        Ok("name, zone and address as it was started with".to_owned())
    };
    match &result {
        Ok(detail) => check("settings", Ok(detail.clone())),
        Err((detail, hint)) => check("settings", Err((detail.clone(), hint.as_str()))),
    }
}

/// Whether the node speaks the same protocol. Its program version may differ.
fn version(found: &InspectResponse) -> Check {
    match found.protocol == PROTOCOL {
        true => check("version", Ok(format!("{}, protocol {}", found.version, found.protocol))),
        false => {
            let detail = format!(
                "it runs {} with protocol {}, this cluster {} with protocol {}",
                found.version, found.protocol, VERSION, PROTOCOL
            );
            check("version", Err((detail, "install the same version")))
        }
    }
}

/// Compares the clock of the new node with the middle of the call that asked for it.
fn clock(found: &InspectResponse, asked_at: u64, answered_at: u64) -> Check {
    let middle = asked_at + answered_at.saturating_sub(asked_at) / 2;
    let offset = Duration::from_millis(middle.abs_diff(found.time_ms));
    // Half the length of the call is uncertainty, not offset.
    let uncertain = Duration::from_millis(answered_at.saturating_sub(asked_at) / 2);
    let offset = offset.saturating_sub(uncertain);
    let detail = format!("{} ms apart", offset.as_millis());
    if offset > limits::CLOCK_OFFSET {
        return check("clock", Err((detail, "set its clock, with NTP best")));
    }
    let mut check = check("clock", Ok(detail));
    if offset > CLOCK_WARN {
        check.hint = "set its clock, with NTP best".into();
    }
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_node_is_added_as_it_was_started() {
        let started = InspectResponse {
            started_as: "n4".into(),
            started_zone: "b".into(),
            advertises: "h4:7400".into(),
            ..Default::default()
        };
        let verdict = |name: &str, address: &str, zone: &str| {
            let check = as_started(&Newcomer::parse(name, address, zone).unwrap(), &started);
            (check.ok, check.detail)
        };
        assert!(verdict("n4", "h4:7400", "b").0);
        assert!(verdict("N4", "h4:7400", "").0, "the zone is then its own");
        assert_eq!(verdict("n9", "h4:7400", "b"), (false, "it was started with --name n4, not n9".into()));
        assert_eq!(verdict("n4", "h4:7400", "c"), (false, "it was started with --zone b, not c".into()));
        assert_eq!(verdict("n4", "localhost:7400", "b").1, "it advertises h4:7400, not localhost:7400");
        let unnamed = InspectResponse::default();
        assert!(as_started(&Newcomer::parse("n9", "h4:7400", "c").unwrap(), &unnamed).ok);
    }

    #[test]
    fn a_clock_is_judged_against_the_middle_of_the_call() {
        let at = |time_ms| InspectResponse { time_ms, ..Default::default() };
        assert!(clock(&at(10_050), 10_000, 10_100).ok);
        assert!(clock(&at(10_400), 10_000, 10_000).ok);
        assert!(!clock(&at(10_400), 10_000, 10_000).hint.is_empty(), "400 ms is worth a warning");
        assert!(!clock(&at(13_000), 10_000, 10_000).ok);
        assert!(!clock(&at(7_000), 10_000, 10_000).ok);
        assert!(clock(&at(12_500), 10_000, 14_000).ok, "a slow call says little about the clock");
    }
}
