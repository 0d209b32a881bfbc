//! The verb `bench`: how fast the cluster acknowledges messages.
//!
//! It is a closed loop: each sender waits for its acknowledgement before it sends again, so the latencies leave out what
//! an open load would queue (coordinated omission). Sessions and connections are real ones over gRPC.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{args::Bench, command_context::CommandContext, histogram::Histogram};
use crate::{
    cli::{Exit, Failure, Result},
    client::{Cluster, Recipient, Session},
    types::Entropy,
    wire::{Fault, Reason},
};

/// Default number of accounts, if there are that many senders.
const ACCOUNTS: u32 = 16;
/// Accounts created or deleted concurrently. Each costs a node a password hash, which is slow by design.
const AT_ONCE: usize = 4;

/// The measurements of one or more senders.
struct Tally {
    latencies: Histogram,
    faults: BTreeMap<Reason, u64>,
}

impl Tally {
    fn new() -> Self {
        Self { latencies: Histogram::new(), faults: BTreeMap::new() }
    }

    fn merge(&mut self, other: &Self) {
        self.latencies.merge(&other.latencies);
        for (reason, count) in &other.faults {
            *self.faults.entry(*reason).or_default() += count;
        }
    }
}

/// An account created for the measurement.
struct Account {
    name: String,
    session: Session,
}

pub(super) async fn run(mut context: CommandContext, args: Bench) -> Result<()> {
    // Each `Cluster` has connections of its own.
    let clusters = (0..args.connections).map(|_| context.cluster()).collect::<Result<Vec<Cluster>>>()?;
    let password = hex(Entropy::system().bytes::<16>());
    let count = args.accounts.unwrap_or(args.clients.min(ACCOUNTS));
    context.output().talk(format!("creating {count} accounts"));
    let accounts = sign_up(&clusters, count, &password).await?;
    context.output().talk(format!(
        "{} clients sending for {}",
        args.clients,
        humantime::format_duration(args.duration)
    ));
    let (tally, elapsed) = measure(&clusters, &accounts, &args).await?;
    if !args.keep {
        // Best effort: a name that stays behind does no harm.
        stream::iter(&accounts)
            .for_each_concurrent(AT_ONCE, |account| async {
                let _ = account.session.delete_account(&password, true).await;
            })
            .await;
    }
    report(&mut context, &args, &tally, elapsed)
}

/// Creates `count` accounts with names that no earlier run has used, and signs in to each.
async fn sign_up(clusters: &[Cluster], count: u32, password: &str) -> Result<Vec<Account>> {
    let run = hex(Entropy::system().bytes::<4>());
    let made = stream::iter(0..count).map(|number| {
        let name = format!("bench-{run}-{number}");
        let cluster = &clusters[number as usize % clusters.len()];
        async move {
            Session::register(cluster, &name, password).await?;
            let (session, _) = Session::login(cluster, &name, password, "bench").await?;
            Ok(Account { name, session })
        }
    });
    let made: std::result::Result<Vec<Account>, Fault> = made.buffered(AT_ONCE).try_collect().await;
    made.map_err(|fault| Failure::from(fault).context("cannot create the accounts"))
}

/// Runs all senders until the time is over, and returns their measurements and the time that it took.
async fn measure(clusters: &[Cluster], accounts: &[Account], args: &Bench) -> Result<(Tally, Duration)> {
    let begun = Instant::now();
    let until = begun + args.duration;
    let interrupted = CancellationToken::new();
    let interrupt = interrupted.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupt.cancel();
        }
    });
    let mut senders = JoinSet::new();
    for number in 0..args.clients as usize {
        let account = &accounts[number % accounts.len()];
        let to = Recipient::Username(accounts[(number + 1) % accounts.len()].name.clone());
        let session = account.session.through(&clusters[number % clusters.len()]);
        let bodies = Bodies::new(u64::from_le_bytes(Entropy::system().bytes()), args.bytes);
        let sender = Sender { session, to, bodies, until, interrupted: interrupted.clone() };
        senders.spawn(sender.run());
    }
    let mut total = Tally::new();
    while let Some(tally) = senders.join_next().await {
        let tally = tally.map_err(|error| Failure::new(Exit::Failure, format!("a sender panicked: {error}")))?;
        total.merge(&tally);
    }
    Ok((total, begun.elapsed()))
}

/// One sender. It sends until its time is over or the measurement is interrupted.
struct Sender {
    session: Session,
    to: Recipient,
    bodies: Bodies,
    until: Instant,
    interrupted: CancellationToken,
}

impl Sender {
    async fn run(mut self) -> Tally {
        let mut tally = Tally::new();
        loop {
            let body = self.bodies.next();
            let begun = Instant::now();
            if begun >= self.until || self.interrupted.is_cancelled() {
                return tally;
            }
            match self.session.send(&self.to, &body).await {
                Ok(_) => tally.latencies.record(begun.elapsed()),
                Err(fault) => {
                    *tally.faults.entry(fault.reason).or_default() += 1;
                    // A refusal comes back at once, so without a pause this would spin.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
}

/// Bodies of random letters, all different. Repetitive ones would compress well and flatter the figures.
struct Bodies {
    /// State of a xorshift generator (Marsaglia 2003, shifts 13, 7, 17); never zero.
    state: u64,
    bytes: u32,
}

impl Bodies {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .";

    fn new(seed: u64, bytes: u32) -> Self {
        Self { state: seed | 1, bytes }
    }

    fn next(&mut self) -> String {
        (0..self.bytes).map(|_| self.letter()).collect()
    }

    fn letter(&mut self) -> char {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        char::from(Self::LETTERS[(self.state >> 58) as usize])
    }
}

fn report(context: &mut CommandContext, args: &Bench, tally: &Tally, elapsed: Duration) -> Result<()> {
    let writes = tally.latencies.count();
    let rate = writes as f64 / elapsed.as_secs_f64();
    let [p50, p99, p999] = [500, 990, 999].map(|thousandths| tally.latencies.at(thousandths).as_secs_f64() * 1e3);
    let faults: u64 = tally.faults.values().sum();
    if context.output().is_json() {
        let by_reason: BTreeMap<&str, u64> = tally.faults.iter().map(|(why, count)| (why.as_str(), *count)).collect();
        return context.output().json(&json!({
            "clients": args.clients,
            "seconds": elapsed.as_secs_f64(),
            "writes": writes.to_string(),
            "writesPerSecond": rate,
            "p50Ms": p50,
            "p99Ms": p99,
            "p999Ms": p999,
            "errors": faults.to_string(),
            "errorsByReason": by_reason,
        }));
    }
    let line =
        format!("{} clients: {rate:.0} writes/s, p50 {p50:.2} ms, p99 {p99:.2} ms, p999 {p999:.2} ms", args.clients);
    context.output().line(format!("{line}, {writes} acknowledged, {faults} errors"))?;
    for (reason, count) in &tally.faults {
        context.output().line(format!("  {} {count}", reason.as_str()))?;
    }
    Ok(())
}

fn hex<const N: usize>(bytes: [u8; N]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
