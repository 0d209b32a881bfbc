//! A tolerance in words: the last part of what `chat-admin status` and `plan` print.

use super::tolerance::{Majority, Tolerance, ZoneLoss};
use crate::types::counted;

impl Tolerance {
    /// A heading, then the failures survived, the effect of losing each zone, and advice; one line each.
    pub fn words(&self) -> Vec<String> {
        let mut lines = vec![self.heading()];
        let mut body = Vec::new();
        if self.has_quorum() {
            body.push(self.survives_nodes());
            if self.survives_any_zones > 0 {
                body.push(format!("survives any {}", counted(self.survives_any_zones, "zone")));
            }
            body.extend(self.fatal_few());
            // Losses that stop writes come last, where people look first.
            let (fatal, survived): (Vec<_>, Vec<_>) = self.zones.iter().partition(|loss| loss.then_any_nodes.is_none());
            body.extend(survived.into_iter().chain(fatal).map(zone_line));
        } else {
            body.extend(self.majorities.iter().filter(|majority| majority.slack().is_none()).map(stopped));
        }
        body.extend(self.advice.iter().cloned());
        lines.extend(body.into_iter().map(|line| format!("  {line}")));
        lines
    }

    /// `5 voters, quorum 3`.
    pub fn heading(&self) -> String {
        match self.majorities.as_slice() {
            [old, new] => format!(
                "{} (quorum {}) becoming {} (quorum {})",
                counted(old.voters, "voter"),
                old.quorum,
                new.voters,
                new.quorum
            ),
            _ => {
                let majority = self.settled();
                let missing = match self.missing.len() {
                    0 => String::new(),
                    number => format!(" ({number} not answering)"),
                };
                format!("{}{missing}, quorum {}", counted(majority.voters, "voter"), majority.quorum)
            }
        }
    }

    fn survives_nodes(&self) -> String {
        let further = if self.missing.is_empty() { "" } else { "further " };
        let now = match self.survives_any_nodes {
            0 => format!("survives no {further}failure"),
            number => format!("survives any {}", counted(number, &format!("{further}node"))),
        };
        match self.designed_nodes {
            designed if designed > self.survives_any_nodes && !self.missing.is_empty() => {
                format!("{now}; with every voter answering, any {}", counted(designed, "node"))
            }
            _ => now,
        }
    }

    /// The nodes that must not fail. Left out in a healthy cluster, where the count of survived failures says enough.
    fn fatal_few(&self) -> Option<String> {
        let plain = self.majorities.len() == 1 && self.missing.is_empty();
        if plain || self.fatal_nodes.is_empty() {
            return None;
        }
        let (names, any_of) = (self.fatal_nodes.join(" "), if self.fatal_nodes.len() == 1 { "" } else { "any of " });
        Some(format!("losing {any_of}{names} stops writes"))
    }
}

fn stopped(majority: &Majority) -> String {
    let answer = if majority.answering == 1 { "answers" } else { "answer" };
    format!(
        "NO QUORUM: {} {answer} of {} needed; writes have stopped",
        counted(majority.answering, "voter"),
        majority.quorum
    )
}

fn zone_line(loss: &ZoneLoss) -> String {
    let who = format!("zone {} lost ({})", loss.zone, loss.voters.join(" "));
    match loss.then_any_nodes {
        _ if loss.answering == 0 => format!("zone {} ({}) does not answer already", loss.zone, loss.voters.join(" ")),
        Some(0) => format!("{who}: writes go on, then no further failure"),
        Some(number) => format!("{who}: writes go on, then any {}", counted(number, "further node")),
        None => {
            format!("{who}: WRITES STOP, {} left of {} needed", counted(loss.left.answering, "voter"), loss.left.quorum)
        }
    }
}
