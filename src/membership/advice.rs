//! Advice: what could be better about a layout, a sentence each.
//!
//! Advice is for people. No decision depends on it; [`judge`](super::judge) decides by the figures alone.

use super::{layout::Layout, tolerance::Tolerance};
use crate::types::counted;

impl Layout {
    /// What this layout survives, with advice. Exact for any layout; takes time in proportion to nodes times zones.
    pub fn tolerance(&self) -> Tolerance {
        let mut tolerance = self.figures();
        tolerance.advice = advice(self, &tolerance);
        tolerance
    }
}

/// The advice for `layout`, whose figures are `tolerance`: the most pressing first.
fn advice(layout: &Layout, tolerance: &Tolerance) -> Vec<String> {
    let settled = !layout.is_joint();
    [
        missing(layout, tolerance),
        (!settled).then(|| "a membership change is under way: until it is done both majorities are needed".to_owned()),
        settled.then(|| count(tolerance.settled().voters)).flatten(),
        settled.then(|| spread(layout)).flatten(),
        without_zone(layout),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn missing(layout: &Layout, tolerance: &Tolerance) -> Option<String> {
    let names = tolerance.missing.join(" ");
    let majority = tolerance.settled();
    match (tolerance.missing.as_slice(), tolerance.has_quorum()) {
        ([], _) => None,
        (_, true) if layout.is_joint() => None,
        ([name], true) => Some(format!("{name} does not answer: bring it back, or replace it with replace-node")),
        (_, true) => Some(format!("{names} do not answer: bring them back, or replace them with replace-node")),
        (_, false) if layout.is_joint() => {
            Some(format!("writes go on once both voter sets have a majority again; missing: {names}"))
        }
        (_, false) => {
            let lacking = majority.quorum.saturating_sub(majority.answering);
            let answer = if lacking == 1 { "answers" } else { "answer" };
            Some(format!("writes go on once {lacking} more of {names} {answer}"))
        }
    }
}

fn count(voters: usize) -> Option<String> {
    match voters {
        0 => Some("there is no voter".to_owned()),
        1 => Some("one voter survives no failure; 3 survive any 1 node".to_owned()),
        2 => Some("2 voters survive no failure, and the loss of either stops writes; add a third".to_owned()),
        n if n % 2 == 0 => Some(format!(
            "an even number of voters: {n} survive no more failures than {}, and {} survive one more",
            n - 1,
            n + 1
        )),
        _ => None,
    }
}

/// Suggests a spread over zones if the cluster would not survive the loss of one zone even with every voter answering.
fn spread(layout: &Layout) -> Option<String> {
    let voters = layout.voters().count();
    let zones = layout.zones();
    let designed = layout.all_healthy().figures();
    let fatal = designed.zones.iter().find(|loss| loss.then_any_nodes.is_none())?;
    if voters < 2 {
        return None;
    }
    let has_unnamed = layout.voters().any(|node| node.zone.is_empty());
    let problem = match zones.len() {
        1 if !has_unnamed => format!("all voters are in zone {}, whose loss stops writes", fatal.zone),
        2 if !has_unnamed => "two zones can never survive the loss of either".to_owned(),
        _ => format!("zone {} holds {} of {voters} voters", fatal.zone, fatal.voters.len()),
    };
    Some(format!("{problem}; {}", three_zones(voters)))
}

/// What the same number of voters, made odd and at least 3, would survive over three zones.
fn three_zones(voters: usize) -> String {
    let voters = (voters | 1).max(3);
    let parts: Vec<usize> = (0..3).map(|zone| (voters + 2 - zone) / 3).collect();
    let survives = Layout::of_zones(["a", "b", "c"].into_iter().zip(parts.iter().copied())).figures();
    format!(
        "{}+{}+{} over three zones survives any {} and any {}",
        parts[0],
        parts[1],
        parts[2],
        counted(survives.survives_any_nodes, "node"),
        counted(survives.survives_any_zones, "zone"),
    )
}

/// Names the voters without a zone, if others have one: the figures on zones leave them out.
fn without_zone(layout: &Layout) -> Option<String> {
    let unnamed: Vec<&str> =
        layout.voters().filter(|node| node.zone.is_empty()).map(|node| node.name.as_str()).collect();
    if unnamed.is_empty() || layout.zones().is_empty() {
        return None;
    }
    let (names, have) = (unnamed.join(" "), if unnamed.len() == 1 { "has" } else { "have" });
    Some(format!("{names} {have} no zone: the figures on zones leave that out"))
}
