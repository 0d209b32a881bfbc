//! The steps of the demo: one node, five nodes, two killed, all killed, all restarted; then the verdict.

use std::time::Duration;

use clap::Parser;
use tokio::time::{Instant, sleep};

use super::{
    super::{
        Exit, Failure, Output, Result, admin,
        probe::{Live, conclude, hex},
    },
    Options,
    fleet::Fleet,
};
use crate::{
    client::{
        Cluster, Settings,
        probe::{self, Probe, RECOVERY},
    },
    types::Entropy,
    wire::{Address, Dialer},
};

/// Messages per second.
const RATE: u32 = 40;
/// Timeout of one operation of a client.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for a process to answer, or for the cluster to write again.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Bound on the recovery time after all nodes were killed, from the start of the processes to the next write.
const RESTART: Duration = Duration::from_secs(10);
/// How long the chat goes on between two steps.
const CHAT: Duration = Duration::from_millis(1_500);
/// Poll interval.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The accounts that chat.
const NAMES: [&str; 2] = ["alice", "bob"];

/// A running demo. Dropping it, at the end or on an error, ends the nodes by dropping the fleet.
struct Story<'a> {
    fleet: Fleet,
    /// A client that knows the addresses of all nodes, also of those that do not run yet.
    cluster: Cluster,
    /// Chats from the first node to the end.
    probe: Probe,
    live: Live<'a>,
    begun: Instant,
}

/// Runs all steps.
pub(super) async fn run(options: &Options, output: &mut Output) -> Result<()> {
    let size = usize::from(options.nodes);
    let password = hex(Entropy::system().bytes::<8>());
    let mut story = Story::begin(size, options, &password, output).await?;
    for number in 1..size {
        story.add(number).await?;
    }
    story.tolerance().await?;
    story.chat(CHAT).await?;
    let victims = story.kill_some((size - 1) / 2).await?;
    story.chat(CHAT).await?;
    story.kill_the_rest(&victims);
    story.restart().await?;
    story.chat(CHAT).await?;
    story.end(options, &password).await
}

impl<'a> Story<'a> {
    /// Makes a cluster of one node and starts the chat.
    async fn begin(size: usize, options: &Options, password: &str, output: &'a mut Output) -> Result<Self> {
        let begun = Instant::now();
        let mut live = Live::new(output).only_on_terminals();
        let mut fleet = Fleet::new(size, options.dir.as_deref())?;
        live.say(&format!("{size} nodes on 127.0.0.1, data in {}", fleet.directory.display()));
        fleet.init_first()?;
        fleet.start(0)?;
        let seeds: Vec<Address> = fleet.nodes.iter().map(|node| node.address.clone()).collect();
        let cluster = Cluster::new(seeds, Dialer::tcp(), Settings::new(TIMEOUT));
        wait_until_up(&mut fleet, &cluster, 0).await?;
        let chat = probe::Options {
            rate: RATE,
            names: NAMES.map(str::to_owned),
            password: password.to_owned(),
            room: "demo".to_owned(),
            clean: false,
        };
        let probe = Probe::start(&cluster, chat).await;
        let probe = probe.map_err(|fault| Failure::from(fault).context("cannot start the chat"))?;
        let mut story = Self { fleet, cluster, probe, live, begun };
        story.say("n1 is a cluster of one; alice and bob chat, and a ledger records every message");
        Ok(story)
    }

    /// Prints a line with the time since the start.
    fn say(&mut self, line: &str) {
        self.live.say(&format!("{:5.1} s  {line}", self.begun.elapsed().as_secs_f64()));
    }

    /// Starts an empty node and adds it with `chat-admin add-node`.
    async fn add(&mut self, number: usize) -> Result<()> {
        self.fleet.start(number)?;
        wait_until_up(&mut self.fleet, &self.cluster, number).await?;
        let node = &self.fleet.nodes[number];
        let (name, zone, address) = (node.name.clone(), node.zone, node.address.to_string());
        let line = self.admin(&["add-node", &name, &address, "--zone", zone]).await?;
        let now = line.lines().find_map(|line| line.trim().strip_prefix("now:")).unwrap_or_default().trim().to_owned();
        let words = now.split(';').next().unwrap_or_default();
        self.say(&format!("{name} added in zone {zone}: {words}"));
        self.fleet.check()
    }

    /// Runs a command of `chat-admin` in this process and returns what it prints.
    async fn admin(&self, command: &[&str]) -> Result<String> {
        let endpoints = self.fleet.addresses();
        let line =
            ["chat-admin", "--endpoints", &endpoints, "--timeout", "30s"].into_iter().chain(command.iter().copied());
        let args = admin::Args::try_parse_from(line).map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
        let (mut output, captured) = Output::captured(false);
        admin::run(args, Dialer::tcp(), &mut output).await?;
        Ok(captured.data())
    }

    /// Prints which failures the cluster survives, from `chat-admin status`.
    async fn tolerance(&mut self) -> Result<()> {
        let status = self.admin(&["status"]).await?;
        let verdict = status.rsplit("\n\n").next().unwrap_or_default();
        self.say("chat-admin status says:");
        for line in verdict.lines() {
            self.live.say(&format!("           {line}"));
        }
        Ok(())
    }

    /// Lets the chat go on.
    async fn chat(&mut self, length: Duration) -> Result<()> {
        let until = Instant::now() + length;
        while Instant::now() < until {
            self.live.show(&self.probe.progress());
            sleep(POLL_INTERVAL).await;
        }
        self.fleet.check()
    }

    /// Kills `count` nodes at once, the leader among them, and waits until writes go on. Returns the killed ones.
    async fn kill_some(&mut self, count: usize) -> Result<Vec<usize>> {
        let leader = self.probe.progress().leader;
        let leads = |number: &usize| self.fleet.nodes[*number].name == leader;
        let mut victims: Vec<usize> = (0..self.fleet.nodes.len()).rev().collect();
        // The leader first, then from the end, where the other zone is.
        victims.sort_by_key(|number| !leads(number));
        victims.truncate(count);
        let names: Vec<&str> = victims.iter().map(|number| self.fleet.nodes[*number].name.as_str()).collect();
        let names = names.join(" and ");
        let at = self.probe.incident(format!("{names} killed"), RECOVERY);
        for number in &victims {
            self.fleet.kill(*number);
        }
        self.say(&format!("SIGKILL to {names}; {leader} was the leader"));
        self.recover(at).await?;
        Ok(victims)
    }

    /// Waits for the first write begun after `at`.
    async fn recover(&mut self, at: Duration) -> Result<()> {
        let until = Instant::now() + START_TIMEOUT;
        loop {
            self.live.show(&self.probe.progress());
            if let Some(took) = self.probe.recovered(at, POLL_INTERVAL).await {
                let progress = self.probe.progress();
                let acknowledged = progress.acknowledged;
                self.say(&format!(
                    "writes go on after {:.2} s; {acknowledged} acknowledged so far",
                    took.as_secs_f64()
                ));
                return Ok(());
            }
            self.fleet.check()?;
            if Instant::now() >= until {
                // The verdict will be FAIL; go on to the other metrics.
                self.say(&format!("NO WRITE for {} s", START_TIMEOUT.as_secs()));
                return Ok(());
            }
        }
    }

    /// Kills all other nodes at once, as a power failure would.
    fn kill_the_rest(&mut self, victims: &[usize]) {
        let rest: Vec<usize> = (0..self.fleet.nodes.len()).filter(|number| !victims.contains(number)).collect();
        for number in &rest {
            self.fleet.kill(*number);
        }
        self.say(&format!("SIGKILL to the other {} as well: no node is running", rest.len()));
    }

    /// Starts all nodes again from their disks.
    async fn restart(&mut self) -> Result<()> {
        let size = self.fleet.nodes.len();
        let at = self.probe.incident(format!("all {size} killed, restarted"), RESTART);
        for number in 0..size {
            self.fleet.start(number)?;
        }
        self.say(&format!("all {size} started again from their disks"));
        self.recover(at).await?;
        for number in 0..size {
            wait_until_up(&mut self.fleet, &self.cluster, number).await?;
        }
        Ok(())
    }

    /// Stops the chat, reads every node, and prints the verdict.
    async fn end(mut self, options: &Options, password: &str) -> Result<()> {
        self.say("the chat has ended; reading every node and comparing it with the ledger");
        let report = self.probe.finish().await;
        let took = self.begun.elapsed().as_secs_f64();
        self.live.say(&format!("{took:5.1} s  done"));
        let judged = conclude(&report, self.live.output());
        if options.keep {
            self.fleet.keep();
            let output = self.live.output();
            usage(&self.fleet, password).into_iter().try_for_each(|line| output.line(line))?;
        }
        judged
    }
}

/// Waits until a node answers.
async fn wait_until_up(fleet: &mut Fleet, cluster: &Cluster, number: usize) -> Result<()> {
    let (address, until) = (fleet.nodes[number].address.clone(), Instant::now() + START_TIMEOUT);
    while cluster.membership_of(&address).await.is_err() {
        fleet.check()?;
        if Instant::now() >= until {
            let name = &fleet.nodes[number].name;
            let message = format!("node {name} does not answer at {address} after {} s", START_TIMEOUT.as_secs());
            return Err(Failure::new(Exit::Failure, message).next("this machine may be very busy; run the demo again"));
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// How to use a cluster that was kept.
fn usage(fleet: &Fleet, password: &str) -> Vec<String> {
    let (addresses, directory) = (fleet.addresses(), fleet.directory.display());
    let pids: Vec<String> = fleet.pids().iter().map(ToString::to_string).collect();
    vec![
        String::new(),
        format!("The cluster keeps running, with its data and logs in {directory}. To use it:"),
        "  cargo build --release --bins && export PATH=$PWD/target/release:$PATH     # chat and chat-admin".to_owned(),
        format!("  export CHAT_SERVERS={addresses} CHAT_ENDPOINTS={addresses}"),
        format!("  export CHAT_PASSWORD={password}     # of alice and of bob"),
        "  chat-admin status".to_owned(),
        "  chat login alice && chat history bob --limit 5 && chat send bob hello".to_owned(),
        "To stop it and clean up:".to_owned(),
        format!("  kill -9 {} && rm -r {directory}", pids.join(" ")),
    ]
}
