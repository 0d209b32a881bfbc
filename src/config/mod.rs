//! Floor 1: the settings of a node, checked once and then trusted.
//!
//! Settings come from four layers. The higher one wins, key by key: flags, the environment (`CHAT_…`), a TOML file,
//! defaults. Every layer has the same keys ([`Layer`]). [`load`] merges them and [`NodeConfig::from_layer`] checks the
//! result. An unknown key, a value that does not parse, and values that contradict each other are refused with the name
//! of the key, so that a node never runs on settings that its operator did not mean.
//!
//! Settings do not change while a node runs, and none of them is replicated.

mod error;
mod layer;
mod node;
mod rates;

use std::{fs, path::Path};

pub use error::ConfigError;
pub use layer::{HumanDuration, KEYS, Layer, LogFormat};
pub use node::{Argon2, Grpc, Log, NodeConfig, SnapshotPolicy};
pub use rates::{Rate, Rates};

/// Reads, merges and checks all layers. `flags` win over the environment, that over `file`, and that over the defaults.
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
