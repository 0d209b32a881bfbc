//! `chat-admin probe`: load on a running cluster with a ledger of every write, and then the verdict.
//!
//! The load, the ledger and the checks are in [`client::probe`](crate::client::probe). Here are the flags, the live line
//! and the report. `chat-node demo` uses the latter two as well.

mod live;
mod show;
#[cfg(test)]
mod tests;

use std::time::Duration;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::time::{Instant, interval, sleep_until};

pub use live::Live;
pub use show::{conclude, verdict};

use super::{Exit, Failure, Output, Result, duration};
use crate::{
    client::{
        Cluster,
        probe::{self, Probe},
    },
    types::Entropy,
};

/// Pause between two updates of the live line.
const UPDATE_INTERVAL: Duration = Duration::from_millis(250);

/// `probe`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Messages per second in total
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(probe::RATE)))]
    pub rate: u32,
    /// Length of the load
    #[arg(long = "for", default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub length: Duration,
    /// Processes of this machine to kill with SIGKILL, one after another at even intervals
    #[arg(long, value_delimiter = ',', value_name = "PID", value_parser = pid)]
    pub kill: Vec<Pid>,
}

/// Parses the id of a process to kill. Refuses 0, 1, ourselves, and negative numbers, which would mean process groups.
fn pid(text: &str) -> std::result::Result<Pid, String> {
    let number: i32 = text.parse().map_err(|_| "a process id is a number".to_owned())?;
    let may = number > 1 && u32::try_from(number).is_ok_and(|number| number != std::process::id());
    may.then(|| Pid::from_raw(number)).flatten().ok_or_else(|| format!("a probe must not kill process {number}"))
}

/// Runs a probe against `cluster`.
///
/// # Errors
/// [`Exit::ChecksFailed`] if a metric failed; the output says which.
pub async fn run(options: &Options, cluster: &Cluster, output: &mut Output) -> Result<()> {
    check(options)?;
    let probe = Probe::start(cluster, accounts(options.rate)).await;
    let probe = probe.map_err(|fault| Failure::from(fault).context("cannot start the probe"))?;
    let mut live = Live::new(output);
    watch(options, &probe, &mut live).await?;
    live.say("the load has ended; reading every replica");
    let report = tokio::select! {
        report = probe.finish() => report,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::new(Exit::Failure, "interrupted before the replicas were read")
                .next("the accounts of the probe, named probe-…, were not deleted"));
        }
    };
    conclude(&report, live.output())
}

/// Checks before any load that the ledger can hold the run, and that every process can be killed.
fn check(options: &Options) -> Result<()> {
    let messages = u128::from(options.rate) * options.length.as_millis() / 1000;
    if messages > probe::ATTEMPTS as u128 {
        let message = format!("{messages} messages exceed the ledger, which holds {}", probe::ATTEMPTS);
        return Err(Failure::new(Exit::Usage, message).next("lower --rate or --for"));
    }
    for pid in &options.kill {
        if let Err(error) = test_kill_process(*pid) {
            let number = pid.as_raw_nonzero();
            return Err(Failure::new(Exit::NotFound, format!("cannot kill process {number}: {error}"))
                .next("--kill takes ids of your processes on this machine"));
        }
    }
    Ok(())
}

/// Fresh names and a fresh password, so that probes do not disturb each other or real accounts.
fn accounts(rate: u32) -> probe::Options {
    let run = hex(Entropy::system().bytes::<4>());
    probe::Options {
        rate,
        names: [format!("probe-{run}-1"), format!("probe-{run}-2")],
        password: hex(Entropy::system().bytes::<16>()),
        room: format!("probe-{run}"),
        clean: true,
    }
}

/// Waits for the end of the load. Updates the live line, and kills each process at its time.
async fn watch(options: &Options, probe: &Probe, live: &mut Live<'_>) -> Result<()> {
    let begun = Instant::now();
    let mut updates = interval(UPDATE_INTERVAL);
    // n kills split the load into n + 1 equal parts. The list is reversed so that the next kill is at its end.
    let parts = u32::try_from(options.kill.len()).unwrap_or(u32::MAX).saturating_add(1);
    let mut due: Vec<(Instant, Pid)> =
        (1..).zip(&options.kill).map(|(part, pid)| (begun + options.length * part / parts, *pid)).collect();
    due.reverse();
    loop {
        let next = due.last().map_or(begun + options.length, |(when, _)| *when);
        tokio::select! {
            _ = updates.tick() => live.show(&probe.progress()),
            () = sleep_until(next) => match due.pop() {
                Some((_, pid)) => kill(pid, probe, live)?,
                None => return Ok(()),
            },
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                live.say("stopped early by ctrl-c");
                return Ok(());
            }
        }
    }
}

fn kill(pid: Pid, probe: &Probe, live: &mut Live<'_>) -> Result<()> {
    let number = pid.as_raw_nonzero();
    // Before the kill: the recovery time counts from here.
    probe.incident(format!("process {number} killed"), probe::RECOVERY);
    kill_process(pid, Signal::KILL)
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot kill process {number}: {error}")))?;
    live.say(&format!("process {number} killed with SIGKILL"));
    Ok(())
}

/// `bytes` in hexadecimal.
pub(super) fn hex<const N: usize>(bytes: [u8; N]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
