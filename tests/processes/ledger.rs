//! A load that remembers what it was promised, and checks it afterwards.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use quorate::{
    client::{Cluster, Recipient, Session, Settings, outcome_is_unknown},
    wire::{Dialer, chat::ListMessagesRequest, chat::Message},
};
use tokio::{runtime::Runtime, sync::watch, task::JoinSet};

use crate::{
    cluster::PASSWORD,
    shell::{PATIENCE, eventually},
};

/// Who sends at the same time.
const WRITERS: usize = 4;
const PAGE: i32 = 500;

/// An attempt to send one message.
struct Attempt {
    body: String,
    invoked: Instant,
    answered: Instant,
    /// The message's number; none if its fate is not known.
    seq: Option<u64>,
}

/// Writers that send one message after the other, each waiting for its acknowledgement, until they are stopped.
pub struct Load {
    runtime: Runtime,
    session: Session,
    to: Recipient,
    writers: JoinSet<Vec<Attempt>>,
    acknowledged: watch::Sender<usize>,
    stop: watch::Sender<bool>,
}

impl Load {
    /// Starts at the cluster at these addresses, with accounts of its own.
    pub fn start(addresses: &str) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (session, to) = runtime.block_on(sign_up(addresses));
        let (stop, stopping) = watch::channel(false);
        let acknowledged = watch::Sender::new(0);
        let mut writers = JoinSet::new();
        for number in 0..WRITERS {
            let session = session.through(&client(addresses));
            let (to, stopping, acknowledged) = (to.clone(), stopping.clone(), acknowledged.clone());
            writers.spawn_on(write(number, session, to, stopping, acknowledged), runtime.handle());
        }
        let load = Self { runtime, session, to, writers, acknowledged, stop };
        load.progresses();
        load
    }

    /// Waits until a good many more messages have been acknowledged.
    #[track_caller]
    pub fn progresses(&self) {
        let enough = *self.acknowledged.borrow() + 10 * WRITERS;
        eventually("the load goes on", || *self.acknowledged.borrow() >= enough);
    }

    /// Stops the writers and compares what they were promised with what is there. Answers with the longest time that
    /// nothing was acknowledged.
    #[track_caller]
    pub fn check(mut self) -> Duration {
        self.stop.send_replace(true);
        let (attempts, timeline) = self.runtime.block_on(async {
            let mut attempts = Vec::new();
            while let Some(writer) = self.writers.join_next().await {
                attempts.push(writer.expect("a writer goes to its end"));
            }
            (attempts, timeline(&self.session, &self.to).await)
        });
        check(&attempts, &timeline);
        longest_gap(&attempts)
    }
}

fn client(addresses: &str) -> Cluster {
    let seeds = addresses.split(',').map(|address| address.parse().expect("an address")).collect();
    Cluster::new(seeds, Dialer::tcp(), Settings::new(PATIENCE))
}

async fn sign_up(addresses: &str) -> (Session, Recipient) {
    let client = client(addresses);
    for name in ["writer", "reader"] {
        Session::register(&client, name, PASSWORD).await.expect("an account");
    }
    let (session, _) = Session::login(&client, "writer", PASSWORD, "test").await.expect("a session");
    (session, Recipient::Username("reader".into()))
}

async fn write(
    number: usize,
    session: Session,
    to: Recipient,
    stopping: watch::Receiver<bool>,
    acknowledged: watch::Sender<usize>,
) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    while !*stopping.borrow() {
        let body = format!("{number}/{}", attempts.len());
        let invoked = Instant::now();
        let seq = match session.send(&to, &body).await {
            Ok(answer) => Some(answer.message.expect("the message").seq),
            Err(fault) if fault.reason.is_transient() || outcome_is_unknown(&fault) => None,
            Err(fault) => panic!("{body} was refused: {fault}"),
        };
        acknowledged.send_modify(|count| *count += usize::from(seq.is_some()));
        attempts.push(Attempt { body, invoked, answered: Instant::now(), seq });
    }
    attempts
}

/// All there is, oldest first.
async fn timeline(session: &Session, of: &Recipient) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    let mut before_seq = u64::MAX;
    while before_seq > 1 {
        let request = ListMessagesRequest { before_seq, page_size: PAGE, ..Default::default() };
        let page = session.messages(Some(of), request).await.expect("a page of the timeline").messages;
        let Some(first) = page.iter().map(|message| message.seq).min() else { break };
        before_seq = first;
        messages.extend(page);
    }
    messages.sort_by_key(|message| message.seq);
    messages
}

fn check(attempts: &[Vec<Attempt>], timeline: &[Message]) {
    let dense = timeline.iter().zip(1..).all(|(message, seq)| message.seq == seq);
    assert!(dense, "the timeline has gaps or doubles: {:?}", timeline.iter().map(|m| m.seq).collect::<Vec<_>>());
    let mut sent = BTreeMap::new();
    for attempt in attempts.iter().flatten() {
        sent.insert(attempt.body.as_str(), attempt);
        let Some(seq) = attempt.seq else { continue };
        let there = timeline.get(seq as usize - 1).map(|message| message.body.as_str());
        assert_eq!(there, Some(attempt.body.as_str()), "acknowledged as {seq}, which is not there");
    }
    let mut seen = BTreeMap::new();
    for message in timeline {
        assert!(sent.contains_key(message.body.as_str()), "{} was never sent", message.body);
        let before = seen.insert(message.body.as_str(), message.seq);
        assert_eq!(before, None, "{} is there twice, the second time as {}", message.body, message.seq);
    }
    real_time_order(attempts);
}

/// What was acknowledged before another was sent stands before it.
fn real_time_order(attempts: &[Vec<Attempt>]) {
    let mut answered: Vec<(Instant, u64)> = Vec::new();
    let mut invoked: Vec<(Instant, u64)> = Vec::new();
    for attempt in attempts.iter().flatten() {
        let Some(seq) = attempt.seq else { continue };
        answered.push((attempt.answered, seq));
        invoked.push((attempt.invoked, seq));
    }
    answered.sort_unstable();
    invoked.sort_unstable();
    let (mut answers, mut highest) = (answered.into_iter().peekable(), 0);
    for (when, seq) in invoked {
        while let Some((_, earlier)) = answers.next_if(|(answered, _)| *answered < when) {
            highest = highest.max(earlier);
        }
        assert!(highest < seq, "{seq} was sent after {highest} had been acknowledged, and yet stands before it");
    }
}

fn longest_gap(attempts: &[Vec<Attempt>]) -> Duration {
    let acknowledged = attempts.iter().flatten().filter(|attempt| attempt.seq.is_some());
    let mut moments: Vec<Instant> = acknowledged.map(|attempt| attempt.answered).collect();
    moments.sort_unstable();
    moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64, body: &str) -> Message {
        Message { seq, body: body.into(), ..Default::default() }
    }

    fn attempts(seqs: &[Option<u64>]) -> Vec<Vec<Attempt>> {
        let begun = Instant::now();
        let at = |number: u32| begun + Duration::from_secs(number.into());
        let attempt = |(number, seq): (u32, &Option<u64>)| Attempt {
            body: format!("0/{number}"),
            invoked: at(2 * number),
            answered: at(2 * number + 1),
            seq: *seq,
        };
        vec![(0..).zip(seqs).map(attempt).collect()]
    }

    fn holds(seqs: &[Option<u64>], bodies: &[&str]) -> bool {
        let timeline: Vec<Message> = (1..).zip(bodies).map(|(seq, body)| message(seq, body)).collect();
        std::panic::catch_unwind(|| check(&attempts(seqs), &timeline)).is_ok()
    }

    #[test]
    fn the_ledger_finds_what_is_missing_doubled_invented_or_out_of_order() {
        assert!(holds(&[Some(1), None, Some(2)], &["0/0", "0/2"]), "one of unknown fate may be missing");
        assert!(holds(&[Some(1), None, Some(3)], &["0/0", "0/1", "0/2"]), "or be there");
        assert!(!holds(&[Some(1), Some(2)], &["0/0"]), "missing");
        assert!(!holds(&[Some(1), Some(2)], &["0/0", "0/1", "0/1"]), "doubled");
        assert!(!holds(&[Some(1)], &["0/0", "1/0"]), "invented");
        assert!(!holds(&[Some(2), Some(1)], &["0/1", "0/0"]), "out of order");
    }
}
