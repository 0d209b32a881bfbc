//! The arguments of `chat-admin`: names, flags, defaults and help texts. Names and flags are part of the contract with
//! scripts.

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
  6 unavailable (safe to repeat), 7 refused by a safety check, 8 checks failed";

/// Operate a Quorate cluster: show which failures it survives; add, replace and remove nodes; back up and verify.
#[derive(Debug, Parser)]
#[command(name = "chat-admin", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Args {
    /// Addresses of nodes, comma-separated; one that answers is enough
    #[arg(short, long, global = true, env = "CHAT_ENDPOINTS", value_delimiter = ',', value_name = "HOST:PORT")]
    pub endpoints: Vec<Address>,
    /// Time limit, retries included; after it the command fails with exit code 6
    #[arg(long, global = true, env = "CHAT_TIMEOUT", default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub timeout: Duration,
    /// Print data as JSON: one object, or one per line for streams
    #[arg(long, global = true)]
    pub json: bool,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `chat-admin`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show nodes, roles, zones, leader and lag, and which failures the cluster survives
    Status {
        /// Update the screen until interrupted
        #[arg(short, long)]
        watch: bool,
        /// Pause between updates, with --watch
        #[arg(long, default_value = "1s", value_parser = duration, value_name = "TIME", requires = "watch")]
        interval: Duration,
    },
    /// Add the empty node that waits at ADDRESS: check it, send a snapshot and the log, make it a voter
    AddNode {
        /// The new node.
        #[command(flatten)]
        node: NewNode,
        /// Add it as a learner, which follows the log but does not vote
        #[arg(long)]
        learner: bool,
        /// Flags that make it safer.
        #[command(flatten)]
        guard: Guard,
    },
    /// Replace a node by an empty one, in one joint change of the voters
    ReplaceNode {
        /// Name of the node to replace
        #[arg(value_parser = node_name)]
        old: NodeName,
        /// The new node.
        #[command(flatten)]
        node: NewNode,
        /// Flags that make it safer.
        #[command(flatten)]
        guard: Guard,
    },
    /// Remove a node, even if it no longer answers
    RemoveNode {
        /// Name of the node
        #[arg(value_parser = node_name)]
        name: NodeName,
        /// Proceed even if the cluster survives fewer failures afterwards
        #[arg(long)]
        accept_lower_tolerance: bool,
        /// Flags that make it safer.
        #[command(flatten)]
        guard: Guard,
    },
    /// Make a learner a voter
    Promote {
        /// Name of the learner
        #[arg(value_parser = node_name)]
        name: NodeName,
        /// Flags that make it safer.
        #[command(flatten)]
        guard: Guard,
    },
    /// Make a voter a learner
    Demote {
        /// Name of the voter
        #[arg(value_parser = node_name)]
        name: NodeName,
        /// Proceed even if the cluster survives fewer failures afterwards
        #[arg(long)]
        accept_lower_tolerance: bool,
        /// Flags that make it safer.
        #[command(flatten)]
        guard: Guard,
    },
    /// Tell the cluster that a node has moved to ADDRESS
    ///
    /// First start the node there on its own data directory: `chat-node run --data-dir DIR --listen ADDRESS`. It takes
    /// part as far as it reaches the others. Then run this command. The leader checks that the node at ADDRESS is this
    /// member; from then on nodes and clients dial it there. Move one node at a time.
    SetAddress {
        /// Name of the node
        #[arg(value_parser = node_name)]
        name: NodeName,
        /// Its new address, as other nodes and clients dial it
        #[arg(value_parser = dialable)]
        address: Address,
        /// Flags that make it safer.
        #[command(flatten)]
        guard: Guard,
    },
    /// Transfer leadership to NAME, or to the most up-to-date voter
    TransferLeader {
        /// Name of the next leader
        #[arg(value_parser = node_name)]
        name: Option<NodeName>,
    },
    /// Take a snapshot on the leader and compact its log
    Snapshot,
    /// Set log time back to what the nodes' clocks say, after a wrong clock has carried it ahead
    ///
    /// A cluster whose log time is ahead refuses every write as too old. Set the nodes' clocks right first, then run this
    /// command. New writes are accepted as soon as they cannot be repetitions of forgotten ones; the command says when.
    CorrectTime {
        /// Your word that no client's clock was further ahead than this; new writes are then accepted sooner
        #[arg(long, value_parser = duration, value_name = "TIME")]
        clients_ahead: Option<Duration>,
        /// Say what would happen, without changing anything
        #[arg(long)]
        dry_run: bool,
    },
    /// Write the whole state to a file, for `chat-node restore`
    Backup {
        /// The file, which must not exist yet; `-` is stdout
        file: PathBuf,
    },
    /// Compare the state of all replicas at one log index; exit code 8 unless all are equal
    Verify,
    /// Test the promises of a running cluster under load and failures; exit code 8 if one is broken
    ///
    /// Creates two accounts, writes to their conversation and their room, reads from every node in turn, and listens. A
    /// ledger records every write and its outcome. At the end the probe reads every replica that answers, compares it
    /// with the ledger, and deletes the accounts. Cause failures by hand meanwhile, or with --kill.
    Probe(crate::cli::probe::Options),
    /// Show which failures a layout would survive, without a cluster
    Plan {
        /// Number of voters in each zone
        #[arg(long, value_delimiter = ',', required = true, value_parser = zone_voters, value_name = "ZONE=VOTERS")]
        zones: Vec<(Zone, usize)>,
    },
    /// Print a shell completion script
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write man pages into a folder.
    #[command(hide = true)]
    Man {
        /// The folder, which is created if it is missing.
        directory: PathBuf,
    },
}

/// A node to add.
#[derive(Debug, ClapArgs)]
pub struct NewNode {
    /// Name of the new node
    #[arg(value_parser = node_name)]
    pub name: NodeName,
    /// Its address, as other nodes and clients dial it
    #[arg(value_parser = dialable)]
    pub address: Address,
    /// Its failure domain: a machine, a rack or a site. Default: none
    #[arg(long, value_parser = zone)]
    pub zone: Option<Zone>,
}

/// Flags that make a change safer.
#[derive(Debug, ClapArgs)]
pub struct Guard {
    /// Run all checks and say what would happen, without changing anything
    #[arg(long)]
    pub dry_run: bool,
    /// Fail with exit code 4 unless the membership still has this etag, from `status --json`
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
        return Err(format!("`{address}` stands for every interface; give the address that other machines dial"));
    }
    Ok(address)
}

fn zone_voters(text: &str) -> Result<(Zone, usize), String> {
    let form = "use ZONE=VOTERS, such as a=3";
    let (name, voters) = text.split_once('=').ok_or_else(|| form.to_owned())?;
    let voters: usize = voters.parse().map_err(|_| form.to_owned())?;
    if voters == 0 || voters > limits::NODES {
        return Err(format!("a zone must have 1 to {} voters", limits::NODES));
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
            "chat-admin set-address n4 10.0.0.9:7400 --dry-run",
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
            "chat-admin set-address n4",
            "chat-admin set-address n4 0.0.0.0:7400",
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
