//! The verdict on runs made by hand, and what the poll makes of answers.

use std::time::Duration;

use super::{Incident, RECOVERY, Replica, Report, watch::Watched};
use crate::{
    client::ledger::{Findings, Kind, Ledger},
    types::{ConversationId, RequestId},
    wire::{
        Reason,
        cluster::{GetMembershipResponse, Node, Role},
    },
};

const ROOM: ConversationId = ConversationId(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Three voters, as node `by` sees them.
fn view(by: u64, leader_id: u64, term: u64) -> GetMembershipResponse {
    let node = |node_id: u64| Node {
        node_id,
        name: format!("n{node_id}"),
        address: format!("127.0.0.1:{node_id}"),
        role: Role::Voter.into(),
        ..Default::default()
    };
    let nodes = (1..=3).map(node).collect();
    let cluster_id = "q".into();
    GetMembershipResponse { cluster_id, answered_by_id: by, leader_id, term, nodes, ..Default::default() }
}

/// A write every 100 ms for two seconds, each acknowledged after 10 ms, unless `answer` has it otherwise.
fn ledger(answer: impl Fn(&mut Ledger, u64, usize)) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.open(ROOM, 0);
    for turn in 0..20 {
        let id = RequestId::new(turn, [0; 10]);
        let attempt = ledger.invoke(ms(turn * 100), id, ROOM, format!("{turn}"));
        answer(&mut ledger, turn, attempt);
    }
    ledger
}

fn acknowledge(ledger: &mut Ledger, turn: u64, attempt: usize) {
    ledger.acknowledge(ms(turn * 100 + 10), attempt, turn + 1, turn + 1);
}

fn replicas() -> Vec<Replica> {
    let digest = Some((9, "d".to_owned()));
    ["n1", "n2", "n3"].map(|name| Replica { name: name.into(), messages: Some(20), digest: digest.clone() }).into()
}

fn report(ledger: &Ledger, watched: &Watched, incidents: Vec<Incident>) -> Report {
    Report::new(ms(2_000), ledger, watched, incidents, replicas(), Findings::default())
}

fn quiet() -> Report {
    report(&ledger(acknowledge), &Watched::new(view(1, 1, 1)), Vec::new())
}

fn verdicts(report: &Report) -> Vec<(&'static str, bool)> {
    report.metrics().iter().map(|metric| (metric.name, metric.passed)).collect()
}

fn fails_only(report: &Report, name: &str) {
    let failed: Vec<&str> = report.metrics().iter().filter(|metric| !metric.passed).map(|metric| metric.name).collect();
    assert_eq!(failed, [name], "{:#?}", report.metrics());
    assert!(!report.passed());
}

#[test]
fn a_quiet_run_passes_all_four() {
    let report = quiet();
    assert!(report.passed(), "{:#?}", report.metrics());
    assert_eq!(
        verdicts(&report).iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["durability", "availability", "consistency", "recovery time"]
    );
    assert_eq!((report.sent, report.acknowledged, report.unknown), (20, 20, 0));
    assert_eq!(report.latencies, (ms(10), ms(10)));
    assert_eq!(report.gap.length, ms(100));
}

#[test]
fn a_loss_fails_durability_and_nothing_else() {
    let mut report = quiet();
    report.findings.add(Kind::Missing, || "n1 lacks c1/3".into());
    fails_only(&report, "durability");
}

#[test]
fn what_is_on_a_minority_only_is_not_durable() {
    let mut report = quiet();
    for replica in &mut report.replicas[..2] {
        (replica.messages, replica.digest) = (None, None);
    }
    fails_only(&report, "durability");
}

#[test]
fn every_other_violation_fails_consistency() {
    for kind in [Kind::Duplicated, Kind::Reordered, Kind::StaleRead, Kind::StreamGap, Kind::ReplicasDiffer] {
        let mut report = quiet();
        report.findings.add(kind, || "an example".into());
        fails_only(&report, "consistency");
    }
}

#[test]
fn digests_that_differ_or_are_missing_fail_consistency() {
    let mut report = quiet();
    report.replicas[1].digest = Some((9, "e".into()));
    fails_only(&report, "consistency");
    report.replicas[1].digest = None;
    fails_only(&report, "consistency");
}

#[test]
fn refused_and_unknown_writes_count_against_availability() {
    let refused = ledger(|ledger, turn, attempt| match turn {
        7 => ledger.refuse(ms(720), attempt, Reason::Overloaded),
        8 => ledger.lose_sight(ms(820), attempt),
        _ => acknowledge(ledger, turn, attempt),
    });
    let report = report(&refused, &Watched::new(view(1, 1, 1)), Vec::new());
    assert_eq!((report.acknowledged, report.unknown, report.refused[&Reason::Overloaded]), (18, 1, 1));
    fails_only(&report, "availability");
}

#[test]
fn a_write_settled_at_the_end_was_not_acknowledged_in_time() {
    let settled = ledger(|ledger, turn, attempt| {
        if turn == 3 {
            ledger.lose_sight(ms(400), attempt);
            ledger.acknowledge(ms(5_000), attempt, 21, 21);
        } else {
            acknowledge(ledger, turn, attempt);
        }
    });
    let report = report(&settled, &Watched::new(view(1, 1, 1)), Vec::new());
    assert_eq!((report.acknowledged, report.unknown, report.settled), (19, 1, 1));
    fails_only(&report, "availability");
}

#[test]
fn nothing_acknowledged_passes_nothing() {
    let silent = ledger(|ledger, turn, attempt| ledger.lose_sight(ms(turn * 100 + 50), attempt));
    let report = report(&silent, &Watched::new(view(1, 1, 1)), Vec::new());
    assert!(verdicts(&report)[..2].iter().all(|(_, passed)| !passed), "{:#?}", report.metrics());
}

/// Silence from 0.51 s until `until` seconds, over a change of leader seen at 0.9 s.
fn with_a_pause(until: u64, watched: &Watched) -> Report {
    let mut ledger = Ledger::default();
    ledger.open(ROOM, 0);
    for (number, at) in [100, 510, until].into_iter().enumerate() {
        let seq = number as u64 + 1;
        let attempt = ledger.invoke(ms(at - 10), RequestId::new(seq, [0; 10]), ROOM, format!("{seq}"));
        ledger.acknowledge(ms(at), attempt, seq, seq);
    }
    let incident = Incident { what: "n1 killed".into(), at: ms(550), bound: RECOVERY, recovered: None };
    Report::new(ms(until), &ledger, watched, vec![incident], replicas(), Findings::default())
}

#[test]
fn the_longest_pause_is_laid_to_the_change_of_leader_in_it() {
    let mut watched = Watched::new(view(1, 1, 1));
    watched.learn(ms(500), vec![view(1, 1, 1), view(2, 1, 1), view(3, 1, 1)]);
    watched.learn(ms(900), vec![view(2, 2, 2), view(3, 2, 2)]);
    let report = with_a_pause(1_500, &watched);
    let change = report.gap.change.clone().expect("a change");
    assert_eq!((report.gap.at, report.gap.length), (ms(510), ms(990)));
    assert_eq!((change.deposed.as_str(), change.leader.as_str(), change.term), ("n1", "n2", 2));
    assert_eq!(report.incidents[0].recovered, Some(ms(990)), "no less than the pause it fell into");
    assert!(report.passed(), "{:#?}", report.metrics());
}

/// Writes at these times, each acknowledged after 10 ms, and a kill at each of `killed`.
fn killed(killed: &[u64], writes: &[u64]) -> Vec<Option<Duration>> {
    let mut ledger = Ledger::default();
    ledger.open(ROOM, 0);
    for (seq, at) in (1..).zip(writes) {
        let attempt = ledger.invoke(ms(*at), RequestId::new(seq, [0; 10]), ROOM, format!("{seq}"));
        ledger.acknowledge(ms(at + 10), attempt, seq, seq);
    }
    let incident = |at: &u64| Incident { what: "killed".into(), at: ms(*at), bound: RECOVERY, recovered: None };
    let incidents = killed.iter().map(incident).collect();
    let end = writes.last().map_or(0, |last| last + 10);
    let watched = Watched::new(view(1, 1, 1));
    let report = Report::new(ms(end), &ledger, &watched, incidents, replicas(), Findings::default());
    report.incidents.iter().map(|incident| incident.recovered).collect()
}

#[test]
fn what_is_killed_may_acknowledge_yet_before_the_pause_that_is_laid_to_it() {
    assert_eq!(killed(&[1_000], &[900, 1_050, 1_100, 2_600, 2_700]), [Some(ms(1_500))]);
}

#[test]
fn a_pause_is_not_laid_to_an_incident_long_before_or_to_one_that_another_followed() {
    assert_eq!(killed(&[1_000], &[900, 1_050, 6_000, 6_100, 12_000])[0], Some(ms(4_950)));
    assert_eq!(killed(&[1_000], &[900, 1_050, 3_000, 6_010, 12_000])[0], Some(ms(3_010)));
    let twice = killed(&[1_000, 1_200], &[990, 1_050, 1_150, 2_600]);
    assert_eq!(twice, [Some(ms(100)), Some(ms(1_450))]);
}

#[test]
fn a_pause_above_the_bound_fails_availability_and_recovery() {
    let mut watched = Watched::new(view(1, 1, 1));
    watched.learn(ms(500), vec![view(1, 1, 1), view(2, 1, 1)]);
    watched.learn(ms(900), vec![view(2, 2, 2), view(3, 2, 2)]);
    let report = with_a_pause(6_000, &watched);
    assert_eq!(
        verdicts(&report),
        [("durability", true), ("availability", false), ("consistency", true), ("recovery time", false)]
    );
}

#[test]
fn a_pause_without_a_majority_is_not_held_against_the_cluster() {
    let mut watched = Watched::new(view(1, 1, 1));
    watched.learn(ms(500), vec![view(1, 1, 1), view(2, 1, 1)]);
    watched.learn(ms(900), vec![view(2, 0, 1)]);
    watched.learn(ms(8_000), vec![view(2, 2, 2), view(3, 2, 2)]);
    assert_eq!(watched.outages(), [(ms(500), ms(8_000))]);
    let mut report = with_a_pause(9_000, &watched);
    assert_eq!(report.gap.length, ms(1_000));
    report.incidents.clear();
    assert!(report.passed(), "{:#?}", report.metrics());
}

#[test]
fn a_deposed_leaders_word_is_not_news() {
    let mut watched = Watched::new(view(1, 1, 1));
    watched.learn(ms(100), vec![view(2, 2, 2), view(1, 1, 1)]);
    watched.learn(ms(200), vec![view(1, 1, 1), view(3, 0, 2)]);
    assert_eq!((watched.changes().len(), watched.leader(), watched.term()), (1, "n2", 2));
}
