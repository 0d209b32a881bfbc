//! What the users attempted and what they were told, and whether it holds.
//!
//! | rule | promise |
//! |---|---|
//! | an acknowledged message stands at its place, once, unchanged | P1, P4 |
//! | nothing stands there that was refused or never sent; what is unknown, at most once | P4 |
//! | sequence numbers are dense, cursors increase | P5 |
//! | what was acknowledged before another was sent stands before it | P3 |
//! | a read that began after an acknowledgement shows it | P3 |
//! | a stream equals the timeline | P5 |

use std::collections::{BTreeMap, BTreeSet};

use quorate::{types::RequestId, wire::chat::Message};

/// The number of an attempt.
pub type Number = usize;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Under way, or nobody can tell.
    Unknown,
    Refused,
    Acknowledged(Place),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub conversation: String,
    pub seq: u64,
    pub cursor: u64,
}

#[derive(Debug, Clone)]
pub struct Attempt {
    pub id: RequestId,
    pub from: String,
    pub to: String,
    pub body: String,
    invoked_ms: u64,
    acknowledged_ms: u64,
    /// Some try of it ended without an answer: no refusal after that settles it.
    doubtful: bool,
    pub fate: Fate,
}

#[derive(Debug, Default)]
pub struct Ledger {
    pub attempts: Vec<Attempt>,
}

impl Ledger {
    pub fn begin(&mut self, id: RequestId, from: &str, to: &str, now_ms: u64) -> Number {
        let number = self.attempts.len();
        self.attempts.push(Attempt {
            id,
            from: from.to_owned(),
            to: to.to_owned(),
            body: format!("{number} from {from} to {to}"),
            invoked_ms: now_ms,
            acknowledged_ms: u64::MAX,
            doubtful: false,
            fate: Fate::Unknown,
        });
        number
    }

    /// Takes an acknowledgement. Answers with what is wrong about it.
    pub fn acknowledge(&mut self, number: Number, message: &Message, now_ms: u64) -> Result<(), String> {
        let attempt = &mut self.attempts[number];
        let place = Place { conversation: message.conversation_id.clone(), seq: message.seq, cursor: message.cursor };
        if message.body != attempt.body {
            return Err(format!("attempt {number} was answered with the message \"{}\"", message.body));
        }
        match &attempt.fate {
            Fate::Acknowledged(first) if *first != place => {
                Err(format!("attempt {number} took effect twice: at {first:?} and at {place:?}"))
            }
            Fate::Acknowledged(_) => Ok(()),
            Fate::Refused => Err(format!("attempt {number} was refused, and took effect all the same")),
            Fate::Unknown => {
                attempt.fate = Fate::Acknowledged(place);
                attempt.acknowledged_ms = now_ms;
                Ok(())
            }
        }
    }

    /// A try of it ended without an answer.
    pub fn doubt(&mut self, number: Number) {
        self.attempts[number].doubtful = true;
    }

    /// A try of it was refused for good.
    pub fn refuse(&mut self, number: Number) {
        let attempt = &mut self.attempts[number];
        if attempt.fate == Fate::Unknown && !attempt.doubtful {
            attempt.fate = Fate::Refused;
        }
    }

    pub fn count(&self, of: impl Fn(&Fate) -> bool) -> usize {
        self.attempts.iter().filter(|attempt| of(&attempt.fate)).count()
    }

    /// The places in a direct conversation of these two that were acknowledged so far.
    pub fn known(&self, a: &str, b: &str) -> BTreeMap<u64, String> {
        let between =
            |attempt: &&Attempt| (attempt.from == a && attempt.to == b) || (attempt.from == b && attempt.to == a);
        let places = self.attempts.iter().filter(between).filter_map(|attempt| match &attempt.fate {
            Fate::Acknowledged(place) => Some((place.seq, attempt.body.clone())),
            _ => None,
        });
        places.collect()
    }

    /// Holds a whole timeline of two users against the ledger.
    pub fn check_timeline(&self, a: &str, b: &str, timeline: &[Message]) -> Vec<String> {
        let mut wrong = check_density(timeline);
        let by_body: BTreeMap<&str, (Number, &Attempt)> = self
            .attempts
            .iter()
            .enumerate()
            .map(|(number, attempt)| (attempt.body.as_str(), (number, attempt)))
            .collect();
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for message in timeline {
            match by_body.get(message.body.as_str()) {
                None => wrong.push(format!("\"{}\" at {} was never sent", message.body, message.seq)),
                Some((number, attempt)) => {
                    if !seen.insert(number) {
                        wrong.push(format!("attempt {number} stands twice, again at {}", message.seq));
                    }
                    if attempt.fate == Fate::Refused {
                        wrong.push(format!("attempt {number} was refused, and stands at {}", message.seq));
                    }
                    if attempt.from != message.sender {
                        wrong.push(format!("attempt {number} stands under the name {}", message.sender));
                    }
                    found.push((message.seq, *attempt));
                }
            }
        }
        let texts: BTreeMap<u64, &str> = timeline.iter().map(|message| (message.seq, message.body.as_str())).collect();
        for (seq, body) in self.known(a, b) {
            if texts.get(&seq) != Some(&body.as_str()) {
                wrong.push(format!("acknowledged \"{body}\" is not at {seq}: {:?}", texts.get(&seq)));
            }
        }
        wrong.extend(check_real_time(&found));
        wrong
    }
}

/// Dense sequence numbers from 1, increasing cursors.
pub fn check_density(timeline: &[Message]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut cursor = 0;
    for (at, message) in timeline.iter().enumerate() {
        if message.seq != at as u64 + 1 {
            wrong.push(format!("{} has {} in place {}", message.conversation_id, message.seq, at + 1));
            break;
        }
        if message.cursor <= cursor {
            wrong.push(format!("{}: the cursor does not increase at {}", message.conversation_id, message.seq));
        }
        cursor = message.cursor;
    }
    wrong
}

/// If A was acknowledged before B was invoked, A stands before B.
fn check_real_time(found: &[(u64, &Attempt)]) -> Vec<String> {
    let mut latest_begin = (0, 0);
    let mut wrong = Vec::new();
    for (seq, attempt) in found {
        let (begun, of) = latest_begin;
        if attempt.acknowledged_ms < begun {
            wrong.push(format!("{seq} was acknowledged before {of} was sent, and stands after it"));
        }
        latest_begin = latest_begin.max((attempt.invoked_ms, *seq));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for at in 0..3 {
            let id = RequestId::new(at, [at as u8; 10]);
            ledger.begin(id, "a", "b", at * 10);
        }
        ledger
    }

    fn message(seq: u64, body: &str) -> Message {
        Message {
            conversation_id: "c1".into(),
            seq,
            cursor: seq,
            sender: "a".into(),
            body: body.into(),
            ..Default::default()
        }
    }

    fn timeline(bodies: &[&str]) -> Vec<Message> {
        bodies.iter().zip(1..).map(|(body, seq)| message(seq, body)).collect()
    }

    #[test]
    fn what_holds_is_not_complained_about() {
        let mut ledger = ledger();
        ledger.acknowledge(0, &message(1, "0 from a to b"), 5).unwrap();
        ledger.refuse(1);
        let whole = timeline(&["0 from a to b", "2 from a to b"]);
        assert_eq!(ledger.check_timeline("a", "b", &whole), Vec::<String>::new());
    }

    #[test]
    fn every_broken_rule_is_named() {
        let mut ledger = ledger();
        ledger.acknowledge(0, &message(1, "0 from a to b"), 5).unwrap();
        ledger.refuse(1);
        for (bodies, complaint) in [
            (&["2 from a to b"][..], "is not at 1"),
            (&["0 from a to b", "1 from a to b"], "was refused"),
            (&["0 from a to b", "2 from a to b", "2 from a to b"], "stands twice"),
            (&["0 from a to b", "x"], "was never sent"),
            (&["2 from a to b", "0 from a to b"], "was acknowledged before"),
        ] {
            let wrong = ledger.check_timeline("a", "b", &timeline(bodies));
            assert!(wrong.iter().any(|wrong| wrong.contains(complaint)), "{bodies:?}: {wrong:?}");
        }
        assert!(!ledger.check_timeline("a", "b", &[message(2, "0 from a to b")]).is_empty());
        assert!(ledger.acknowledge(0, &message(2, "0 from a to b"), 5).is_err());
        assert!(ledger.acknowledge(1, &message(2, "1 from a to b"), 5).is_err());
    }
}
