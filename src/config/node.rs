//! The settings of a node after all checks. Code that is given a [`NodeConfig`] does not check it again.

use std::{fmt::Display, path::PathBuf, str::FromStr, time::Duration};

use super::{
    ConfigError,
    error::{check_duration, check_number, human},
    layer::{HumanDuration, Layer, LogFormat},
    rates::Rates,
};
use crate::types::{Address, NodeName, Zone, limits};

/// When to take a snapshot of the state, and how much log to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// Log entries from one snapshot to the next; at least 1.
    pub entries: u64,
    /// Log entries kept behind a snapshot, so that a follower that lags by no more than this needs no snapshot.
    pub keep: u64,
}

/// What to log, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A level (`info`) or a list of levels by target (`info,quorate::raft=debug`).
    pub filter: String,
    /// For people or for programs.
    pub format: LogFormat,
}

/// The limits of the gRPC server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grpc {
    /// Connections accepted at once, 1 to [`limits::CONNECTIONS`].
    pub connections: usize,
    /// Subscriptions served at once, 1 to [`limits::SUBSCRIPTIONS`].
    pub subscriptions: usize,
    /// How long a stopping node waits for calls in progress before it cuts them off. At most 4 s, so that the whole
    /// node stops within 5 s.
    pub drain: Duration,
}

/// The cost of one password hash (argon2id, RFC 9106).
///
/// Invariant: no cheaper than [`Self::OWASP`], unless a test asked for [`Self::insecure_for_tests`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2 {
    memory_kib: u32,
    iterations: u32,
    parallelism: u32,
}

impl Argon2 {
    /// The minimum of OWASP's Password Storage Cheat Sheet: 19 MiB, two passes, one lane.
    pub const OWASP: Self = Self { memory_kib: 19_456, iterations: 2, parallelism: 1 };

    /// Checks the parameters: no cheaper than [`Self::OWASP`] in any respect, and at most 1 GiB, 16 passes and 16
    /// lanes, so that logins cannot exhaust memory.
    pub fn new(memory_kib: u32, iterations: u32, parallelism: u32) -> Result<Self, ConfigError> {
        let floor = Self::OWASP;
        check_number("argon2_memory_kib", u64::from(memory_kib), u64::from(floor.memory_kib), 1024 * 1024)?;
        check_number("argon2_iterations", u64::from(iterations), u64::from(floor.iterations), 16)?;
        check_number("argon2_parallelism", u64::from(parallelism), u64::from(floor.parallelism), 16)?;
        Ok(Self { memory_kib, iterations, parallelism })
    }

    /// The cheapest parameters that the algorithm allows. They protect nothing: for tests that log in thousands of
    /// times.
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

    /// Lanes, which may be computed in parallel.
    pub fn parallelism(&self) -> u32 {
        self.parallelism
    }
}

/// All settings of a node. [`NodeConfig::from_layer`] establishes every invariant stated here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The node's name. Not needed once the node has an identity on disk.
    pub name: Option<NodeName>,
    /// The address to listen on. Not needed once the node has an identity on disk.
    pub listen: Option<Address>,
    /// The address that others dial; `listen` unless set. Never an unspecified address such as 0.0.0.0.
    pub advertise: Option<Address>,
    /// The failure domain.
    pub zone: Option<Zone>,
    /// Time between heartbeats: 10 ms to 10 s, at most a third of the least election timeout.
    pub heartbeat: Duration,
    /// The least random part of the election timeout. In openraft a follower stands for election after the leader's
    /// lease, which lasts `election_timeout_max`, plus a random time between the two: after 0.9 to 1.2 s by default.
    pub election_timeout_min: Duration,
    /// The largest random part of the election timeout: more than the least, as equal timeouts would split votes, and
    /// at most 60 s.
    pub election_timeout_max: Duration,
    /// When to snapshot.
    pub snapshot: SnapshotPolicy,
    /// How long a new session lives: 1 s to [`limits::SESSION_TTL`].
    pub session_ttl: Duration,
    /// Logging.
    pub log: Log,
    /// The gRPC server's limits.
    pub grpc: Grpc,
    /// Rate limits.
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

    /// Fills in the defaults and checks the result.
    pub fn from_layer(layer: Layer) -> Result<Self, ConfigError> {
        let rates = Rates::from_layer(&layer)?;
        let Some(data_dir) = layer.data_dir.filter(|path| !path.as_os_str().is_empty()) else {
            return Err(ConfigError::new("data_dir", "is not given", "give --data-dir DIR"));
        };
        let base = Self::defaults(data_dir);
        let or = |given: Option<HumanDuration>, default| given.map_or(default, |HumanDuration(given)| given);
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
        check_duration("heartbeat", self.heartbeat, Duration::from_millis(10), Duration::from_secs(10))?;
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
        check_duration("election_timeout_max", self.election_timeout_max, Duration::ZERO, Duration::from_secs(60))?;
        check_duration("session_ttl", self.session_ttl, Duration::from_secs(1), limits::SESSION_TTL)?;
        check_duration("drain", self.grpc.drain, Duration::ZERO, Duration::from_secs(4))?;
        check_number("snapshot_entries", self.snapshot.entries, 1, u64::MAX)?;
        check_number("max_connections", self.grpc.connections as u64, 1, limits::CONNECTIONS as u64)?;
        check_number("max_subscriptions", self.grpc.subscriptions as u64, 1, limits::SUBSCRIPTIONS as u64)?;
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
