//! `chat-admin probe`: a load under a ledger through whatever happens meanwhile, then the verdict. The live line and
//! the verdict are shared with `chat-node demo`.

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

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(250);

/// `probe`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Messages a second in all
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(probe::RATE)))]
    pub rate: u32,
    /// For how long
    #[arg(long = "for", default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub length: Duration,
    /// Kill these processes of this machine with SIGKILL, one after the other, spread over the run
    #[arg(long, value_delimiter = ',', value_name = "PID", value_parser = pid)]
    pub kill: Vec<Pid>,
}

/// A process that may be killed: never 0 or 1, never a group.
fn pid(text: &str) -> std::result::Result<Pid, String> {
    let number: i32 = text.parse().map_err(|_| "a process id is a number".to_owned())?;
    let may = number > 1 && u32::try_from(number).is_ok_and(|number| number != std::process::id());
    Pid::from_raw(number).filter(|_| may).ok_or_else(|| format!("{number} is no process that a probe may kill"))
}

/// Runs a probe against `cluster`.
///
/// # Errors
/// [`Exit::Wanting`] when a metric failed; the output has said which.
pub async fn run(options: &Options, cluster: &Cluster, output: &mut Output) -> Result<()> {
    check(options)?;
    let probe = Probe::start(cluster, accounts(options.rate)).await;
    let probe = probe.map_err(|fault| Failure::from(fault).context("cannot start the probe"))?;
    let mut live = Live::new(output);
    watch(options, &probe, &mut live).await?;
    live.say("the load has ended: reading every replica");
    let report = tokio::select! {
        report = probe.finish() => report,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::new(Exit::Failure, "interrupted before the replicas were read")
                .next("its accounts, named probe-…, are left behind"));
        }
    };
    conclude(&report, live.output())
}

fn check(options: &Options) -> Result<()> {
    let messages = u128::from(options.rate) * options.length.as_millis() / 1000;
    if messages > probe::ATTEMPTS as u128 {
        let message = format!("{messages} messages are more than a ledger of {} holds", probe::ATTEMPTS);
        return Err(Failure::new(Exit::Usage, message).next("lower --rate, or --for"));
    }
    for pid in &options.kill {
        if let Err(error) = test_kill_process(*pid) {
            let number = pid.as_raw_nonzero();
            return Err(Failure::new(Exit::NotFound, format!("cannot kill process {number}: {error}"))
                .next("--kill takes ids of processes on this machine that belong to you"));
        }
    }
    Ok(())
}

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

/// Lets the run take its course: shows how far it is, and kills what is due.
async fn watch(options: &Options, probe: &Probe, live: &mut Live<'_>) -> Result<()> {
    let begun = Instant::now();
    let mut looks = interval(LOOK);
    let parts = u32::try_from(options.kill.len()).unwrap_or(u32::MAX).saturating_add(1);
    let mut due: Vec<(Instant, Pid)> =
        (1..).zip(&options.kill).map(|(part, pid)| (begun + options.length * part / parts, *pid)).collect();
    due.reverse();
    loop {
        let next = due.last().map_or(begun + options.length, |(when, _)| *when);
        tokio::select! {
            _ = looks.tick() => live.show(&probe.progress()),
            () = sleep_until(next) => match due.pop() {
                Some((_, pid)) => kill(pid, probe, live)?,
                None => return Ok(()),
            },
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                live.say("stopped early");
                return Ok(());
            }
        }
    }
}

fn kill(pid: Pid, probe: &Probe, live: &mut Live<'_>) -> Result<()> {
    let number = pid.as_raw_nonzero();
    probe.incident(format!("process {number} killed"), probe::RECOVERY);
    kill_process(pid, Signal::KILL)
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot kill process {number}: {error}")))?;
    live.say(&format!("process {number} killed with SIGKILL"));
    Ok(())
}

/// Bytes in hexadecimal.
pub(super) fn hex<const N: usize>(bytes: [u8; N]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
