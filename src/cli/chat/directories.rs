//! Where `chat` keeps its files: the folders of the XDG Base Directory Specification 0.8.
//!
//! A variable that holds a relative path counts as unset, as the specification demands.

use std::{env, path::PathBuf};

/// The folder of sessions and outboxes: `$XDG_STATE_HOME/quorate`, or `~/.local/state/quorate`.
pub(super) fn state() -> Option<PathBuf> {
    xdg("XDG_STATE_HOME", ".local/state")
}

/// The folder of `config.toml`: `$XDG_CONFIG_HOME/quorate`, or `~/.config/quorate`.
pub(super) fn config() -> Option<PathBuf> {
    xdg("XDG_CONFIG_HOME", ".config")
}

/// `quorate` in the folder that `variable` names, or else in `default` under the home folder.
fn xdg(variable: &str, default: &str) -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(default)))?;
    Some(base.join("quorate"))
}
