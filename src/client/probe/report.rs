//! What a run came to: figures, and PASS or FAIL for each metric. Pure.

use std::{collections::BTreeMap, time::Duration};

use super::watch::Watched;
use crate::{
    client::ledger::{Attempt, Findings, Kind, Ledger, Outcome},
    wire::Reason,
};

/// Of the writes begun while a majority ran, so many in a hundred must be acknowledged in time.
pub const AVAILABILITY_PERCENT: u32 = 99;
/// Longest time without an acknowledgement while a majority runs, and longest time to recover from the loss of a node.
pub const RECOVERY: Duration = Duration::from_secs(5);

/// A change of leader, as it was seen from outside. Times count from the start of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// It happened between these two looks.
    pub between: (Duration, Duration),
    /// Who led before; empty if nobody was known to.
    pub deposed: String,
    /// Who leads now.
    pub leader: String,
    /// Since which term.
    pub term: u64,
}

/// Damage done on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// What was done.
    pub what: String,
    /// When.
    pub at: Duration,
    /// How soon writes shall have recovered.
    pub bound: Duration,
    /// How long writes took to recover: until one begun afterwards was acknowledged, or the longest time between two
    /// acknowledgements that the damage may answer for, whichever is longer. What is killed may acknowledge for some
    /// moments yet, so the first alone could be over before the pause has begun. `None`: no such write was acknowledged.
    pub recovered: Option<Duration>,
}

/// A time without an acknowledgement while a majority of the voters answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// When it began.
    pub at: Duration,
    /// How long it lasted.
    pub length: Duration,
    /// The change of leader that fell into it.
    pub change: Option<Change>,
}

/// One member, at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// How many messages of the run it holds; `None`: it could not be read.
    pub messages: Option<usize>,
    /// The log index and the digest of its state there.
    pub digest: Option<(u64, String)>,
}

/// One metric's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// `durability` and so on.
    pub name: &'static str,
    /// Whether it held.
    pub passed: bool,
    /// What was measured.
    pub figure: String,
    /// What it was held to.
    pub bound: String,
}

/// Everything that a run showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How long the load lasted.
    pub elapsed: Duration,
    /// Messages sent, or tried to be.
    pub sent: u64,
    /// Acknowledged in time.
    pub acknowledged: u64,
    /// Given up with an unknown outcome.
    pub unknown: u64,
    /// Of these, those whose repetition at the end told their fate.
    pub settled: u64,
    /// Refused, by reason.
    pub refused: BTreeMap<Reason, u64>,
    /// Sent while a majority ran all the time, and of these acknowledged in time.
    pub attended: (u64, u64),
    /// Reads answered.
    pub reads: usize,
    /// Messages that the subscriber was told.
    pub told: usize,
    /// Half of the acknowledgements, and all but one in a hundred, took no longer.
    pub latencies: (Duration, Duration),
    /// The longest.
    pub gap: Gap,
    /// How long no majority of the voters answered.
    pub outage: Duration,
    /// Every change of leader, each with the longest gap that it fell into.
    pub changes: Vec<(Change, Duration)>,
    /// What was done to the cluster.
    pub incidents: Vec<Incident>,
    /// Every member.
    pub replicas: Vec<Replica>,
    /// What the ledger's checker found.
    pub findings: Findings,
}

impl Report {
    pub(super) fn new(
        end: Duration,
        ledger: &Ledger,
        watched: &Watched,
        incidents: Vec<Incident>,
        replicas: Vec<Replica>,
        findings: Findings,
    ) -> Self {
        let attempts = ledger.attempts();
        let mut refused = BTreeMap::new();
        for attempt in attempts {
            if let Outcome::Refused { reason, .. } = attempt.outcome {
                *refused.entry(reason).or_default() += 1;
            }
        }
        let mut acks: Vec<Duration> = attempts.iter().filter_map(in_time).collect();
        acks.sort_unstable();
        let gaps = gaps(&acks, end, watched.outages());
        let acknowledged = acks.len() as u64;
        let refusals: u64 = refused.values().sum();
        let unknown = attempts.len() as u64 - acknowledged - refusals;
        let undecided = ledger.unknown().len() as u64;
        let longest = gaps.iter().max_by_key(|(_, length)| *length).copied().unwrap_or((Duration::ZERO, end));
        Self {
            elapsed: end,
            sent: attempts.len() as u64,
            acknowledged,
            unknown,
            settled: unknown.saturating_sub(undecided),
            refused,
            attended: attended(attempts, watched.outages()),
            reads: ledger.reads(),
            told: 0,
            latencies: latencies(attempts),
            gap: Gap {
                at: longest.0,
                length: longest.1,
                change: watched.changes().iter().rfind(|change| falls_into(change, longest)).cloned(),
            },
            outage: watched.outages().iter().map(|(from, to)| to.saturating_sub(*from)).sum(),
            changes: watched.changes().iter().map(|change| (change.clone(), around(change, &gaps))).collect(),
            incidents: recovered(incidents, attempts, &gaps),
            replicas,
            findings,
        }
    }

    pub(super) fn told(self, told: usize) -> Self {
        Self { told, ..self }
    }

    /// The four metrics.
    pub fn metrics(&self) -> [Metric; 4] {
        [self.durability(), self.availability(), self.consistency(), self.recovery()]
    }

    /// Whether all four passed.
    pub fn passed(&self) -> bool {
        self.metrics().iter().all(|metric| metric.passed)
    }

    /// Members that could be read.
    pub fn read(&self) -> usize {
        self.replicas.iter().filter(|replica| replica.messages.is_some()).count()
    }

    fn durability(&self) -> Metric {
        let lost = self.findings.count(Kind::Missing) + self.findings.count(Kind::Changed);
        let (read, all) = (self.read(), self.replicas.len());
        let enough = read > all / 2;
        let kept = self.acknowledged + self.settled;
        let what = match (lost, read == all) {
            (0, _) if read == 0 => "no replica could be read".to_owned(),
            (0, true) => format!("all {kept} acknowledged messages are on all {all} nodes"),
            (0, false) => format!("all {kept} acknowledged messages are on the {read} of {all} nodes that answer"),
            (lost, _) => {
                format!("{lost} acknowledged messages are missing or changed, counted on each of {read} nodes")
            }
        };
        let bound = "none missing, none changed, on a majority at least".to_owned();
        Metric { name: "durability", passed: lost == 0 && enough && kept > 0, figure: what, bound }
    }

    fn availability(&self) -> Metric {
        let (sent, acknowledged) = self.attended;
        // In tenths of a percent, downwards: 100 % means all.
        let share = (acknowledged * 1_000).checked_div(sent).unwrap_or(0);
        let enough = sent > 0 && acknowledged * 100 >= sent * u64::from(AVAILABILITY_PERCENT);
        let while_ran = if self.outage.is_zero() { "" } else { " while a majority ran" };
        let figure = format!(
            "{}.{} % of {sent} writes acknowledged{while_ran}, longest pause {}",
            share / 10,
            share % 10,
            seconds(self.gap.length)
        );
        let bound = format!("{AVAILABILITY_PERCENT} %, no pause above {}", seconds(RECOVERY));
        Metric { name: "availability", passed: enough && self.gap.length <= RECOVERY, figure, bound }
    }

    fn consistency(&self) -> Metric {
        let wrong: Vec<String> = self.findings.counts().iter().filter(|(kind, _)| !kind.is_loss()).map(told).collect();
        let digests: Vec<&(u64, String)> = self.replicas.iter().filter_map(|replica| replica.digest.as_ref()).collect();
        let asked = digests.len() == self.read() && !digests.is_empty();
        let equal = asked && digests.iter().all(|digest| *digest == digests[0]);
        let figure = match (wrong.is_empty(), equal) {
            (false, _) => wrong.join(", "),
            (true, true) => format!(
                "nothing doubled, reordered or stale in {} reads and {} events; {} equal digests",
                self.reads,
                self.told,
                digests.len()
            ),
            (true, false) if !asked => format!("only {} of {} digests could be had", digests.len(), self.read()),
            (true, false) => "the digests differ, or never stood at one index".to_owned(),
        };
        let bound = "no violation, equal digests".to_owned();
        Metric { name: "consistency", passed: wrong.is_empty() && equal, figure, bound }
    }

    fn recovery(&self) -> Metric {
        let mut passed =
            self.incidents.iter().all(|incident| incident.recovered.is_some_and(|it| it <= incident.bound));
        let took = |incident: &Incident| {
            let took = incident.recovered.map_or("NEVER".to_owned(), seconds);
            format!("{}: writes again after {took}", incident.what)
        };
        let mut figures: Vec<String> = self.incidents.iter().map(took).collect();
        let mut bounds: Vec<String> = self.incidents.iter().map(|incident| seconds(incident.bound)).collect();
        if let Some((change, pause)) = self.changes.iter().max_by_key(|(_, pause)| *pause) {
            passed &= *pause <= RECOVERY;
            if self.incidents.is_empty() {
                figures.push(format!("{} took over: a pause of {}", change.leader, seconds(*pause)));
            }
        }
        if figures.is_empty() {
            figures.push("nothing failed meanwhile".to_owned());
        }
        if bounds.is_empty() {
            bounds.push(seconds(RECOVERY));
        }
        Metric { name: "recovery time", passed, figure: figures.join("; "), bound: bounds.join("; ") }
    }
}

fn told((kind, count): (&Kind, &u64)) -> String {
    format!("{count} {}", kind.as_str())
}

/// A duration as people say it, to a hundredth of a second.
pub(super) fn seconds(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{} s", duration.as_secs()),
        _ => format!("{:.2} s", duration.as_secs_f64()),
    }
}

/// When it was acknowledged, if that was before its sender gave up.
fn in_time(attempt: &Attempt) -> Option<Duration> {
    match attempt.outcome {
        Outcome::Acknowledged { at, .. } if attempt.ended.is_none_or(|ended| at <= ended) => Some(at),
        _ => None,
    }
}

/// Attempts that no outage touched, and how many of them were acknowledged in time.
fn attended(attempts: &[Attempt], outages: &[(Duration, Duration)]) -> (u64, u64) {
    let mut counted = (0, 0);
    for attempt in attempts {
        let ended = attempt.ended.unwrap_or(Duration::MAX);
        if outages.iter().any(|(from, to)| attempt.invoked <= *to && ended >= *from) {
            continue;
        }
        counted.0 += 1;
        counted.1 += u64::from(in_time(attempt).is_some());
    }
    counted
}

/// The times between acknowledgements, without what fell into an outage: begin and length of each.
fn gaps(acks: &[Duration], end: Duration, outages: &[(Duration, Duration)]) -> Vec<(Duration, Duration)> {
    let mut gaps = Vec::new();
    let mut from = Duration::ZERO;
    let mut outages = outages.iter().peekable();
    for to in acks.iter().copied().chain([end]) {
        while let Some((begun, over)) = outages.next_if(|(begun, _)| *begun < to) {
            gaps.push((from, begun.saturating_sub(from)));
            from = from.max(*over);
        }
        gaps.push((from, to.saturating_sub(from)));
        from = from.max(to);
    }
    gaps
}

fn falls_into(change: &Change, (from, length): (Duration, Duration)) -> bool {
    change.between.0 <= from + length && change.between.1 >= from
}

/// The longest gap that a change fell into.
fn around(change: &Change, gaps: &[(Duration, Duration)]) -> Duration {
    let touched = gaps.iter().filter(|gap| falls_into(change, **gap));
    touched.map(|(_, length)| *length).max().unwrap_or_default()
}

fn recovered(mut incidents: Vec<Incident>, attempts: &[Attempt], gaps: &[(Duration, Duration)]) -> Vec<Incident> {
    for number in 0..incidents.len() {
        let next = incidents.get(number + 1).map_or(Duration::MAX, |next| next.at);
        let incident = &mut incidents[number];
        let later = attempts.iter().filter(|attempt| attempt.invoked > incident.at);
        let first = later.filter_map(in_time).min().map(|at| at.saturating_sub(incident.at));
        incident.recovered = first.map(|first| first.max(pause_after(incident, next, gaps)));
    }
    incidents
}

/// The longest gap that an incident may answer for: one that goes on after it and began no later than its bound. What
/// comes after the `next` incident is not laid to this one.
fn pause_after(incident: &Incident, next: Duration, gaps: &[(Duration, Duration)]) -> Duration {
    let until = next.min(incident.at.saturating_add(incident.bound));
    let touched = gaps.iter().filter(|(from, length)| *from < until && *from + *length > incident.at);
    touched.map(|(from, length)| (*from + *length).min(next).saturating_sub(*from)).max().unwrap_or_default()
}

/// The median and the 99th percentile of the acknowledgements in time.
fn latencies(attempts: &[Attempt]) -> (Duration, Duration) {
    let took = |attempt: &Attempt| in_time(attempt).map(|at| at.saturating_sub(attempt.invoked));
    let mut all: Vec<Duration> = attempts.iter().filter_map(took).collect();
    all.sort_unstable();
    let at = |percent: usize| all.get((all.len() * percent / 100).min(all.len().saturating_sub(1))).copied();
    (at(50).unwrap_or_default(), at(99).unwrap_or_default())
}
