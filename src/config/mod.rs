//! Floor 1: the settings of a node, checked once and then trusted.
//!
//! Four layers, each above the one before: defaults, a TOML file, the environment (`CHAT_…`), flags. Every layer has
//! the same keys ([`Layer`]); [`load`] lays them upon one another and [`NodeConfig::from_layer`] checks what comes out.
//! A key that is not known, a value that does not parse and values that contradict each other are all refused by name:
//! a node never runs on settings that its operator did not mean.

mod layer;
mod node;
mod rates;

use std::{fs, path::Path};

pub use layer::{Human, KEYS, Layer, LogFormat};
pub use node::{Argon2, Grpc, Log, NodeConfig, SnapshotPolicy};
pub use rates::{Rate, Rates};

/// Settings that cannot be used. Says which, why, and what would do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    /// The setting, and where it was given if that is known.
    pub place: String,
    /// Why it cannot be used.
    pub problem: String,
    /// What to do about it.
    pub next: String,
}

impl ConfigError {
    fn new(place: impl Into<String>, problem: impl Into<String>, next: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into(), next: next.into() }
    }
}

/// Reads and merges all layers: `flags` above the environment, above `file`, above the defaults.
pub fn load(
    flags: Layer,
    environment: impl Fn(&str) -> Option<String>,
    file: Option<&Path>,
) -> Result<NodeConfig, ConfigError> {
    let from_file = file.map_or(Ok(Layer::default()), read)?;
    NodeConfig::from_layer(flags.over(Layer::from_environment(environment)?).over(from_file))
}

fn read(path: &Path) -> Result<Layer, ConfigError> {
    let place = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| {
        ConfigError::new(&place, error.to_string(), "give --config a TOML file that this user may read")
    })?;
    Layer::from_toml(&place, &text)
}
