//! `chat-node recover`: makes a one-voter cluster from a survivor, for a cluster that has lost its quorum for good.
//!
//! The command first shows what the survivor holds and how it differs from the other directories given, then asks for
//! the cluster id as consent, then changes the directory. Until consent is given it only reads. Which directories are
//! usable, and the recovery itself, are in [`Recovery`].

use std::{
    io::BufRead,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::failure::start_failure;
use crate::{
    cli::{Exit, Failure, Output, Result, text},
    config::NodeConfig,
    machine::query::Missing,
    node::{Compared, Recovery, Settings, Survivor},
    types::counted,
};

/// Recovers from the survivor in `dir` after comparing it with the directories in `compare`. `consent` is the cluster
/// id; without it the command asks on standard input.
pub async fn recover(dir: &Path, compare: &[PathBuf], consent: Option<String>, out: &mut Output) -> Result<()> {
    let settings = Settings::production(NodeConfig::defaults(dir));
    let recovery = Recovery::open(settings, compare).await.map_err(|error| start_failure(error, dir))?;
    let cluster_id = recovery.survivor.identity.cluster_id.clone();
    for line in report(&recovery) {
        out.talk(text::line(&line));
    }
    let consent = match consent {
        Some(given) => given,
        None => ask(out)?,
    };
    if consent != cluster_id {
        let failure = Failure::new(Exit::Refused, "that is not the cluster's id: nothing was changed");
        return Err(failure.next(format!("to go on, give the id in full: {cluster_id}")));
    }
    let shown = json(&recovery);
    let left = left_behind(&recovery.survivor);
    let identity = recovery.carry_out().await.map_err(|error| start_failure(error, dir))?;
    if out.is_json() {
        return out.json(&json!({ "clusterId": cluster_id, "epoch": identity.epoch.to_string(), "report": shown }));
    }
    out.line(format!("cluster {} is now {} alone, in epoch {}", cluster_id, identity.name, identity.epoch))?;
    out.line(format!("start it: chat-node run --data-dir {}", dir.display()))?;
    match left.is_empty() {
        true => Ok(()),
        false => out.line(format!("then wipe {}, start them empty, and add them: chat-admin add-node", left.join(" "))),
    }
}

fn ask(out: &mut Output) -> Result<String> {
    out.talk("to go on, type the cluster id:");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

/// Names of the other members: their data is of the old epoch and useless after the recovery.
fn left_behind(survivor: &Survivor) -> Vec<String> {
    let others = survivor.members.iter().filter(|(id, _)| *id != survivor.identity.node_id);
    others.map(|(_, member)| member.name.clone()).collect()
}

/// What the operator reads before giving consent.
fn report(recovery: &Recovery) -> Vec<String> {
    let survivor = &recovery.survivor;
    let mut lines = describe("recovers from", survivor);
    for compared in &recovery.compared {
        lines.push(String::new());
        lines.extend(describe("compared with", &compared.other));
        lines.extend(difference("lost by this recovery", &compared.lost));
        lines.extend(difference("only the recovered one has", &compared.gained));
    }
    lines.push(String::new());
    let best = recovery.recommended();
    match best.dir == survivor.dir {
        true => lines.push(format!("recommended: yes, {} has the newest log of those shown", survivor.identity.name)),
        false => lines.push(format!(
            "recommended: NO. {} has a newer log: recover from {} instead",
            best.identity.name,
            best.dir.display()
        )),
    }
    lines.push(format!(
        "afterwards {} is the only voter, in epoch {}; it and the members of epoch {} never speak again",
        survivor.identity.name,
        survivor.identity.epoch.saturating_add(1),
        survivor.identity.epoch
    ));
    let left = left_behind(survivor);
    if !left.is_empty() {
        lines.push(format!("left behind: {}; what only they hold is lost, acknowledged or not", left.join(" ")));
    }
    lines
}

/// The survivor's log and contents. Entries at the end of its log may or may not have been acknowledged, and nothing on
/// one disk can tell: they are kept.
fn describe(what: &str, survivor: &Survivor) -> Vec<String> {
    let (identity, holdings) = (&survivor.identity, &survivor.holdings);
    let (term, index) = survivor.last;
    let unsure = match survivor.unsure {
        0 => String::new(),
        some => format!(", the last {some} not known to be agreed on: kept, for they may have been acknowledged"),
    };
    let mut lines = vec![
        format!("{what} {}", survivor.dir.display()),
        format!(
            "  node        {} (id {}) of cluster {}, epoch {}",
            identity.name, identity.node_id, identity.cluster_id, identity.epoch
        ),
        format!("  log         up to index {index} (term {term}){unsure}"),
        format!("  last write  {}", moment(holdings.time_ms)),
        format!(
            "  holds       {}, {}, {}",
            counted(holdings.accounts, "account"),
            counted(holdings.conversations, "conversation"),
            counted(holdings.messages, "message")
        ),
    ];
    if identity.removed {
        lines.push("  removed     its cluster removed it: it knows nothing of what came after".to_owned());
    }
    lines
}

/// What one side lacks, with the conversations that lack most by name.
fn difference(what: &str, lacking: &Missing) -> Vec<String> {
    if lacking.is_empty() {
        return vec![format!("  {what}: nothing")];
    }
    let Missing { accounts, conversations, events, named } = lacking;
    let mut lines = vec![format!(
        "  {what}: {}, {} in {}",
        counted(*accounts, "account"),
        counted(*events, "event"),
        counted(*conversations, "conversation")
    )];
    lines.extend(named.iter().map(|(name, events)| format!("    {events:>6}  {name}")));
    if (named.len() as u64) < *conversations {
        lines.push(format!("            and {} more", conversations - named.len() as u64));
    }
    lines
}

fn moment(time_ms: u64) -> String {
    match SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(time_ms)) {
        Some(_) if time_ms == 0 => "none".to_owned(),
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => format!("{time_ms} ms"),
    }
}

/// The same for programs. Numbers of 64 bits are strings, as in the JSON mapping of protobuf.
fn json(recovery: &Recovery) -> Value {
    let lacking = |lacking: &Missing| {
        json!({
            "accounts": lacking.accounts.to_string(),
            "conversations": lacking.conversations.to_string(),
            "events": lacking.events.to_string(),
        })
    };
    let survivor = |survivor: &Survivor| {
        json!({
            "dir": survivor.dir,
            "node": survivor.identity.name,
            "term": survivor.last.0.to_string(),
            "lastIndex": survivor.last.1.to_string(),
            "notKnownCommitted": survivor.unsure.to_string(),
            "lastTime": moment(survivor.holdings.time_ms),
            "accounts": survivor.holdings.accounts.to_string(),
            "conversations": survivor.holdings.conversations.to_string(),
            "messages": survivor.holdings.messages.to_string(),
        })
    };
    let compared = |compared: &Compared| {
        json!({
            "other": survivor(&compared.other),
            "lost": lacking(&compared.lost),
            "gained": lacking(&compared.gained),
        })
    };
    json!({
        "survivor": survivor(&recovery.survivor),
        "compared": recovery.compared.iter().map(compared).collect::<Vec<_>>(),
        "recommended": recovery.recommended().dir,
    })
}
