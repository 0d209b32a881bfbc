//! The sample settings of `deploy/node.toml` parse, name every key, and show the real defaults.

use std::{fs, path::Path};

use quorate::config::{Argon2, KEYS, Layer, NodeConfig};

fn sample() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/node.toml")).expect("the sample")
}

/// The settings that are commented out in the sample, such as `# log = "info"`.
fn defaults_shown() -> Vec<String> {
    let sample = sample();
    let commented = sample.lines().filter_map(|line| line.strip_prefix("# "));
    let key = |line: &str| line.split_once(" = ").map(|(key, _)| key.to_owned());
    let is_setting = |line: &&str| key(line).is_some_and(|key| KEYS.iter().any(|(known, _)| **known == key));
    commented.filter(is_setting).map(str::to_owned).collect()
}

#[test]
fn the_sample_settings_are_accepted() {
    let config = NodeConfig::from_layer(Layer::from_toml("node.toml", &sample()).expect("TOML")).expect("settings");
    assert_eq!(config.name.as_ref().map(ToString::to_string).as_deref(), Some("n1"));
    assert_eq!(config.argon2, Argon2::OWASP);
}

#[test]
fn the_sample_settings_name_every_key() {
    let (sample, shown) = (sample(), defaults_shown());
    for (key, _) in KEYS {
        let start = format!("{key} = ");
        let named = sample.lines().any(|line| line.starts_with(&start)) || shown.iter().any(|s| s.starts_with(&start));
        assert!(named, "deploy/node.toml does not name {key}");
    }
}

#[test]
fn what_the_sample_settings_call_defaults_are_the_defaults() {
    let shown = format!("data_dir = '/d'\n{}", defaults_shown().join("\n"));
    let config = NodeConfig::from_layer(Layer::from_toml("node.toml", &shown).expect("TOML")).expect("settings");
    assert_eq!(config, NodeConfig::defaults("/d"));
}
