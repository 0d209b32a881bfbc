//! The settings of a node after all checks.

use std::{fmt::Display, path::PathBuf, str::FromStr, time::Duration};

use super::{ConfigError, Human, Layer, LogFormat, Rates};
use crate::types::{Address, NodeName, Zone, limits};

/// When the state is snapshot and how much log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// Log entries since the last snapshot that bring about the next one; from 1.
    pub entries: u64,
    /// Log entries kept behind a snapshot, so that a follower slightly behind needs no snapshot.
    pub keep: u64,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A level (`info`) or a tracing filter (`info,quorate::raft=debug`).
    pub filter: String,
    /// For people or for programs.
    pub format: LogFormat,
}

/// The bounds of the gRPC server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grpc {
    /// Connections accepted at once, 1 to [`limits::CONNECTIONS`].
    pub connections: usize,
    /// Subscriptions served at once, 1 to [`limits::SUBSCRIPTIONS`].
    pub subscriptions: usize,
    /// How long a stopping node waits for calls under way before it cuts them off; at most 4 s, so that the node as a
    /// whole stops within 5.
    pub drain: Duration,
}

/// The cost of a password hash (argon2id). Kept so that it can be paid off the async runtime only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2 {
    memory_kib: u32,
    iterations: u32,
    parallelism: u32,
}

impl Argon2 {
    /// OWASP's minimum (Password Storage Cheat Sheet): 19 MiB, two passes, one lane.
    pub const OWASP: Self = Self { memory_kib: 19_456, iterations: 2, parallelism: 1 };

    /// Parameters no cheaper than [`Self::OWASP`] in any respect, and bounded above, so that logins cannot exhaust
    /// memory: at most 1 GiB, 16 passes and 16 lanes.
    pub fn new(memory_kib: u32, iterations: u32, parallelism: u32) -> Result<Self, ConfigError> {
        let floor = Self::OWASP;
        in_range("argon2_memory_kib", u64::from(memory_kib), u64::from(floor.memory_kib), 1024 * 1024)?;
        in_range("argon2_iterations", u64::from(iterations), u64::from(floor.iterations), 16)?;
        in_range("argon2_parallelism", u64::from(parallelism), u64::from(floor.parallelism), 16)?;
        Ok(Self { memory_kib, iterations, parallelism })
    }

    /// The cheapest that the algorithm allows. Protects nothing: for tests that log in by the thousand.
    pub const fn insecure_for_tests() -> Self {
        Self { memory_kib: 8, iterations: 1, parallelism: 1 }
    }

    /// Memory of one hash, in KiB.
    pub fn memory_kib(&self) -> u32 {
        self.memory_kib
    }

    /// Passes over that memory.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Lanes computed side by side.
    pub fn parallelism(&self) -> u32 {
        self.parallelism
    }
}

/// All settings of a node. What [`NodeConfig::from_layer`] made keeps every invariant stated here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// The directory that holds everything the node keeps.
    pub data_dir: PathBuf,
    /// The node's name; a node that has an identity on disk already needs none.
    pub name: Option<NodeName>,
    /// Where to listen; a node that has an identity on disk already needs none.
    pub listen: Option<Address>,
    /// Where others dial; never an unspecified address. `listen` unless that is unspecified.
    pub advertise: Option<Address>,
    /// The failure domain.
    pub zone: Option<Zone>,
    /// Time between heartbeats: 10 ms to 10 s, at most a third of the least election timeout.
    pub heartbeat: Duration,
    /// Shortest random part of the election timeout. openraft lets a follower stand for election after the
    /// leader's lease, which is `election_timeout_max`, plus a random time between the two: 0.9 to 1.2 s by default.
    pub election_timeout_min: Duration,
    /// Most time without a leader before an election; more than the least, at most 60 s. An equal timeout everywhere
    /// would split votes.
    pub election_timeout_max: Duration,
    /// When to snapshot.
    pub snapshot: SnapshotPolicy,
    /// Life of a new session: 1 s to [`limits::SESSION_TTL`].
    pub session_ttl: Duration,
    /// Logging.
    pub log: Log,
    /// The gRPC server's bounds.
    pub grpc: Grpc,
    /// How often clients may come.
    pub rates: Rates,
    /// The cost of a password hash.
    pub argon2: Argon2,
}

impl NodeConfig {
    /// The defaults for a node that keeps its data in `data_dir`.
    pub fn defaults(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            name: None,
            listen: None,
            advertise: None,
            zone: None,
            heartbeat: Duration::from_millis(100),
            election_timeout_min: Duration::from_millis(300),
            election_timeout_max: Duration::from_millis(600),
            snapshot: SnapshotPolicy { entries: 10_000, keep: 1_000 },
            session_ttl: limits::SESSION_TTL,
            log: Log { filter: "info".to_owned(), format: LogFormat::Human },
            grpc: Grpc {
                connections: limits::CONNECTIONS,
                subscriptions: limits::SUBSCRIPTIONS,
                drain: Duration::from_secs(2),
            },
            rates: Rates::DEFAULT,
            argon2: Argon2::OWASP,
        }
    }

    /// Checks `layer` and fills in defaults.
    pub fn from_layer(layer: Layer) -> Result<Self, ConfigError> {
        let rates = Rates::from_layer(&layer)?;
        let Some(data_dir) = layer.data_dir.filter(|path| !path.as_os_str().is_empty()) else {
            return Err(ConfigError::new("data_dir", "is not given", "give --data-dir DIR"));
        };
        let base = Self::defaults(data_dir);
        let or = |given: Option<Human>, default| given.map_or(default, |Human(duration)| duration);
        let config = Self {
            name: text("name", layer.name.as_deref(), NodeName::new)?,
            listen: text("listen", layer.listen.as_deref(), Address::from_str)?,
            advertise: text("advertise", layer.advertise.as_deref(), Address::from_str)?,
            zone: text("zone", layer.zone.as_deref(), Zone::new)?,
            heartbeat: or(layer.heartbeat, base.heartbeat),
            election_timeout_min: or(layer.election_timeout_min, base.election_timeout_min),
            election_timeout_max: or(layer.election_timeout_max, base.election_timeout_max),
            snapshot: SnapshotPolicy {
                entries: layer.snapshot_entries.unwrap_or(base.snapshot.entries),
                keep: layer.keep_entries.unwrap_or(base.snapshot.keep),
            },
            session_ttl: or(layer.session_ttl, base.session_ttl),
            log: Log {
                filter: layer.log.unwrap_or(base.log.filter),
                format: layer.log_format.unwrap_or(base.log.format),
            },
            grpc: Grpc {
                connections: layer.max_connections.unwrap_or(base.grpc.connections),
                subscriptions: layer.max_subscriptions.unwrap_or(base.grpc.subscriptions),
                drain: or(layer.drain, base.grpc.drain),
            },
            rates,
            argon2: Argon2::new(
                layer.argon2_memory_kib.unwrap_or(base.argon2.memory_kib),
                layer.argon2_iterations.unwrap_or(base.argon2.iterations),
                layer.argon2_parallelism.unwrap_or(base.argon2.parallelism),
            )?,
            ..base
        };
        config.with_advertise()?.checked()
    }

    fn with_advertise(mut self) -> Result<Self, ConfigError> {
        if self.advertise.is_none() {
            self.advertise = self.listen.clone();
        }
        match &self.advertise {
            Some(address) if address.is_unspecified() => Err(ConfigError::new(
                "advertise",
                format!("nobody can dial {address}"),
                "give --advertise HOST:PORT, an address of this machine that clients and the other nodes reach",
            )),
            _ => Ok(self),
        }
    }

    fn checked(self) -> Result<Self, ConfigError> {
        between("heartbeat", self.heartbeat, Duration::from_millis(10), Duration::from_secs(10))?;
        if self.heartbeat * 3 > self.election_timeout_min {
            return Err(ConfigError::new(
                "election_timeout_min",
                format!(
                    "{} is less than three heartbeats of {}: one lost packet would depose a leader",
                    human(self.election_timeout_min),
                    human(self.heartbeat)
                ),
                format!("set it to {} or more", human(self.heartbeat * 3)),
            ));
        }
        if self.election_timeout_max <= self.election_timeout_min {
            return Err(ConfigError::new(
                "election_timeout_max",
                format!(
                    "{} is not more than election_timeout_min ({}): candidates would keep splitting the vote",
                    human(self.election_timeout_max),
                    human(self.election_timeout_min)
                ),
                "set it to twice election_timeout_min",
            ));
        }
        between("election_timeout_max", self.election_timeout_max, Duration::ZERO, Duration::from_secs(60))?;
        between("session_ttl", self.session_ttl, Duration::from_secs(1), limits::SESSION_TTL)?;
        between("drain", self.grpc.drain, Duration::ZERO, Duration::from_secs(4))?;
        in_range("snapshot_entries", self.snapshot.entries, 1, u64::MAX)?;
        in_range("max_connections", self.grpc.connections as u64, 1, limits::CONNECTIONS as u64)?;
        in_range("max_subscriptions", self.grpc.subscriptions as u64, 1, limits::SUBSCRIPTIONS as u64)?;
        Ok(self)
    }
}

fn text<T, E: Display>(
    key: &str,
    given: Option<&str>,
    check: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, ConfigError> {
    let checked = given.map(check).transpose();
    checked.map_err(|error| ConfigError::new(key, error.to_string(), format!("correct {key}")))
}

fn human(duration: Duration) -> impl Display {
    humantime::format_duration(duration)
}

fn between(key: &str, given: Duration, least: Duration, most: Duration) -> Result<(), ConfigError> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    let next = format!("set it between {} and {}", human(least), human(most));
    Err(ConfigError::new(key, format!("{} is out of range", human(given)), next))
}

pub(super) fn in_range(key: &str, given: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    Err(ConfigError::new(key, format!("{given} is out of range"), format!("set it between {least} and {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> Result<NodeConfig, ConfigError> {
        NodeConfig::from_layer(Layer::from_toml("test", &format!("data_dir = '/d'\n{toml}"))?)
    }

    #[test]
    fn the_defaults_pass_their_own_checks() {
        assert_eq!(config(""), Ok(NodeConfig::defaults("/d")));
    }

    #[test]
    fn every_broken_invariant_is_named() {
        for (toml, place) in [
            ("name = '-'", "name"),
            ("listen = 'here'", "listen"),
            ("listen = '0.0.0.0:7400'", "advertise"),
            ("advertise = '[::]:7400'", "advertise"),
            ("zone = 'a b'", "zone"),
            ("heartbeat = '1ms'", "heartbeat"),
            ("heartbeat = '200ms'", "election_timeout_min"),
            ("election_timeout_max = '300ms'", "election_timeout_max"),
            ("election_timeout_max = '2m'", "election_timeout_max"),
            ("snapshot_entries = 0", "snapshot_entries"),
            ("session_ttl = '31d'", "session_ttl"),
            ("session_ttl = '0s'", "session_ttl"),
            ("drain = '5s'", "drain"),
            ("max_connections = 0", "max_connections"),
            ("account_write_burst = 0", "account_write_burst"),
            ("address_requests_per_second = 2000000", "address_requests_per_second"),
            ("account_wrong_passwords_per_minute = 100000", "account_wrong_passwords_per_minute"),
            ("max_subscriptions = 1000000", "max_subscriptions"),
            ("argon2_memory_kib = 1024", "argon2_memory_kib"),
            ("argon2_iterations = 1", "argon2_iterations"),
            ("argon2_parallelism = 0", "argon2_parallelism"),
        ] {
            let error = config(toml).unwrap_err();
            assert_eq!(error.place, place, "{toml}");
            assert!(!error.problem.is_empty() && !error.next.is_empty(), "{toml}");
        }
    }

    #[test]
    fn a_missing_data_directory_is_refused() {
        assert_eq!(NodeConfig::from_layer(Layer::default()).unwrap_err().place, "data_dir");
    }

    #[test]
    fn others_dial_the_listening_address_unless_told_otherwise() {
        let plain = config("listen = '10.0.0.1:7400'").unwrap();
        assert_eq!(plain.advertise, "10.0.0.1:7400".parse().ok());
        let behind = config("listen = '0.0.0.0:7400'\nadvertise = 'n1.example.org:7400'").unwrap();
        assert_eq!(behind.advertise, "n1.example.org:7400".parse().ok());
    }
}
