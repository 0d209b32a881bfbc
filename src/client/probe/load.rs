//! The load itself: writers, readers, a subscriber.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{ATTEMPTS, Desk, SETTLE, lock, replicas};
use crate::{
    client::{Recipient, Start, Update, ledger::Entry, outcome_is_unknown},
    types::{Consistency, ConversationId},
    wire::{Address, chat::subscribe_response::Event},
};

/// Messages a second that one writer is good for while the cluster is slow, at a guess.
const PER_WRITER: u32 = 5;
/// Writers, at most.
const WRITERS: u32 = 64;
/// Readers: each asks every node in turn.
const READERS: usize = 2;
/// Between two reads of one reader.
const READ_EVERY: Duration = Duration::from_millis(100);
/// How long a node may take over a read before the next one is asked.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// A refusal comes back at once: a writer that is refused must not spin.
const REFUSED: Duration = Duration::from_millis(20);

/// Starts writers that send `rate` messages a second between them.
pub(super) fn write(desk: &Arc<Desk>, rate: u32, stop: &CancellationToken, writers: &mut JoinSet<()>) {
    let count = rate.div_ceil(PER_WRITER).clamp(2, WRITERS);
    let period = Duration::from_secs(1) * count / rate.max(1);
    for number in 0..count {
        let (desk, stop) = (desk.clone(), stop.clone());
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
                if !send(&desk, turn).await {
                    return;
                }
                turn += 1;
            }
        });
    }
}

/// Sends one message, whose sender and conversation go with its `turn`. Says whether the ledger has room for more.
async fn send(desk: &Desk, turn: usize) -> bool {
    let sender = turn % 2;
    let session = &desk.accounts.sessions[sender];
    let (conversation, _) = desk.accounts.conversations[turn / 2 % 2];
    let id = desk.cluster.request_id();
    let body = format!("message {id}");
    let attempt = {
        let mut ledger = desk.ledger();
        if ledger.attempts().len() >= ATTEMPTS {
            return false;
        }
        ledger.invoke(desk.now(), id, conversation, body.clone())
    };
    let invoked = desk.now();
    desk.counts.send_modify(|counts| counts.sent += 1);
    match session.send_as(id, &Recipient::Conversation(conversation), &body).await {
        Ok(answer) => {
            let message = answer.message.unwrap_or_default();
            let at = desk.now();
            desk.ledger().acknowledge(at, attempt, message.seq, message.cursor);
            desk.counts.send_modify(|counts| {
                counts.acknowledged += 1;
                counts.last = Some(at);
                counts.newest = counts.newest.max(Some(invoked));
            });
        }
        Err(fault) if outcome_is_unknown(&fault) => {
            desk.ledger().lose_sight(desk.now(), attempt);
            lock(&desk.lost).push((attempt, sender));
            desk.counts.send_modify(|counts| counts.unknown += 1);
        }
        Err(fault) => {
            desk.ledger().refuse(desk.now(), attempt, fault.reason);
            desk.counts.send_modify(|counts| counts.refused += 1);
            sleep(REFUSED).await;
        }
    }
    true
}

/// Repeats every write whose outcome is unknown, under its request_id, until its fate is known or time is up.
pub(super) async fn settle(desk: &Desk) {
    let deadline = Instant::now() + SETTLE;
    let lost = std::mem::take(&mut *lock(&desk.lost));
    for (number, sender) in lost {
        if Instant::now() >= deadline {
            return;
        }
        let (id, conversation, body) = {
            let ledger = desk.ledger();
            let attempt = &ledger.attempts()[number];
            (attempt.id, attempt.conversation, attempt.body.clone())
        };
        let session = &desk.accounts.sessions[sender];
        if let Ok(answer) = session.send_as(id, &Recipient::Conversation(conversation), &body).await {
            let message = answer.message.unwrap_or_default();
            desk.ledger().acknowledge(desk.now(), number, message.seq, message.cursor);
        }
    }
}

/// Starts readers, each on its way from node to node.
pub(super) fn read(desk: &Arc<Desk>, readers: &mut JoinSet<()>) {
    for reader in 0..READERS {
        let desk = desk.clone();
        readers.spawn(async move {
            let mut seen: BTreeMap<ConversationId, u64> = BTreeMap::new();
            for turn in reader.. {
                let members = desk.watched().addresses();
                let (conversation, base) = desk.accounts.conversations[turn / members.len().max(1) % 2];
                if let Some(address) = members.get(turn % members.len().max(1)) {
                    let seen = seen.entry(conversation).or_insert(base);
                    look(&desk, reader, address, conversation, (base, seen)).await;
                }
                sleep(READ_EVERY).await;
            }
        });
    }
}

/// Reads the end of a conversation at one node: from the last message seen on, so that going back shows.
async fn look(
    desk: &Desk,
    reader: usize,
    address: &Address,
    conversation: ConversationId,
    (base, seen): (u64, &mut u64),
) {
    let session = desk.accounts.sessions[reader % 2].reading(Consistency::Linearizable);
    let whence = format!("{} s into the run at {address}", desk.now().as_secs());
    let read = desk.ledger().begin_read(reader, conversation, whence);
    let after = seen.saturating_sub(1).max(base);
    let answer = replicas::timeline(&session, address, conversation, after, READ_TIMEOUT).await;
    // A node that is down or cut off refuses: that proves nothing either way.
    let Ok(entries) = answer else { return };
    *seen = entries.last().map_or(*seen, |entry| entry.seq.max(*seen));
    desk.ledger().end_read(read, entries);
}

/// Listens to everything from the accounts' beginning on, and writes it down.
pub(super) async fn listen(desk: Arc<Desk>) {
    let bases: BTreeMap<String, (ConversationId, u64)> =
        desk.accounts.conversations.iter().map(|(id, base)| (id.to_string(), (*id, *base))).collect();
    let mut subscription = desk.accounts.sessions[1].subscribe(Start::After(0));
    while let Some(Ok(update)) = subscription.next().await {
        let Update::Event(told) = update else { continue };
        let Some(Event::Message(message)) = told.event else { continue };
        let Some((conversation, base)) = bases.get(&message.conversation_id) else { continue };
        if message.seq > *base {
            let entry = Entry { cursor: told.cursor, ..Entry::from(message) };
            lock(&desk.told).push((*conversation, entry));
        }
    }
}

/// Waits until the subscriber has been told all that was acknowledged, or time is up.
pub(super) async fn await_stream(desk: &Desk) {
    let deadline = Instant::now() + SETTLE;
    let newest = desk.ledger().newest_cursor();
    while lock(&desk.told).last().map_or(0, |(_, entry)| entry.cursor) < newest && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
}
