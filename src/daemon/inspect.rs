//! `chat-node inspect`: what a stopped node holds on disk.
//!
//! Reads only. It needs the lock of the data directory, so it refuses while the node runs.

use std::path::Path;

use super::failure::start_failure;
use crate::{
    cli::{Output, Result},
    config::NodeConfig,
    node::{self, Settings},
    wire::{json, raft::LogId, store::Inspection},
};

/// Prints identity, vote, log, state and membership of the node in `dir`.
pub async fn inspect(dir: &Path, out: &mut Output) -> Result<()> {
    let settings = Settings::production(NodeConfig::defaults(dir));
    let found = node::inspect(settings).await.map_err(|error| start_failure(error, dir))?;
    if out.is_json() {
        return out.line(json::to_string(&found));
    }
    for line in report(&found) {
        out.line(line)?;
    }
    Ok(())
}

fn report(found: &Inspection) -> Vec<String> {
    let Some(identity) = &found.identity else { return vec!["an empty directory: no identity yet".into()] };
    let id = |id: &Option<LogId>| match id {
        Some(id) => format!("{} (term {})", id.index, id.term),
        None => "none".into(),
    };
    let vote = match &found.vote {
        Some(vote) if vote.committed => format!("term {} for leader node {}", vote.term, vote.node_id),
        Some(vote) => format!("term {} for node {}", vote.term, vote.node_id),
        None => "none".into(),
    };
    let mut lines = vec![
        format!("cluster    {} (epoch {})", identity.cluster_id, identity.epoch),
        format!("node       {} (id {}) at {}", identity.name, identity.node_id, identity.address),
        format!("vote       {vote}"),
        format!("log        {} to {}, {} bytes", found.first_log_index, id(&found.last_log_id), found.log_bytes),
        format!("state      applied {}, {} bytes", id(&found.applied), found.state_bytes),
        format!("digest     {}", found.digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    ];
    if identity.removed {
        lines.insert(2, "removed    yes: it will not start again from this data".into());
    }
    lines.extend(members(found));
    lines
}

/// One line for each member. A node in any of the two configurations of a joint one is a voter.
fn members(found: &Inspection) -> Vec<String> {
    let membership = found.membership.as_ref().and_then(|stored| stored.membership.as_ref());
    let mut lines = Vec::new();
    for member in membership.iter().flat_map(|membership| &membership.members) {
        let mut sets = membership.iter().flat_map(|membership| &membership.configs);
        let role = if sets.any(|set| set.node_ids.contains(&member.node_id)) { "voter" } else { "learner" };
        lines.push(format!("{role:<10} {} (id {}) at {} {}", member.name, member.node_id, member.address, member.zone));
    }
    lines
}
