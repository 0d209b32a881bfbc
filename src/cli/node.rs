//! `chat-node`: its command line, as plain values. What the commands do is done above this floor.

use std::{env, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::{Exit, Failure, Result};
use crate::{
    config::{self, ConfigError, Layer, LogFormat, NodeConfig},
    types::{Address, NodeName},
    wire::{Fault, Reason},
};

/// A replica of the chat service.
///
/// Every setting can be given as a flag, as an environment variable (CHAT_NAME for --name and so on) or in a TOML file;
/// the first of these that has it wins.
#[derive(Debug, Parser)]
#[command(name = "chat-node", version, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub struct NodeArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: NodeCommand,
}

const EXAMPLES: &str = "Examples:
  chat-node demo
  chat-node init --data-dir /var/lib/quorate --name n1 --listen 10.0.0.1:7400 --zone a
  chat-node run --data-dir /var/lib/quorate
  chat-node run --data-dir /var/lib/quorate --name n2 --listen 10.0.0.2:7400     # then, anywhere:
  chat-admin -e 10.0.0.1:7400 add-node n2 10.0.0.2:7400
  chat-node recover --data-dir /var/lib/quorate --compare /mnt/n2     # the other nodes are gone for good

Exit codes of run, beside the usual ones: 70 quarantined (its disk or state is broken), 75 temporary (disk full),
76 removed from the cluster, 78 bad configuration.";

/// A command of `chat-node`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum NodeCommand {
    /// Make a one-voter cluster in an empty directory.
    Init {
        /// The node's settings.
        #[command(flatten)]
        settings: Settings,
        /// Print what was made as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Serve. An empty directory waits to be added to a cluster, an initialised one recovers and goes on.
    Run {
        /// The node's settings.
        #[command(flatten)]
        settings: Settings,
    },
    /// Show the whole story on this machine: grow to five nodes, lose two, lose all, come back; exit code 8 on FAIL.
    ///
    /// Starts real processes of this program on free ports of 127.0.0.1, lets accounts chat all the while, and at the
    /// end holds every node to every message that was acknowledged. Takes under a minute, and leaves nothing behind.
    Demo(super::demo::Options),
    /// Show identity, vote, log, membership, sizes and digest of a stopped node.
    Inspect {
        /// Where the node keeps everything.
        #[arg(long, value_name = "DIR", env = "CHAT_DATA_DIR")]
        data_dir: PathBuf,
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a new one-voter cluster from a backup, in an empty directory.
    Restore {
        /// The node's settings.
        #[command(flatten)]
        settings: Settings,
        /// The backup, as written by `chat-admin backup`.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Print what was made as JSON.
        #[arg(long)]
        json: bool,
    },
    /// After the quorum is lost for good: make a one-voter cluster from the data of one survivor.
    ///
    /// The node must be stopped. Shows what its log holds and, beside other survivors (--compare), what would be lost;
    /// recover from the one with the newest log. Writes at the end of the log that may not have been agreed on are kept.
    /// The cluster then goes on in a new epoch: the members left behind and it refuse each other for ever. Wipe those
    /// and add them as new nodes. Refused while some node still sees a leader with a quorum.
    Recover {
        /// The survivor's data directory.
        #[arg(long, value_name = "DIR", env = "CHAT_DATA_DIR")]
        data_dir: PathBuf,
        /// Another survivor's data directory (a copy will do), to compare with. Can be repeated.
        #[arg(long, value_name = "DIR")]
        compare: Vec<PathBuf>,
        /// For scripts: the cluster's id, instead of typing it.
        #[arg(long, value_name = "CLUSTER_ID")]
        yes_lose_data: Option<String>,
        /// Print what was found and made as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script.
    Completions {
        /// For which shell.
        shell: Shell,
    },
    /// Write man pages into a folder.
    #[command(hide = true)]
    Man {
        /// The folder.
        directory: PathBuf,
    },
}

/// The flags that are settings: the topmost of the layers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct Settings {
    /// Where the node keeps everything [env: CHAT_DATA_DIR].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The node's name, unique in its cluster [env: CHAT_NAME].
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where to listen [env: CHAT_LISTEN].
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Where clients and the other nodes dial, if that is another address [env: CHAT_ADVERTISE].
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// The failure domain: a machine, a rack, a site [env: CHAT_ZONE].
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// A TOML file with settings [env: CHAT_CONFIG].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to log: a level, or a filter such as info,quorate::raft=debug [env: CHAT_LOG].
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// How to log: human or json [env: CHAT_LOG_FORMAT].
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

impl Settings {
    /// Merges the flags with the process's environment, the file and the defaults, and checks the result.
    ///
    /// # Errors
    /// A [`Failure`] with [`Exit::Configuration`] that names the setting at fault.
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

/// The name and the listening address that a new cluster must be given.
///
/// # Errors
/// A [`Failure`] with [`Exit::Usage`] that says which is missing.
pub fn founder(config: &NodeConfig) -> Result<(&NodeName, &Address)> {
    let missing =
        |what: &str, flag: &str| Failure::new(Exit::Usage, format!("the new node has no {what}")).next(flag.to_owned());
    let name = config.name.as_ref().ok_or_else(|| missing("name", "give --name NAME"))?;
    let listen = config.listen.as_ref().ok_or_else(|| missing("address", "give --listen HOST:PORT"))?;
    Ok((name, listen))
}

/// How `chat-node run` ends for a fault of its own node: supervisors tell by the code whether to start it again.
pub fn run_failure(fault: Fault) -> Failure {
    let exit = match fault.reason {
        Reason::Quarantined => Exit::Quarantined,
        Reason::DiskFull => Exit::Temporary,
        Reason::Removed => Exit::Removed,
        Reason::InvalidArgument => Exit::Configuration,
        _ => Exit::from(&fault),
    };
    Failure { exit, ..Failure::from(fault) }
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
            NodeCommand::Init { settings, .. } | NodeCommand::Run { settings } => settings,
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
            "chat-node run --data-dir d --name n2 --listen 127.0.0.1:7401 --config f.toml --log debug --log-format json",
            "chat-node demo",
            "chat-node demo --nodes 5 --dir d --keep",
            "chat-node inspect --data-dir d --json",
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

    #[test]
    fn run_ends_with_a_code_that_supervisors_understand() {
        for (reason, code) in [
            (Reason::Quarantined, 70),
            (Reason::DiskFull, 75),
            (Reason::Removed, 76),
            (Reason::InvalidArgument, 78),
            (Reason::Internal, 1),
        ] {
            assert_eq!(run_failure(Fault::new(reason, "m")).exit.code(), code, "{reason:?}");
        }
    }
}
