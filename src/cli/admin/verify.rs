//! `verify`: equal digests on all replicas at one index.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Context,
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

/// How far ahead of the replicas the first exact index lies, in time at the rate of writing seen, and at least in
/// entries. Doubled whenever some replica was past it before it heard of it.
const LEAD: Duration = Duration::from_millis(200);
const LEAD_ENTRIES: u64 = 8;
/// How long an exact index may take to come: when the writes cease, it never does.
const COMING: Duration = Duration::from_secs(2);
/// How long replicas that do not answer are asked again, at most half of the timeout: one that has just been started
/// takes a moment.
const STARTING: Duration = Duration::from_secs(2);
/// Between two looks at replicas that still apply what they have, or start.
const PAUSE: Duration = Duration::from_millis(50);

/// Compares all replicas; exit code 8 if two differ or one could not be asked.
///
/// At rest all stand at one index, and that is where they are compared. Under writes they never do: then all are asked
/// ahead of time for the state at an index that none has reached.
pub(super) async fn run(context: &Context<'_>, output: &mut Output) -> Result<()> {
    let deadline = Instant::now() + context.args.timeout;
    let begun = Instant::now();
    let survey = survey_all(context, begun + STARTING.min(context.args.timeout / 2)).await?;
    let before = survey.view.commit_index;
    let mut lead = LEAD;
    let verdict = loop {
        let request = GetStateDigestRequest { at_least_index: before, exact_index: 0 };
        let verdict = Verdict::of(round(context, &survey, &request, deadline).await);
        if verdict.is_at_one_index() || Instant::now() >= deadline {
            break verdict;
        }
        let rate = verdict.newest().saturating_sub(before) as f64 / begun.elapsed().as_secs_f64();
        let ahead = ((rate * lead.as_secs_f64()) as u64).max(LEAD_ENTRIES);
        let index = verdict.newest() + ahead + (rate * PAUSE.as_secs_f64()) as u64;
        let request = GetStateDigestRequest { at_least_index: index, exact_index: index };
        let answers = round(context, &survey, &request, deadline.min(Instant::now() + COMING + lead)).await;
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
        let failure = Failure::new(Exit::Unavailable, "the replicas did not stand at one index within the timeout");
        return Err(failure.next("writes were going on: repeat the command, or give it longer with --timeout"));
    }
    if verdict.is_good() { Ok(()) } else { Err(Failure::quiet(Exit::Wanting)) }
}

/// Asks who answers until everybody does, or for so long.
async fn survey_all(context: &Context<'_>, end: Instant) -> Result<Survey> {
    loop {
        let survey = survey(&context.cluster, &context.args.endpoints, context.args.timeout).await?;
        if survey.view.nodes.iter().all(|node| survey.answers_us(node)) || Instant::now() >= end {
            return Ok(survey);
        }
        sleep(PAUSE).await;
    }
}

/// What one replica said.
#[derive(Debug)]
pub(super) enum Answer {
    /// Its digest.
    Digest(GetStateDigestResponse),
    /// It is past the exact index.
    Passed,
    /// Nothing, or nothing of use.
    Silent,
}

async fn round(
    context: &Context<'_>,
    survey: &Survey,
    request: &GetStateDigestRequest,
    deadline: Instant,
) -> Vec<(Node, Answer)> {
    let ask = |node: &Node| {
        let node = node.clone();
        async move {
            // A node that the survey found mute is not waited for.
            let answer = match survey.answers_us(&node) {
                true => timeout_at(deadline, digest(context, &node, request)).await.unwrap_or(Answer::Silent),
                false => Answer::Silent,
            };
            (node, answer)
        }
    };
    join_all(survey.view.nodes.iter().map(ask)).await
}

async fn digest(context: &Context<'_>, node: &Node, request: &GetStateDigestRequest) -> Answer {
    let Ok(address) = node.address.parse::<Address>() else { return Answer::Silent };
    let mut client = AdminServiceClient::new(context.cluster.channel(&address));
    match client.get_state_digest(*request).await {
        Ok(answer) => Answer::Digest(answer.into_inner()),
        Err(status) if Fault::from_status(&status).reason == Reason::EtagMismatch => Answer::Passed,
        Err(_) => Answer::Silent,
    }
}

/// What the replicas answered.
#[derive(Debug)]
pub(super) struct Verdict {
    digests: BTreeMap<String, (u64, String)>,
    silent: Vec<String>,
}

impl Verdict {
    /// A node without an answer is silent.
    pub(super) fn of(answers: Vec<(Node, Answer)>) -> Self {
        let mut verdict = Self { digests: BTreeMap::new(), silent: Vec::new() };
        for (node, answer) in answers {
            match answer {
                Answer::Digest(answer) => {
                    let hex = answer.digest.iter().map(|byte| format!("{byte:02x}")).collect();
                    verdict.digests.insert(node.name, (answer.index, hex));
                }
                Answer::Passed | Answer::Silent => verdict.silent.push(node.name),
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
            table.row([node, "-", "does not answer"]);
        }
        output.table(&table)?;
        self.words().into_iter().try_for_each(|line| output.line(line))
    }

    /// PASS or FAIL, and why.
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
