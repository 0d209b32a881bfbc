//! The command line of `chat-admin`.

use std::{path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    cli::duration,
    types::{NodeName, Zone, limits},
    wire::Address,
};

const EXAMPLES: &str = "\
Examples:
  chat-admin -e 10.0.0.1:7400 status --watch
  chat-admin -e 10.0.0.1:7400,10.0.0.2:7400 add-node n4 10.0.0.4:7400 --zone b
  chat-admin replace-node n3 n6 10.0.0.6:7400 --dry-run     (with CHAT_ENDPOINTS set)
  chat-admin plan --zones a=2,b=2,c=1

Exit codes:
  0 ok, 1 other failure, 2 usage, 3 not found, 4 conflict, 5 not allowed,
  6 unavailable (safe to repeat), 7 refused by a safety check, 8 checks found the cluster wanting";

/// Looks after a Quorate cluster: shows what it survives, adds, replaces and removes nodes.
#[derive(Debug, Parser)]
#[command(name = "chat-admin", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Args {
    /// Nodes of the cluster, comma-separated; any one that answers will do
    #[arg(short, long, global = true, env = "CHAT_ENDPOINTS", value_delimiter = ',', value_name = "HOST:PORT")]
    pub endpoints: Vec<Address>,
    /// How long to try before giving up with exit code 6
    #[arg(long, global = true, env = "CHAT_TIMEOUT", default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub timeout: Duration,
    /// Print JSON: one object, or one per line for streams
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `chat-admin` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// One screen: nodes, roles, zones, leader, lag, and what the cluster survives
    Status {
        /// Keep the screen up to date until interrupted
        #[arg(short, long)]
        watch: bool,
        /// How often to look, with --watch
        #[arg(long, default_value = "1s", value_parser = duration, value_name = "TIME", requires = "watch")]
        interval: Duration,
    },
    /// Add a node that waits at ADDRESS: checks, snapshot, log, promotion
    AddNode {
        /// The node that comes.
        #[command(flatten)]
        node: NewNode,
        /// Leave it a learner: it follows, but does not vote
        #[arg(long)]
        learner: bool,
        /// How it is guarded.
        #[command(flatten)]
        guard: Guard,
    },
    /// Put a fresh node in the place of another, in one joint change
    ReplaceNode {
        /// The node that goes
        #[arg(value_parser = node_name)]
        old: NodeName,
        /// The node that comes.
        #[command(flatten)]
        node: NewNode,
        /// How it is guarded.
        #[command(flatten)]
        guard: Guard,
    },
    /// Remove a node; one that no longer answers, too
    RemoveNode {
        /// The node that goes
        #[arg(value_parser = node_name)]
        name: NodeName,
        /// Go on although fewer failures will be survived afterwards
        #[arg(long)]
        accept_lower_tolerance: bool,
        /// How it is guarded.
        #[command(flatten)]
        guard: Guard,
    },
    /// Make a learner a voter
    Promote {
        /// The learner
        #[arg(value_parser = node_name)]
        name: NodeName,
        /// How it is guarded.
        #[command(flatten)]
        guard: Guard,
    },
    /// Make a voter a learner
    Demote {
        /// The voter
        #[arg(value_parser = node_name)]
        name: NodeName,
        /// Go on although fewer failures will be survived afterwards
        #[arg(long)]
        accept_lower_tolerance: bool,
        /// How it is guarded.
        #[command(flatten)]
        guard: Guard,
    },
    /// Hand leadership over, to NAME or to the most caught-up voter
    TransferLeader {
        /// Who shall lead
        #[arg(value_parser = node_name)]
        name: Option<NodeName>,
    },
    /// Take a snapshot on the leader now, and compact its log
    Snapshot,
    /// Write the whole state to a file from which `chat-node restore` makes a cluster
    Backup {
        /// Where to; `-` is stdout. An existing file is left alone
        file: PathBuf,
    },
    /// Compare the state of all replicas at one index; exit code 8 unless all are equal
    Verify,
    /// Write and read under a ledger, through whatever happens meanwhile; exit code 8 unless all holds
    ///
    /// Makes two accounts, writes to their conversation and their room, reads from every node in turn, and listens. At
    /// the end it reads every replica that answers, and deletes the accounts. Do the damage meanwhile by hand, or name
    /// processes of this machine with --kill.
    Probe(crate::cli::probe::Options),
    /// What a layout would survive, without a cluster
    Plan {
        /// Voters in each zone
        #[arg(long, value_delimiter = ',', required = true, value_parser = zone_voters, value_name = "ZONE=VOTERS")]
        zones: Vec<(Zone, usize)>,
    },
    /// Print a completion script
    Completions {
        /// For which shell
        shell: Shell,
    },
    /// Write man pages into a folder.
    #[command(hide = true)]
    Man {
        /// The folder.
        directory: std::path::PathBuf,
    },
}

/// A node that comes.
#[derive(Debug, ClapArgs)]
pub struct NewNode {
    /// What the new node is called
    #[arg(value_parser = node_name)]
    pub name: NodeName,
    /// Where it listens, as the other nodes and the clients dial it
    #[arg(value_parser = dialable)]
    pub address: Address,
    /// Its failure domain: a machine, a rack, a site
    #[arg(long, value_parser = zone)]
    pub zone: Option<Zone>,
}

/// How a change is guarded.
#[derive(Debug, ClapArgs)]
pub struct Guard {
    /// Run every check and say what would happen; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Only if the membership is still the one with this etag (from `status --json`)
    #[arg(long, default_value = "", hide_default_value = true)]
    pub etag: String,
}

fn node_name(text: &str) -> Result<NodeName, String> {
    NodeName::new(text).map_err(|error| error.to_string())
}

fn zone(text: &str) -> Result<Zone, String> {
    Zone::new(text).map_err(|error| error.to_string())
}

fn dialable(text: &str) -> Result<Address, String> {
    let address: Address = text.parse().map_err(|error: crate::wire::InvalidAddress| error.to_string())?;
    if address.is_unspecified() {
        return Err(format!("`{address}` names every interface; give the address that other machines dial"));
    }
    Ok(address)
}

fn zone_voters(text: &str) -> Result<(Zone, usize), String> {
    let form = "use ZONE=VOTERS, such as a=3";
    let (name, voters) = text.split_once('=').ok_or_else(|| form.to_owned())?;
    let voters: usize = voters.parse().map_err(|_| form.to_owned())?;
    if voters == 0 || voters > limits::NODES {
        return Err(format!("a zone of a plan has 1 to {} voters", limits::NODES));
    }
    Ok((zone(name)?, voters))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_contract_parses() {
        for line in [
            "chat-admin -e a:1 status",
            "chat-admin status --watch --endpoints a:1,b:2",
            "chat-admin add-node n4 10.0.0.4:7400 --zone b --learner --dry-run",
            "chat-admin replace-node n3 n6 10.0.0.6:7400 --zone c --dry-run",
            "chat-admin remove-node n3 --accept-lower-tolerance --dry-run",
            "chat-admin promote n4",
            "chat-admin demote n4 --accept-lower-tolerance",
            "chat-admin transfer-leader",
            "chat-admin transfer-leader n2 --timeout 5s",
            "chat-admin snapshot --json",
            "chat-admin backup state.backup",
            "chat-admin verify",
            "chat-admin probe --rate 50 --for 60s --kill 4242,4243 --json",
            "chat-admin plan --zones a=3,b=2",
            "chat-admin completions bash",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for line in [
            "chat-admin",
            "chat-admin status --interval 1s",
            "chat-admin status --timeout 0s",
            "chat-admin -e nowhere status",
            "chat-admin add-node n4",
            "chat-admin add-node -x 10.0.0.4:7400",
            "chat-admin add-node n4 0.0.0.0:7400",
            "chat-admin plan",
            "chat-admin plan --zones a",
            "chat-admin plan --zones a=0",
            "chat-admin plan --zones a=65",
            "chat-admin completions cmd.exe",
        ] {
            let error = parse(line).expect_err(line);
            let help = clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
            assert!(error.exit_code() == 2 || error.kind() == help, "{line}");
        }
    }

    #[test]
    fn endpoints_are_a_list() {
        let args = parse("chat-admin -e a:1,b:2 status").unwrap();
        assert_eq!(args.endpoints.iter().map(Address::as_str).collect::<Vec<_>>(), ["a:1", "b:2"]);
    }
}
