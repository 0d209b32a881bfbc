//! One layer of settings: every key, all of them optional.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de};

use super::error::ConfigError;

/// A duration that is written like `100ms`, `1s` or `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HumanDuration(pub Duration);

impl FromStr for HumanDuration {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(text).map(Self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error| de::Error::custom(format!("`{text}` is not a duration such as 100ms: {error}")))
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// For programs: one JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err("a log format is `human` or `json`"),
        }
    }
}

/// Reads a setting from the text of an environment variable.
fn parse<T: FromStr<Err: fmt::Display>>(variable: &str, text: &str) -> Result<T, ConfigError> {
    text.parse().map_err(|error: T::Err| {
        ConfigError::new(
            format!("environment variable {variable}"),
            format!("`{text}` cannot be read: {error}"),
            "correct it or unset it",
        )
    })
}

macro_rules! layer {
    ($($(#[$doc:meta])* $key:ident: $type:ty = $variable:literal;)*) => {
        /// The settings of one source. A setting that it does not give is `None`.
        #[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Layer { $($(#[$doc])* pub $key: Option<$type>,)* }

        /// Every key of the file, with its environment variable.
        pub const KEYS: &[(&str, &str)] = &[$((stringify!($key), $variable),)*];

        impl Layer {
            /// This layer's settings, and those of `below` where it gives none.
            #[must_use]
            pub fn over(self, below: Self) -> Self {
                Self { $($key: self.$key.or(below.$key),)* }
            }

            /// Reads the environment. An empty variable counts as unset.
            pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
                let get = |variable: &str| get(variable).filter(|text| !text.is_empty());
                Ok(Self { $($key: get($variable).map(|text| parse($variable, &text)).transpose()?,)* })
            }
        }
    };
}

layer! {
    /// The data directory.
    data_dir: PathBuf = "CHAT_DATA_DIR";
    /// The node's name.
    name: String = "CHAT_NAME";
    /// `host:port` to listen on.
    listen: String = "CHAT_LISTEN";
    /// `host:port` that clients and peers dial.
    advertise: String = "CHAT_ADVERTISE";
    /// The node's failure domain.
    zone: String = "CHAT_ZONE";
    /// Time between a leader's heartbeats.
    heartbeat: HumanDuration = "CHAT_HEARTBEAT";
    /// Least random part of the election timeout.
    election_timeout_min: HumanDuration = "CHAT_ELECTION_TIMEOUT_MIN";
    /// Largest random part of the election timeout.
    election_timeout_max: HumanDuration = "CHAT_ELECTION_TIMEOUT_MAX";
    /// Log entries between snapshots.
    snapshot_entries: u64 = "CHAT_SNAPSHOT_ENTRIES";
    /// Log entries kept behind a snapshot.
    keep_entries: u64 = "CHAT_KEEP_ENTRIES";
    /// How long a session lives.
    session_ttl: HumanDuration = "CHAT_SESSION_TTL";
    /// What to log: a level, or a list of levels by target.
    log: String = "CHAT_LOG";
    /// The format of log lines.
    log_format: LogFormat = "CHAT_LOG_FORMAT";
    /// Connections accepted at once.
    max_connections: usize = "CHAT_MAX_CONNECTIONS";
    /// Subscriptions served at once.
    max_subscriptions: usize = "CHAT_MAX_SUBSCRIPTIONS";
    /// Writes of one account per second; 0 for no limit.
    account_writes_per_second: u32 = "CHAT_ACCOUNT_WRITES_PER_SECOND";
    /// Writes that one account may make at once after a pause.
    account_write_burst: u32 = "CHAT_ACCOUNT_WRITE_BURST";
    /// Requests from one address per second; 0 for no limit.
    address_requests_per_second: u32 = "CHAT_ADDRESS_REQUESTS_PER_SECOND";
    /// Requests that one address may make at once after a pause.
    address_request_burst: u32 = "CHAT_ADDRESS_REQUEST_BURST";
    /// Wrong passwords for one account per minute; 0 for no limit.
    account_wrong_passwords_per_minute: u32 = "CHAT_ACCOUNT_WRONG_PASSWORDS_PER_MINUTE";
    /// Wrong passwords from one address per minute; 0 for no limit.
    address_wrong_passwords_per_minute: u32 = "CHAT_ADDRESS_WRONG_PASSWORDS_PER_MINUTE";
    /// How long a stopping node waits for calls in progress.
    drain: HumanDuration = "CHAT_DRAIN";
    /// Memory of one password hash, in KiB.
    argon2_memory_kib: u32 = "CHAT_ARGON2_MEMORY_KIB";
    /// Passes of one password hash.
    argon2_iterations: u32 = "CHAT_ARGON2_ITERATIONS";
    /// Lanes of one password hash.
    argon2_parallelism: u32 = "CHAT_ARGON2_PARALLELISM";
}

impl Layer {
    /// Reads a TOML file's `text`; `place` is its name in errors.
    pub fn from_toml(place: &str, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let line =
                error.span().map_or(1, |span| 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count());
            // serde lists the known keys in its message; here they are part of `next`.
            let (problem, _) = error.message().split_once(", expected one of").unwrap_or((error.message(), ""));
            let keys: Vec<_> = KEYS.iter().map(|(key, _)| *key).collect();
            let next = format!("the keys are: {}", keys.join(", "));
            ConfigError::new(format!("{place}, line {line}"), problem, next)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_layer_wins_key_by_key() {
        let file = Layer::from_toml("f", "name = 'a'\nzone = 'z'").unwrap();
        let environment = Layer::from_environment(|v| (v == "CHAT_NAME").then(|| "b".to_owned())).unwrap();
        let merged = environment.over(file);
        assert_eq!((merged.name.as_deref(), merged.zone.as_deref()), (Some("b"), Some("z")));
    }

    #[test]
    fn an_unknown_key_in_the_file_is_refused_by_name() {
        let error = Layer::from_toml("node.toml", "name = 'a'\nhartbeat = '1s'").unwrap_err();
        assert_eq!((error.place.as_str(), error.problem.as_str()), ("node.toml, line 2", "unknown field `hartbeat`"));
        assert!(error.next.contains("heartbeat"), "{}", error.next);
    }

    #[test]
    fn a_value_of_the_environment_that_does_not_parse_is_refused_by_name() {
        for (variable, text) in [("CHAT_HEARTBEAT", "fast"), ("CHAT_SNAPSHOT_ENTRIES", "-1"), ("CHAT_LOG_FORMAT", "x")]
        {
            let error = Layer::from_environment(|v| (v == variable).then(|| text.to_owned())).unwrap_err();
            assert!(error.place.contains(variable), "{error}");
        }
    }

    #[test]
    fn a_duration_of_the_file_that_does_not_parse_is_refused() {
        assert!(Layer::from_toml("f", "heartbeat = 'soon'").unwrap_err().problem.contains("soon"));
        assert!(Layer::from_toml("f", "heartbeat = 100").is_err());
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        assert_eq!(Layer::from_environment(|_| Some(String::new())), Ok(Layer::default()));
    }
}
