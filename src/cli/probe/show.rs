//! Prints the report of a probe as text or as one JSON object.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    cli::{Exit, Failure, Output, Result, Style, Table, text},
    client::{
        ledger::Kind,
        probe::{Change, Metric, Replica, Report},
    },
};

/// Digits of a digest in the table.
const DIGITS: usize = 16;

/// Prints a report with its verdict.
///
/// # Errors
/// [`Exit::ChecksFailed`] if a metric failed.
pub fn conclude(report: &Report, output: &mut Output) -> Result<()> {
    if output.is_json() {
        output.json(&document(report))?;
        return if report.passed() { Ok(()) } else { Err(Failure::quiet(Exit::ChecksFailed)) };
    }
    figures(report).into_iter().try_for_each(|line| output.line(line))?;
    output.table(&replicas(&report.replicas))?;
    verdict(report, output)
}

/// Prints examples of violations, and PASS or FAIL for each metric.
///
/// # Errors
/// [`Exit::ChecksFailed`] if a metric failed.
pub fn verdict(report: &Report, output: &mut Output) -> Result<()> {
    for violation in report.findings.examples() {
        output.line(format!("{}: {}", violation.kind.as_str(), text::line(&violation.what)))?;
    }
    for metric in report.metrics() {
        output.line(line(&metric, output.has_colour()))?;
    }
    if report.passed() { Ok(()) } else { Err(Failure::quiet(Exit::ChecksFailed)) }
}

/// `PASS  durability     …  (bound: …)`.
fn line(metric: &Metric, colour: bool) -> String {
    let (word, style) = if metric.passed { ("PASS", Style::Good) } else { ("FAIL", Style::Bad) };
    let bound = Style::Dim.paint(colour, format!("(bound: {})", metric.bound));
    format!("{}  {:<13}  {}  {bound}", style.paint(colour, word), metric.name, text::line(&metric.figure))
}

/// The figures that have no PASS or FAIL of their own.
fn figures(report: &Report) -> Vec<String> {
    let found = |kind: Kind| report.findings.count(kind);
    let settled = match report.unknown {
        0 => String::new(),
        _ => format!(" ({} of them settled at the end)", report.settled),
    };
    let mut refused = format!("refused {}", report.refused.values().sum::<u64>());
    if !report.refused.is_empty() {
        let reasons = report.refused.iter().map(|(reason, count)| format!("{} {count}", reason.as_str()));
        refused.push_str(&format!(" ({})", reasons.collect::<Vec<_>>().join(", ")));
    }
    let mut lines = vec![
        format!(
            "sent {}, acknowledged {}, unknown {}{settled}, {refused}",
            report.sent, report.acknowledged, report.unknown
        ),
        format!(
            "missing {}, duplicated {}, reordered {}",
            found(Kind::Missing) + found(Kind::Changed),
            found(Kind::Duplicated),
            found(Kind::Reordered)
        ),
        format!(
            "{} reads, {} events; half of the writes within {}, 99 % within {}",
            report.reads,
            report.events,
            millis(report.latencies.0),
            millis(report.latencies.1)
        ),
        format!(
            "longest write gap {}, {:.1} s into the run: {}",
            seconds(report.gap.length),
            report.gap.at.as_secs_f64(),
            cause(report)
        ),
    ];
    if !report.outage.is_zero() {
        lines.push(format!("a majority of the voters did not answer for {}", seconds(report.outage)));
    }
    lines
}

/// The cause of the longest write gap, as far as the probe saw one.
fn cause(report: &Report) -> String {
    match &report.gap.change {
        Some(change) => changed(change),
        None => "no change of leader during it".to_owned(),
    }
}

/// A change of leader: `n1 was followed by n4 as leader, term 3`.
fn changed(change: &Change) -> String {
    let leader = text::line(&change.leader);
    match change.deposed.as_str() {
        deposed if deposed == change.leader => format!("{leader} was elected again, term {}", change.term),
        "" => format!("{leader} was elected, term {}", change.term),
        deposed => format!("{} was followed by {leader} as leader, term {}", text::line(deposed), change.term),
    }
}

/// What each replica held at the end: its number of messages, and its digest at one index.
fn replicas(replicas: &[Replica]) -> Table {
    let mut table = Table::new(["NODE", "MESSAGES", "INDEX", "DIGEST"]);
    for replica in replicas {
        let messages = replica.messages.map_or("does not answer".to_owned(), |messages| messages.to_string());
        let (index, digest) = match &replica.digest {
            Some((index, digest)) => (index.to_string(), digest.chars().take(DIGITS).collect()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        table.row([&replica.name, &messages, &index, &digest]);
    }
    table
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

/// The report as JSON. 64-bit integers are strings, as in proto3 JSON.
fn document(report: &Report) -> Value {
    let metrics: Vec<Value> = report
        .metrics()
        .iter()
        .map(|metric| json!({ "name": metric.name, "passed": metric.passed, "figure": metric.figure, "bound": metric.bound }))
        .collect();
    let found: serde_json::Map<String, Value> = report
        .findings
        .counts()
        .iter()
        .map(|(kind, count)| (kind.as_str().to_owned(), count.to_string().into()))
        .collect();
    let refused: serde_json::Map<String, Value> =
        report.refused.iter().map(|(reason, count)| (reason.as_str().to_owned(), count.to_string().into())).collect();
    let replica = |replica: &Replica| {
        json!({
            "node": replica.name,
            "messages": replica.messages.map(|messages| messages.to_string()),
            "index": replica.digest.as_ref().map(|(index, _)| index.to_string()),
            "digest": replica.digest.as_ref().map(|(_, digest)| digest),
        })
    };
    json!({
        "passed": report.passed(),
        "metrics": metrics,
        "seconds": report.elapsed.as_secs_f64(),
        "sent": report.sent.to_string(),
        "acknowledged": report.acknowledged.to_string(),
        "unknown": report.unknown.to_string(),
        "settled": report.settled.to_string(),
        "refused": refused,
        "missing": (report.findings.count(Kind::Missing) + report.findings.count(Kind::Changed)).to_string(),
        "duplicated": report.findings.count(Kind::Duplicated).to_string(),
        "reordered": report.findings.count(Kind::Reordered).to_string(),
        "violations": found,
        "examples": report.findings.examples().iter().map(|violation| &violation.what).collect::<Vec<_>>(),
        "reads": report.reads.to_string(),
        "events": report.events.to_string(),
        "p50Ms": report.latencies.0.as_secs_f64() * 1e3,
        "p99Ms": report.latencies.1.as_secs_f64() * 1e3,
        "longestWriteGap": {
            "seconds": report.gap.length.as_secs_f64(),
            "at": report.gap.at.as_secs_f64(),
            "leaderChange": report.gap.change.as_ref().map(leader_change),
        },
        "secondsWithoutMajority": report.outage.as_secs_f64(),
        "leaderChanges": report.changes.iter().map(|(change, _)| leader_change(change)).collect::<Vec<_>>(),
        "incidents": report.incidents.iter().map(|incident| json!({
            "what": incident.what,
            "at": incident.at.as_secs_f64(),
            "boundSeconds": incident.bound.as_secs_f64(),
            "recoveredAfterSeconds": incident.recovered.map(|took| took.as_secs_f64()),
        })).collect::<Vec<_>>(),
        "replicas": report.replicas.iter().map(replica).collect::<Vec<_>>(),
    })
}

fn leader_change(change: &Change) -> Value {
    json!({ "term": change.term.to_string(), "leader": change.leader, "before": change.deposed })
}
