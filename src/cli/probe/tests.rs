//! The printed report and its exit code, and the flags.

use std::{collections::BTreeMap, time::Duration};

use clap::Parser;

use super::{Options, check, conclude, live, verdict};
use crate::{
    cli::{Exit, Output},
    client::{
        ledger::{Findings, Kind},
        probe::{Change, Gap, Incident, Progress, Replica, Report},
    },
    wire::Reason,
};

/// A run in which n1 was killed and n2 took over.
fn report() -> Report {
    let seconds = Duration::from_secs;
    let change = Change { between: (seconds(20), seconds(21)), deposed: "n1".into(), leader: "n2".into(), term: 3 };
    let replica =
        |name: &str| Replica { name: name.into(), messages: Some(3_000), digest: Some((99, "ab".repeat(32))) };
    Report {
        elapsed: seconds(60),
        sent: 3_000,
        acknowledged: 2_999,
        unknown: 1,
        settled: 1,
        refused: BTreeMap::new(),
        attended: (3_000, 2_999),
        reads: 500,
        events: 3_000,
        latencies: (Duration::from_millis(4), Duration::from_millis(30)),
        gap: Gap { at: seconds(20), length: Duration::from_millis(1_250), change: Some(change.clone()) },
        outage: Duration::ZERO,
        changes: vec![(change, Duration::from_millis(1_250))],
        incidents: vec![Incident {
            what: "process 7 killed".into(),
            at: seconds(20),
            bound: seconds(5),
            recovered: Some(Duration::from_millis(1_300)),
        }],
        replicas: vec![replica("n2"), replica("n3"), Replica { name: "n1".into(), messages: None, digest: None }],
        findings: Findings::default(),
    }
}

#[test]
fn a_sound_run_ends_with_four_passes_and_says_who_took_over() {
    let (mut output, captured) = Output::captured(false);
    conclude(&report(), &mut output).expect("it passed");
    let text = captured.data();
    assert!(
        text.contains("sent 3000, acknowledged 2999, unknown 1 (1 of them settled at the end), refused 0"),
        "{text}"
    );
    assert!(
        text.contains("longest write gap 1.25 s, 20.0 s into the run: n1 was followed by n2 as leader, term 3"),
        "{text}"
    );
    assert!(text.contains("process 7 killed: writes again after 1.30 s  (bound: 5 s)"), "{text}");
    assert!(text.contains("on the 2 of 3 nodes that answer"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("PASS  ")).count(), 4, "{text}");
    assert!(!text.contains("FAIL"), "{text}");
}

#[test]
fn a_run_that_lost_a_message_fails_with_8_and_names_it() {
    for json in [false, true] {
        let mut report = report();
        report.findings.add(Kind::Missing, || "n3 lacks c7/41".into());
        let (mut output, captured) = Output::captured(json);
        let failure = conclude(&report, &mut output).expect_err("a message is missing");
        assert_eq!((failure.exit, failure.exit.code(), failure.quiet), (Exit::ChecksFailed, 8, true));
        assert!(captured.data().contains("n3 lacks c7/41"), "{}", captured.data());
    }
}

#[test]
fn every_metric_can_fail() {
    type Break = fn(&mut Report);
    let broken: [(&str, Break); 4] = [
        ("durability", |report| report.findings.add(Kind::Missing, String::new)),
        ("availability", |report| report.attended.1 = 2_000),
        ("consistency", |report| report.replicas[0].digest = Some((99, "00".into()))),
        ("recovery time", |report| report.incidents[0].recovered = None),
    ];
    for (name, sabotage) in broken {
        let mut report = report();
        sabotage(&mut report);
        let (mut output, captured) = Output::captured(false);
        assert_eq!(verdict(&report, &mut output).expect_err(name).exit, Exit::ChecksFailed);
        let text = captured.data();
        assert_eq!(text.lines().filter(|line| line.starts_with("PASS  ")).count(), 3, "{name}: {text}");
        assert!(text.contains(&format!("FAIL  {name}")), "{text}");
    }
}

#[test]
fn json_is_one_object_with_every_figure() {
    let (mut output, captured) = Output::captured(true);
    let mut report = report();
    report.refused.insert(Reason::Overloaded, 2);
    conclude(&report, &mut output).expect("it passed");
    assert_eq!(captured.data().lines().count(), 1);
    let object: serde_json::Value = serde_json::from_str(&captured.data()).expect("JSON");
    assert_eq!(object["passed"], true);
    assert_eq!(object["refused"]["OVERLOADED"], "2");
    assert_eq!(object["longestWriteGap"]["leaderChange"]["leader"], "n2");
    assert_eq!(object["replicas"][2]["digest"], serde_json::Value::Null);
    assert_eq!(object["metrics"].as_array().map(Vec::len), Some(4));
}

#[test]
fn the_live_line_says_when_nothing_is_written() {
    let seconds = Duration::from_secs;
    let mut progress = Progress { elapsed: seconds(9), last: Some(seconds(9)), ..Progress::default() };
    assert!(!live::line(&progress).contains("NO WRITE"));
    progress.last = Some(seconds(7));
    assert!(live::line(&progress).ends_with("no leader  0 of 0 nodes answer  NO WRITE FOR 2.0 s"));
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn parse(line: &str) -> Result<Options, clap::Error> {
    Line::try_parse_from(line.split_whitespace()).map(|line| line.options)
}

#[test]
fn only_processes_that_were_named_and_exist_may_be_killed() {
    for bad in
        ["probe --kill 0", "probe --kill 1", "probe --kill=-5", "probe --kill x", "probe --rate 0", "probe --for 0s"]
    {
        assert_eq!(parse(bad).expect_err(bad).exit_code(), 2, "{bad}");
    }
    let own = format!("probe --kill {}", std::process::id());
    assert!(parse(&own).is_err(), "a probe does not kill itself");
    let absent = parse("probe --kill 2147483647").expect("a number");
    assert_eq!(check(&absent).expect_err("no such process").exit, Exit::NotFound);
}

#[test]
fn a_run_too_long_for_the_ledger_is_a_usage_error() {
    let long = parse("probe --rate 1000 --for 1h").expect("each is in range");
    assert_eq!(check(&long).expect_err("too many").exit, Exit::Usage);
    assert!(check(&parse("probe --rate 50 --for 1h").expect("in range")).is_ok());
}
