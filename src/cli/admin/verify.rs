//! The command `verify`: compares the state digests of all replicas at one log index.
//!
//! At rest, all replicas have applied the same index, and their current digests are compared. Under writes they never
//! have. Then every replica is asked in advance for the digest at an exact index that none has applied yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    CommandContext,
    survey::{Survey, survey},
};
use crate::{
    cli::{Exit, Failure, Output, Result, Table, text},
    wire::{
        Address, Fault, Reason,
        admin::{GetStateDigestRequest, GetStateDigestResponse, admin_service_client::AdminServiceClient},
        cluster::Node,
    },
};

/// How far ahead of the replicas the first exact index lies, in time at the observed write rate. Doubled whenever a
/// replica had passed the index before the request reached it.
const LEAD: Duration = Duration::from_millis(200);
/// The same in entries, as a minimum.
const LEAD_ENTRIES: u64 = 8;
/// How long to wait for the exact index beyond its lead. If writes stop, no replica ever reaches it.
const EXACT_INDEX_TIMEOUT: Duration = Duration::from_secs(2);
/// How long silent replicas are asked again, at most half of the timeout: a replica that has just started takes a moment.
const STARTUP_GRACE: Duration = Duration::from_secs(2);
/// Pause between two rounds.
const PAUSE: Duration = Duration::from_millis(50);

/// Compares all replicas. Exit code 8 if two differ or one does not answer, 6 if no common index was found in time.
pub(super) async fn run(context: &CommandContext<'_>, output: &mut Output) -> Result<()> {
    let deadline = Instant::now() + context.args.timeout;
    let begun = Instant::now();
    // Fixed for the whole run: replicas that join or leave meanwhile do not count.
    let survey = survey_all(context, begun + STARTUP_GRACE.min(context.args.timeout / 2)).await?;
    let before = survey.view.commit_index;
    let mut lead = LEAD;
    let verdict = loop {
        // First the current digests. `at_least_index` makes every replica catch up with all writes before this command.
        let request = GetStateDigestRequest { at_least_index: before, exact_index: 0 };
        let verdict = Verdict::of(round(context, &survey, &request, deadline).await);
        if verdict.is_at_one_index() || Instant::now() >= deadline {
            break verdict;
        }
        // The indexes differ, so writes are under way. Ask for one exact index ahead of all replicas.
        let rate = verdict.newest().saturating_sub(before) as f64 / begun.elapsed().as_secs_f64();
        let ahead = ((rate * lead.as_secs_f64()) as u64).max(LEAD_ENTRIES);
        let index = verdict.newest() + ahead + (rate * PAUSE.as_secs_f64()) as u64;
        let request = GetStateDigestRequest { at_least_index: index, exact_index: index };
        let answers =
            round(context, &survey, &request, deadline.min(Instant::now() + EXACT_INDEX_TIMEOUT + lead)).await;
        // Replicas that were silent from the start stay silent; only the others decide whether this round worked.
        let asked = answers.iter().filter(|(node, _)| survey.answers_us(node));
        if asked.clone().all(|(_, answer)| matches!(answer, Answer::Digest(_))) {
            break Verdict::of(answers);
        }
        if asked.clone().any(|(_, answer)| matches!(answer, Answer::Passed)) {
            lead *= 2;
        }
        sleep(PAUSE).await;
    };
    verdict.print(output)?;
    if !verdict.is_at_one_index() {
        let failure = Failure::new(Exit::Unavailable, "the replicas were at different indexes until the timeout");
        return Err(failure.next("writes are under way: repeat the command, or allow more time with --timeout"));
    }
    if verdict.is_good() { Ok(()) } else { Err(Failure::quiet(Exit::ChecksFailed)) }
}

/// Repeats the survey until all nodes answer, or until `end`.
async fn survey_all(context: &CommandContext<'_>, end: Instant) -> Result<Survey> {
    loop {
        let survey = survey(&context.cluster, &context.args.endpoints, context.args.timeout).await?;
        if survey.view.nodes.iter().all(|node| survey.answers_us(node)) || Instant::now() >= end {
            return Ok(survey);
        }
        sleep(PAUSE).await;
    }
}

/// The answer of one replica.
#[derive(Debug)]
pub(super) enum Answer {
    /// Its digest.
    Digest(GetStateDigestResponse),
    /// It has passed the exact index.
    Passed,
    /// It did not answer, or not with a digest.
    Silent,
}

async fn round(
    context: &CommandContext<'_>,
    survey: &Survey,
    request: &GetStateDigestRequest,
    deadline: Instant,
) -> Vec<(Node, Answer)> {
    let ask = |node: &Node| {
        let node = node.clone();
        async move {
            // Do not wait for a node that did not answer the survey.
            let answer = match survey.answers_us(&node) {
                true => timeout_at(deadline, digest(context, &node, request)).await.unwrap_or(Answer::Silent),
                false => Answer::Silent,
            };
            (node, answer)
        }
    };
    join_all(survey.view.nodes.iter().map(ask)).await
}

async fn digest(context: &CommandContext<'_>, node: &Node, request: &GetStateDigestRequest) -> Answer {
    let Ok(address) = node.address.parse::<Address>() else { return Answer::Silent };
    let mut client = AdminServiceClient::new(context.cluster.channel(&address));
    match client.get_state_digest(*request).await {
        Ok(answer) => Answer::Digest(answer.into_inner()),
        Err(status) if Fault::from_status(&status).reason == Reason::EtagMismatch => Answer::Passed,
        Err(_) => Answer::Silent,
    }
}

/// The answers of one round. Each node is in `digests` or in `silent`.
#[derive(Debug)]
pub(super) struct Verdict {
    digests: BTreeMap<String, (u64, String)>,
    silent: Vec<String>,
    /// Why a silent node does not answer, as far as the cluster knows.
    reasons: BTreeMap<String, String>,
}

impl Verdict {
    /// Sorts the answers. A node that passed the exact index counts as silent.
    pub(super) fn of(answers: Vec<(Node, Answer)>) -> Self {
        let mut verdict = Self { digests: BTreeMap::new(), silent: Vec::new(), reasons: BTreeMap::new() };
        for (node, answer) in answers {
            match answer {
                Answer::Digest(answer) => {
                    let hex = answer.digest.iter().map(|byte| format!("{byte:02x}")).collect();
                    verdict.digests.insert(node.name, (answer.index, hex));
                }
                Answer::Passed | Answer::Silent => {
                    if !node.condition.is_empty() {
                        let reason = format!("{}: {}", node.condition, node.condition_reason);
                        verdict.reasons.insert(node.name.clone(), reason);
                    }
                    verdict.silent.push(node.name);
                }
            }
        }
        verdict
    }

    fn newest(&self) -> u64 {
        self.digests.values().map(|(index, _)| *index).max().unwrap_or(0)
    }

    fn is_at_one_index(&self) -> bool {
        self.digests.values().all(|(index, _)| *index == self.newest())
    }

    fn is_equal(&self) -> bool {
        self.digests.values().collect::<BTreeSet<_>>().len() == 1
    }

    pub(super) fn is_good(&self) -> bool {
        self.is_equal() && self.silent.is_empty()
    }

    fn print(&self, output: &mut Output) -> Result<()> {
        if output.is_json() {
            let replicas = self
                .digests
                .iter()
                .map(|(node, (index, digest))| json!({ "node": node, "index": index.to_string(), "digest": digest }));
            let replicas: Vec<_> = replicas.collect();
            return output.json(&json!({ "equal": self.is_equal(), "replicas": replicas, "silent": self.silent }));
        }
        let mut table = Table::new(["NODE", "INDEX", "DIGEST"]);
        for (node, (index, digest)) in &self.digests {
            table.row([node, &index.to_string(), digest]);
        }
        for node in &self.silent {
            let reason = self.reasons.get(node).map_or("does not answer", String::as_str);
            table.row([node, "-", reason]);
        }
        output.table(&table)?;
        self.words().into_iter().try_for_each(|line| output.line(line))
    }

    /// PASS or FAIL, and why. `None` if the digests are of different indexes, which says nothing.
    pub(super) fn words(&self) -> Option<String> {
        if !self.is_at_one_index() {
            return None;
        }
        Some(match (self.is_equal(), self.silent.as_slice()) {
            (true, []) => format!("PASS: {} replicas are equal at index {}", self.digests.len(), self.newest()),
            (true, silent) => {
                let silent = text::line(&silent.join(" ")).into_owned();
                format!("FAIL: {silent} could not be asked; the others are equal at index {}", self.newest())
            }
            (false, _) if self.digests.is_empty() => "FAIL: no replica could be asked".to_owned(),
            (false, _) => format!("FAIL: replicas differ at index {}", self.newest()),
        })
    }
}
