//! The result of a run: the figures, and pass or fail for each of four metrics. Pure, without IO.

use std::{collections::BTreeMap, time::Duration};

use super::watch::{Change, Watched};
use crate::{
    client::ledger::{Attempt, Findings, Kind, Ledger, Outcome},
    wire::Reason,
};

/// Share of the writes begun while a majority ran that must be acknowledged in time.
pub const AVAILABILITY_PERCENT: u32 = 99;
/// Longest pause without an acknowledgement while a majority runs, and longest time to recover from the loss of a node.
pub const RECOVERY: Duration = Duration::from_secs(5);

/// Damage that the caller has done on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// What was done.
    pub what: String,
    /// When, from the start of the run.
    pub at: Duration,
    /// How soon writes must recover.
    pub bound: Duration,
    /// How long writes took to recover: the time until a write begun afterwards was acknowledged, or the longest pause
    /// that the damage may have caused, whichever is longer. The first alone is not enough: a node that is being killed
    /// may acknowledge a write just before the pause begins. `None`: no such write was acknowledged.
    pub recovered: Option<Duration>,
}

/// A pause: a time without an acknowledgement while a majority of the voters answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// When it began.
    pub at: Duration,
    /// How long it lasted.
    pub length: Duration,
    /// The change of leader that happened during it.
    pub change: Option<Change>,
}

/// One member at the end of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// Number of messages of the run that it holds; `None` if it could not be read.
    pub messages: Option<usize>,
    /// A log index, and the digest of its state at that index.
    pub digest: Option<(u64, String)>,
}

/// The verdict on one metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// `durability`, `availability`, `consistency` or `recovery time`.
    pub name: &'static str,
    /// Whether it stayed within its bound.
    pub passed: bool,
    /// What was measured.
    pub figure: String,
    /// The bound.
    pub bound: String,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Duration of the load.
    pub elapsed: Duration,
    /// Messages sent, whatever the outcome.
    pub sent: u64,
    /// Messages acknowledged in time.
    pub acknowledged: u64,
    /// Messages given up with an unknown outcome.
    pub unknown: u64,
    /// Of these, the ones whose outcome became known by repeating them at the end.
    pub settled: u64,
    /// Messages refused, by reason.
    pub refused: BTreeMap<Reason, u64>,
    /// Messages sent while a majority ran from begin to end, and how many of them were acknowledged in time.
    pub attended: (u64, u64),
    /// Number of reads answered.
    pub reads: usize,
    /// Number of messages that the subscriber received.
    pub events: usize,
    /// The median and the 99th percentile of the time from a write to its acknowledgement.
    pub latencies: (Duration, Duration),
    /// The longest pause.
    pub gap: Gap,
    /// Total time during which no majority of the voters answered.
    pub outage: Duration,
    /// Each change of leader, with the longest pause around it.
    pub changes: Vec<(Change, Duration)>,
    /// The damage done to the cluster.
    pub incidents: Vec<Incident>,
    /// Each member.
    pub replicas: Vec<Replica>,
    /// The findings of the ledger's checker.
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
            events: 0,
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

    /// Adds the number of messages that the subscriber received.
    pub(super) fn events(self, events: usize) -> Self {
        Self { events, ..self }
    }

    /// The four metrics.
    pub fn metrics(&self) -> [Metric; 4] {
        [self.durability(), self.availability(), self.consistency(), self.recovery()]
    }

    /// Whether all four passed.
    pub fn passed(&self) -> bool {
        self.metrics().iter().all(|metric| metric.passed)
    }

    /// Number of members that could be read.
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
        // Per mille, rounded down: only all of them make 100 %.
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
        let wrong: Vec<String> =
            self.findings.counts().iter().filter(|(kind, _)| !kind.is_loss()).map(counted).collect();
        let digests: Vec<&(u64, String)> = self.replicas.iter().filter_map(|replica| replica.digest.as_ref()).collect();
        let asked = digests.len() == self.read() && !digests.is_empty();
        let equal = asked && digests.iter().all(|digest| *digest == digests[0]);
        let figure = match (wrong.is_empty(), equal) {
            (false, _) => wrong.join(", "),
            (true, true) => format!(
                "nothing doubled, reordered or stale in {} reads and {} events; {} equal digests",
                self.reads,
                self.events,
                digests.len()
            ),
            (true, false) if !asked => format!("only {} of {} digests could be had", digests.len(), self.read()),
            (true, false) => "the digests differ, or the replicas were never at one index".to_owned(),
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

fn counted((kind, count): (&Kind, &u64)) -> String {
    format!("{count} {}", kind.as_str())
}

/// A duration for people, to a hundredth of a second.
pub(super) fn seconds(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{} s", duration.as_secs()),
        _ => format!("{:.2} s", duration.as_secs_f64()),
    }
}

/// When the attempt was acknowledged, if that was before its sender gave up.
fn in_time(attempt: &Attempt) -> Option<Duration> {
    match attempt.outcome {
        Outcome::Acknowledged { at, .. } if attempt.ended.is_none_or(|ended| at <= ended) => Some(at),
        _ => None,
    }
}

/// Number of attempts that no outage touched, and how many of them were acknowledged in time.
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

/// The pauses between acknowledgements without the outages, each as (begin, length).
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

/// The longest pause around a change.
fn around(change: &Change, gaps: &[(Duration, Duration)]) -> Duration {
    let touched = gaps.iter().filter(|gap| falls_into(change, **gap));
    touched.map(|(_, length)| *length).max().unwrap_or_default()
}

/// Works out how long writes took to recover from each incident.
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

/// The longest pause that an incident may have caused: it ends after the incident and begins no later than its bound.
/// What comes after the `next` incident counts for that one.
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
