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
        Address,
        admin::{GetStateDigestRequest, GetStateDigestResponse, admin_service_client::AdminServiceClient},
        cluster::Node,
    },
};

/// How long to wait between rounds while replicas stand at different indexes.
const PAUSE: Duration = Duration::from_millis(50);

/// Compares all replicas; exit code 8 if two differ or one could not be asked.
pub(super) async fn run(context: &Context<'_>, output: &mut Output) -> Result<()> {
    let deadline = Instant::now() + context.args.timeout;
    let survey = survey(&context.cluster, &context.args.endpoints, context.args.timeout).await?;
    let mut at_least = survey.view.commit_index;
    let verdict = loop {
        let verdict = Verdict::of(round(context, &survey, at_least, deadline).await);
        if verdict.is_at_one_index() || Instant::now() >= deadline {
            break verdict;
        }
        at_least = verdict.newest();
        sleep(PAUSE).await;
    };
    verdict.print(output)?;
    if !verdict.is_at_one_index() {
        let failure = Failure::new(Exit::Unavailable, "the replicas did not stand at one index within the timeout");
        return Err(failure.next("writes were going on: repeat the command, or give it longer with --timeout"));
    }
    if verdict.is_good() { Ok(()) } else { Err(Failure::quiet(Exit::Wanting)) }
}

async fn round(
    context: &Context<'_>,
    survey: &Survey,
    at_least: u64,
    deadline: Instant,
) -> Vec<(Node, Option<GetStateDigestResponse>)> {
    let ask = |node: &Node| {
        let node = node.clone();
        async move {
            // A node that the survey found mute is not waited for.
            let answer = match survey.answers_us(&node) {
                true => timeout_at(deadline, digest(context, &node, at_least)).await.ok().flatten(),
                false => None,
            };
            (node, answer)
        }
    };
    join_all(survey.view.nodes.iter().map(ask)).await
}

async fn digest(context: &Context<'_>, node: &Node, at_least_index: u64) -> Option<GetStateDigestResponse> {
    let address: Address = node.address.parse().ok()?;
    let mut client = AdminServiceClient::new(context.cluster.channel(&address));
    client.get_state_digest(GetStateDigestRequest { at_least_index }).await.ok().map(tonic::Response::into_inner)
}

/// What the replicas answered.
#[derive(Debug)]
pub(super) struct Verdict {
    digests: BTreeMap<String, (u64, String)>,
    silent: Vec<String>,
}

impl Verdict {
    /// A node without an answer is silent.
    pub(super) fn of(answers: Vec<(Node, Option<GetStateDigestResponse>)>) -> Self {
        let mut verdict = Self { digests: BTreeMap::new(), silent: Vec::new() };
        for (node, answer) in answers {
            match answer {
                Some(answer) => {
                    let hex = answer.digest.iter().map(|byte| format!("{byte:02x}")).collect();
                    verdict.digests.insert(node.name, (answer.index, hex));
                }
                None => verdict.silent.push(node.name),
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
