//! The story: one node, five, two killed, all killed, all back; then the books are checked.

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

/// Messages a second.
const RATE: u32 = 40;
/// How long one operation of a client may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a process may take until it answers, or the cluster until it writes again.
const START: Duration = Duration::from_secs(20);
/// How soon a cluster of which every node was killed shall write again, counted from the start of its processes.
const RESTART: Duration = Duration::from_secs(10);
/// How long people chat between two events.
const CHAT: Duration = Duration::from_millis(1_500);
const LOOK: Duration = Duration::from_millis(50);

/// Who chats.
const NAMES: [&str; 2] = ["alice", "bob"];

struct Story<'a> {
    fleet: Fleet,
    cluster: Cluster,
    probe: Probe,
    live: Live<'a>,
    begun: Instant,
}

pub(super) async fn tell(options: &Options, output: &mut Output) -> Result<()> {
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
    /// Founds a cluster of one, and starts the chat.
    async fn begin(size: usize, options: &Options, password: &str, output: &'a mut Output) -> Result<Self> {
        let begun = Instant::now();
        let mut live = Live::new(output).on_terminals();
        let mut fleet = Fleet::new(size, options.dir.as_deref())?;
        live.say(&format!("{size} nodes on 127.0.0.1, data in {}", fleet.directory.display()));
        fleet.found()?;
        fleet.start(0)?;
        let seeds: Vec<Address> = fleet.machines.iter().map(|machine| machine.address.clone()).collect();
        let cluster = Cluster::new(seeds, Dialer::tcp(), Settings::new(TIMEOUT));
        up(&mut fleet, &cluster, 0).await?;
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
        story.say("n1 is a cluster of one; alice and bob chat, every message is written down");
        Ok(story)
    }

    /// A line with the time.
    fn say(&mut self, line: &str) {
        self.live.say(&format!("{:5.1} s  {line}", self.begun.elapsed().as_secs_f64()));
    }

    /// Starts an empty node and adds it, as an operator does.
    async fn add(&mut self, number: usize) -> Result<()> {
        self.fleet.start(number)?;
        up(&mut self.fleet, &self.cluster, number).await?;
        let machine = &self.fleet.machines[number];
        let (name, zone, address) = (machine.name.clone(), machine.zone, machine.address.to_string());
        let line = self.admin(&["add-node", &name, &address, "--zone", zone]).await?;
        let now = line.lines().find_map(|line| line.trim().strip_prefix("now:")).unwrap_or_default().trim().to_owned();
        let words = now.split(';').next().unwrap_or_default();
        self.say(&format!("{name} added in zone {zone}: {words}"));
        self.fleet.check()
    }

    /// What `chat-admin` prints.
    async fn admin(&self, command: &[&str]) -> Result<String> {
        let endpoints = self.fleet.addresses();
        let line =
            ["chat-admin", "--endpoints", &endpoints, "--timeout", "30s"].into_iter().chain(command.iter().copied());
        let args = admin::Args::try_parse_from(line).map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
        let (mut output, captured) = Output::captured(false);
        admin::run(args, Dialer::tcp(), &mut output).await?;
        Ok(captured.data())
    }

    /// What the cluster survives, in the words of `chat-admin status`.
    async fn tolerance(&mut self) -> Result<()> {
        let status = self.admin(&["status"]).await?;
        let verdict = status.rsplit("\n\n").next().unwrap_or_default();
        self.say("chat-admin status says:");
        for line in verdict.lines() {
            self.live.say(&format!("           {line}"));
        }
        Ok(())
    }

    /// Lets people chat.
    async fn chat(&mut self, length: Duration) -> Result<()> {
        let until = Instant::now() + length;
        while Instant::now() < until {
            self.live.show(&self.probe.progress());
            sleep(LOOK).await;
        }
        self.fleet.check()
    }

    /// Kills `count` nodes at once, the leader among them, and waits until writes go on. Answers with whom.
    async fn kill_some(&mut self, count: usize) -> Result<Vec<usize>> {
        let leader = self.probe.progress().leader;
        let leads = |number: &usize| self.fleet.machines[*number].name == leader;
        let mut victims: Vec<usize> = (0..self.fleet.machines.len()).rev().collect();
        // The leader first; then from the end, where the other zone is.
        victims.sort_by_key(|number| !leads(number));
        victims.truncate(count);
        let names: Vec<&str> = victims.iter().map(|number| self.fleet.machines[*number].name.as_str()).collect();
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
        let until = Instant::now() + START;
        loop {
            self.live.show(&self.probe.progress());
            if let Some(took) = self.probe.recovered(at, LOOK).await {
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
                // The verdict will tell; nothing is gained by waiting for longer.
                self.say(&format!("NO WRITE for {} s", START.as_secs()));
                return Ok(());
            }
        }
    }

    /// The power goes out: every node that still runs is killed at once.
    fn kill_the_rest(&mut self, victims: &[usize]) {
        let rest: Vec<usize> = (0..self.fleet.machines.len()).filter(|number| !victims.contains(number)).collect();
        for number in &rest {
            self.fleet.kill(*number);
        }
        self.say(&format!("SIGKILL to the other {} as well: nothing runs any more", rest.len()));
    }

    /// Starts all nodes from their disks.
    async fn restart(&mut self) -> Result<()> {
        let size = self.fleet.machines.len();
        let at = self.probe.incident(format!("all {size} killed, restarted"), RESTART);
        for number in 0..size {
            self.fleet.start(number)?;
        }
        self.say(&format!("all {size} started again from their disks"));
        self.recover(at).await?;
        for number in 0..size {
            up(&mut self.fleet, &self.cluster, number).await?;
        }
        Ok(())
    }

    /// Stops the chat, reads every node, and gives the verdict.
    async fn end(mut self, options: &Options, password: &str) -> Result<()> {
        self.say("the chat has ended: every node is read and compared with what was acknowledged");
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

/// Waits until a node's process answers.
async fn up(fleet: &mut Fleet, cluster: &Cluster, number: usize) -> Result<()> {
    let (address, until) = (fleet.machines[number].address.clone(), Instant::now() + START);
    while cluster.membership_of(&address).await.is_err() {
        fleet.check()?;
        if Instant::now() >= until {
            let name = &fleet.machines[number].name;
            let message = format!("node {name} does not answer at {address} after {} s", START.as_secs());
            return Err(Failure::new(Exit::Failure, message).next("is this machine very busy? run the demo once more"));
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// How to go on with a cluster that was left running.
fn usage(fleet: &Fleet, password: &str) -> Vec<String> {
    let (addresses, directory) = (fleet.addresses(), fleet.directory.display());
    let pids: Vec<String> = fleet.pids().iter().map(ToString::to_string).collect();
    vec![
        String::new(),
        format!("The cluster goes on running, with its data and logs in {directory}. To use it:"),
        "  cargo build --release --bins && export PATH=$PWD/target/release:$PATH     # chat and chat-admin".to_owned(),
        format!("  export CHAT_SERVERS={addresses} CHAT_ENDPOINTS={addresses}"),
        format!("  export CHAT_PASSWORD={password}     # of alice and of bob"),
        "  chat-admin status".to_owned(),
        "  chat login alice && chat history bob --limit 5 && chat send bob hello".to_owned(),
        "To stop it and clean up:".to_owned(),
        format!("  kill -9 {} && rm -r {directory}", pids.join(" ")),
    ]
}
