//! The command line of `chat-node`, parsed into plain values. The commands themselves are above this floor.

use std::{env, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::{Exit, Failure, Result};
use crate::{
    config::{self, ConfigError, Layer, LogFormat, NodeConfig},
    types::{Address, NodeName},
};

/// Run a replica of the chat service.
///
/// Every setting can be a flag, an environment variable (CHAT_NAME for --name and so on) or a key in a TOML file. Flags
/// take precedence over variables, and variables over the file.
#[derive(Debug, Parser)]
#[command(name = "chat-node", version, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub struct NodeArgs {
    /// The command.
    #[command(subcommand)]
    pub command: NodeCommand,
}

const EXAMPLES: &str = "Examples:
  chat-node demo
  chat-node init --data-dir /var/lib/quorate --name n1 --listen 10.0.0.1:7400 --zone a
  chat-node run --data-dir /var/lib/quorate
  chat-node run --data-dir /var/lib/quorate --name n2 --listen 10.0.0.2:7400     # then, anywhere:
  chat-admin -e 10.0.0.1:7400 add-node n2 10.0.0.2:7400
  chat-node restore state.backup --data-dir /var/lib/quorate --name n1 --listen 10.0.0.1:7400
  chat-node recover --data-dir /var/lib/quorate --compare /mnt/n2     # no quorum left

Exit codes: 0 ok, 1 other failure, 2 usage, 3 not found, 4 conflict, 5 not allowed,
6 unavailable (safe to repeat), 7 refused by a safety check, 8 checks failed (demo);
run also: 70 quarantined (its disk or state is broken), 75 temporary (disk full,
port in use), 76 removed from the cluster, 78 bad configuration.";

/// A command of `chat-node`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum NodeCommand {
    /// Create a one-voter cluster in an empty directory.
    Init {
        /// The node's settings.
        #[command(flatten)]
        settings: Settings,
        /// Print the new identity as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Serve. A node with an empty directory waits to be added to a cluster; any other resumes from its data.
    ///
    /// To move a member, start it at its new address (--listen, --advertise). It takes part as far as it reaches the
    /// others. Then run `chat-admin set-address NAME ADDRESS`, so that the others dial it there. Name and zone cannot
    /// change while the node is a member.
    Run {
        /// The node's settings.
        #[command(flatten)]
        settings: Settings,
        /// Trust a data directory that was copied, moved or restored, without the word of the other nodes.
        ///
        /// What it has forgotten is lost. For when the others are gone for good, or when all of them were moved.
        #[arg(long)]
        trust_this_disk: bool,
    },
    /// Demonstrate a cluster on this machine: grow to five nodes, kill two, kill all, recover; exit code 8 on FAIL.
    ///
    /// Starts real processes of this program on free ports of 127.0.0.1. Two accounts chat all the time. At the end every
    /// node must have every acknowledged message. Takes under a minute and leaves nothing behind.
    Demo(super::demo::Options),
    /// Show identity, vote, log range, membership, sizes and digest of a stopped node.
    Inspect {
        /// The node's data directory.
        #[arg(long, value_name = "DIR", env = "CHAT_DATA_DIR")]
        data_dir: PathBuf,
        /// Print data as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Create a new one-voter cluster from a backup, in an empty directory.
    Restore {
        /// The node's settings.
        #[command(flatten)]
        settings: Settings,
        /// File written by `chat-admin backup FILE`.
        #[arg(value_name = "FILE", required_unless_present = "from", conflicts_with = "from")]
        file: Option<PathBuf>,
        /// Another way to give FILE.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// Print the new identity as JSON.
        #[arg(long)]
        json: bool,
    },
    /// After a permanent loss of the quorum: make a one-voter cluster from the data of one survivor.
    ///
    /// The node must be stopped. The command shows its log and, with --compare, what other survivors have beyond it.
    /// Recover from the survivor with the newest log. Entries at the end of that log are kept, even if the old quorum may
    /// not have agreed on them. The cluster continues in a new epoch: it and the members left behind refuse each other
    /// for ever. Wipe those and add them as new nodes. Refused while a node still sees a leader with a quorum.
    Recover {
        /// Data directory of the survivor.
        #[arg(long, value_name = "DIR", env = "CHAT_DATA_DIR")]
        data_dir: PathBuf,
        /// Data directory of another survivor, or a copy of it, to compare with. Can be repeated.
        #[arg(long, value_name = "DIR")]
        compare: Vec<PathBuf>,
        /// The cluster's id, as a confirmation for scripts. Default: ask for it.
        #[arg(long, value_name = "CLUSTER_ID")]
        yes_lose_data: Option<String>,
        /// Print data as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a shell completion script.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write man pages into a folder.
    #[command(hide = true)]
    Man {
        /// The folder, which is created if it is missing.
        directory: PathBuf,
    },
}

/// The flags that are settings: the layer with the highest precedence.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct Settings {
    /// Data directory: a local disk that honours fsync [env: CHAT_DATA_DIR].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Name of the node, unique in its cluster [env: CHAT_NAME].
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Address to listen on [env: CHAT_LISTEN].
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Address that clients and other nodes dial. Default: that of --listen [env: CHAT_ADVERTISE].
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Failure domain: a machine, a rack or a site. Default: none [env: CHAT_ZONE].
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// TOML file with settings [env: CHAT_CONFIG].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log filter: a level, or a list such as info,quorate::raft=debug. Default: info [env: CHAT_LOG].
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Log format: human or json. Default: human [env: CHAT_LOG_FORMAT].
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

impl Settings {
    /// Merges the flags with the environment, the file and the defaults, and validates the result.
    ///
    /// # Errors
    /// [`Exit::Configuration`], naming the setting at fault.
    pub fn load(self) -> Result<NodeConfig> {
        self.load_from(|variable| env::var(variable).ok())
    }

    fn load_from(self, environment: impl Fn(&str) -> Option<String>) -> Result<NodeConfig> {
        let from_environment = || environment("CHAT_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        let file = self.config.or_else(from_environment);
        let flags = Layer {
            data_dir: self.data_dir,
            name: self.name,
            listen: self.listen,
            advertise: self.advertise,
            zone: self.zone,
            log: self.log,
            log_format: self.log_format,
            ..Layer::default()
        };
        config::load(flags, environment, file.as_deref()).map_err(Failure::from)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Configuration, error.to_string()).next(error.next)
    }
}

/// The name and the listening address, which a new cluster must have.
///
/// # Errors
/// [`Exit::Usage`], naming the flag that is missing.
pub fn founder(config: &NodeConfig) -> Result<(&NodeName, &Address)> {
    let missing =
        |what: &str, flag: &str| Failure::new(Exit::Usage, format!("the new node has no {what}")).next(flag.to_owned());
    let name = config.name.as_ref().ok_or_else(|| missing("name", "give --name NAME"))?;
    let listen = config.listen.as_ref().ok_or_else(|| missing("address", "give --listen HOST:PORT"))?;
    Ok((name, listen))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> std::result::Result<NodeCommand, clap::Error> {
        NodeArgs::try_parse_from(line.split_whitespace()).map(|args| args.command)
    }

    fn settings(line: &str) -> Settings {
        match parse(line).unwrap() {
            NodeCommand::Init { settings, .. } | NodeCommand::Run { settings, .. } => settings,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_holds_together() {
        NodeArgs::command().debug_assert();
    }

    #[test]
    fn the_lines_of_the_contract_parse() {
        for line in [
            "chat-node init --data-dir d --name n1 --listen 127.0.0.1:7400 --advertise h:1 --zone a",
            "chat-node run --data-dir d",
            "chat-node run --data-dir d --trust-this-disk",
            "chat-node run --data-dir d --name n2 --listen 127.0.0.1:7401 --config f.toml --log debug --log-format json",
            "chat-node demo",
            "chat-node demo --nodes 5 --dir d --keep",
            "chat-node inspect --data-dir d --json",
            "chat-node restore b --data-dir d --name n1 --listen 127.0.0.1:7400",
            "chat-node restore --data-dir d --from b --name n1 --listen 127.0.0.1:7400",
            "chat-node recover --data-dir d --compare e --compare f --yes-lose-data 1234 --json",
            "chat-node completions bash",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn a_wrong_command_line_ends_with_usage() {
        for line in [
            "chat-node rum",
            "chat-node demo --nodes 2",
            "chat-node run --dir d",
            "chat-node restore --data-dir d",
            "chat-node restore b --data-dir d --from b",
            "chat-node run --log-format xml",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
        assert_eq!(parse("chat-node --version").unwrap_err().kind(), ErrorKind::DisplayVersion);
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.toml");
        std::fs::write(&file, "name = 'file'\nzone = 'file'\nlisten = '127.0.0.1:7400'").unwrap();
        let line = format!("chat-node run --data-dir d --name flag --config {}", file.display());
        let environment = |variable: &str| match variable {
            "CHAT_NAME" | "CHAT_ZONE" => Some("environment".to_owned()),
            _ => None,
        };
        let config = settings(&line).load_from(environment).unwrap();
        assert_eq!(config.name.unwrap().as_str(), "flag");
        assert_eq!(config.zone.unwrap().as_str(), "environment");
        assert_eq!(config.listen.unwrap().as_str(), "127.0.0.1:7400");
    }

    #[test]
    fn bad_configuration_ends_with_78_and_says_what_to_do() {
        let failure = settings("chat-node run --data-dir d --listen 0.0.0.0:1").load_from(|_| None).unwrap_err();
        assert_eq!(failure.exit.code(), 78);
        assert!(failure.message.starts_with("advertise") && failure.next.is_some(), "{failure}");
        let failure = settings("chat-node run --data-dir d --config /no/such/file").load_from(|_| None).unwrap_err();
        assert_eq!(failure.exit.code(), 78);
        assert!(failure.message.contains("/no/such/file"), "{failure}");
        assert_eq!(settings("chat-node run").load_from(|_| None).unwrap_err().exit.code(), 78);
    }

    #[test]
    fn a_new_cluster_needs_a_name_and_an_address() {
        let exit = |line: &str| founder(&settings(line).load_from(|_| None).unwrap()).map(drop).map_err(|e| e.exit);
        assert_eq!(exit("chat-node init --data-dir d --name n1 --listen 127.0.0.1:7400"), Ok(()));
        assert_eq!(exit("chat-node init --data-dir d --name n1"), Err(Exit::Usage));
        assert_eq!(exit("chat-node init --data-dir d --listen 127.0.0.1:7400"), Err(Exit::Usage));
    }
}
