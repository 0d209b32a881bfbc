//! The load: writers, readers and a subscriber, which record everything in the ledger.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{ATTEMPTS, Run, SETTLE, lock, replicas};
use crate::{
    client::{Recipient, Start, Update, ledger::Entry, outcome_is_unknown},
    types::{Consistency, ConversationId},
    wire::{Address, chat::subscribe_response::Event},
};

/// Estimate of how many messages per second one writer sends while the cluster is slow. It decides how many writers
/// run.
const PER_WRITER: u32 = 5;
/// Most writers.
const WRITERS: u32 = 64;
/// Number of readers. Each reads from every node in turn.
const READERS: usize = 2;
/// Wait between two reads of one reader.
const READ_EVERY: Duration = Duration::from_millis(100);
/// Longest wait for one read at one node.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Wait after a refusal. It comes back at once, and a writer must not spin.
const REFUSED: Duration = Duration::from_millis(20);

/// Starts writers that together send `rate` messages per second.
pub(super) fn write(run: &Arc<Run>, rate: u32, stop: &CancellationToken, writers: &mut JoinSet<()>) {
    let count = rate.div_ceil(PER_WRITER).clamp(2, WRITERS);
    let period = Duration::from_secs(1) * count / rate.max(1);
    for number in 0..count {
        let (run, stop) = (run.clone(), stop.clone());
        writers.spawn(async move {
            let mut ticks = interval_at(Instant::now() + period * number / count, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut turn = number as usize;
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    _ = ticks.tick() => {}
                }
                if !send(&run, turn).await {
                    return;
                }
                turn += 1;
            }
        });
    }
}

/// Sends one message; `turn` decides the sender and the conversation. Returns false once the ledger is full.
async fn send(run: &Run, turn: usize) -> bool {
    let sender = turn % 2;
    let session = &run.accounts.sessions[sender];
    let (conversation, _) = run.accounts.conversations[turn / 2 % 2];
    let id = run.cluster.request_id();
    let body = format!("message {id}");
    let attempt = {
        let mut ledger = run.ledger();
        if ledger.attempts().len() >= ATTEMPTS {
            return false;
        }
        ledger.invoke(run.now(), id, conversation, body.clone())
    };
    let invoked = run.now();
    run.counts.send_modify(|counts| counts.sent += 1);
    match session.send_as(id, &Recipient::Conversation(conversation), &body).await {
        Ok(answer) => {
            let message = answer.message.unwrap_or_default();
            let at = run.now();
            run.ledger().acknowledge(at, attempt, message.seq, message.cursor);
            run.counts.send_modify(|counts| {
                counts.acknowledged += 1;
                counts.last = Some(at);
                counts.newest = counts.newest.max(Some(invoked));
            });
        }
        Err(fault) if outcome_is_unknown(&fault) => {
            run.ledger().lose_sight(run.now(), attempt);
            lock(&run.lost).push((attempt, sender));
            run.counts.send_modify(|counts| counts.unknown += 1);
        }
        Err(fault) => {
            run.ledger().refuse(run.now(), attempt, fault.reason);
            run.counts.send_modify(|counts| counts.refused += 1);
            sleep(REFUSED).await;
        }
    }
    true
}

/// Repeats each write of unknown outcome under its request_id, to learn its outcome, for at most [`SETTLE`].
pub(super) async fn settle(run: &Run) {
    let deadline = Instant::now() + SETTLE;
    let lost = std::mem::take(&mut *lock(&run.lost));
    for (number, sender) in lost {
        if Instant::now() >= deadline {
            return;
        }
        let (id, conversation, body) = {
            let ledger = run.ledger();
            let attempt = &ledger.attempts()[number];
            (attempt.id, attempt.conversation, attempt.body.clone())
        };
        let session = &run.accounts.sessions[sender];
        if let Ok(answer) = session.send_as(id, &Recipient::Conversation(conversation), &body).await {
            let message = answer.message.unwrap_or_default();
            run.ledger().acknowledge(run.now(), number, message.seq, message.cursor);
        }
    }
}

/// Starts the readers, each at another node.
pub(super) fn read(run: &Arc<Run>, readers: &mut JoinSet<()>) {
    for reader in 0..READERS {
        let run = run.clone();
        readers.spawn(async move {
            let mut seen: BTreeMap<ConversationId, u64> = BTreeMap::new();
            for turn in reader.. {
                let members = run.watched().addresses();
                let (conversation, base) = run.accounts.conversations[turn / members.len().max(1) % 2];
                if let Some(address) = members.get(turn % members.len().max(1)) {
                    let seen = seen.entry(conversation).or_insert(base);
                    read_end(&run, reader, address, conversation, (base, seen)).await;
                }
                sleep(READ_EVERY).await;
            }
        });
    }
}

/// Reads the end of a conversation at one node, from the last message seen on: a read that goes back in time ends
/// before it.
async fn read_end(
    run: &Run,
    reader: usize,
    address: &Address,
    conversation: ConversationId,
    (base, seen): (u64, &mut u64),
) {
    let session = run.accounts.sessions[reader % 2].reading(Consistency::Linearizable);
    let origin = format!("{} s into the run at {address}", run.now().as_secs());
    let read = run.ledger().begin_read(reader, conversation, origin);
    let after = seen.saturating_sub(1).max(base);
    let answer = replicas::timeline(&session, address, conversation, after, READ_TIMEOUT).await;
    // A node that is down or cut off gives no answer, which proves nothing.
    let Ok(entries) = answer else { return };
    *seen = entries.last().map_or(*seen, |entry| entry.seq.max(*seen));
    run.ledger().end_read(read, entries);
}

/// Subscribes from the beginning of the account and records each message of the two conversations.
pub(super) async fn listen(run: Arc<Run>) {
    let bases: BTreeMap<String, (ConversationId, u64)> =
        run.accounts.conversations.iter().map(|(id, base)| (id.to_string(), (*id, *base))).collect();
    let mut subscription = run.accounts.sessions[1].subscribe(Start::After(0));
    while let Some(Ok(update)) = subscription.next().await {
        let Update::Event(event) = update else { continue };
        let Some(Event::Message(message)) = event.event else { continue };
        let Some((conversation, base)) = bases.get(&message.conversation_id) else { continue };
        if message.seq > *base {
            let entry = Entry { cursor: event.cursor, ..Entry::from(message) };
            lock(&run.received).push((*conversation, entry));
        }
    }
}

/// Waits until the subscriber has received all that was acknowledged, for at most [`SETTLE`].
pub(super) async fn await_stream(run: &Run) {
    let deadline = Instant::now() + SETTLE;
    let newest = run.ledger().newest_cursor();
    while lock(&run.received).last().map_or(0, |(_, entry)| entry.cursor) < newest && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
}
