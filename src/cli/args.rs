//! Pieces of argument parsing that the three programs share.

use std::{fs, io, path::Path, time::Duration};

use clap::Command;
use clap_complete::Shell;

use super::{Failure, Output, Result};

/// The longest duration that a flag takes: a year, so that no sum of times overflows.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads a duration such as `10s`, `1m 30s` or `250ms`, for clap's `value_parser`. Zero is none.
pub fn duration(text: &str) -> std::result::Result<Duration, String> {
    let form = "use a number and a unit, such as 250ms, 10s or 5m";
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; {form}"))?;
    if duration.is_zero() || duration > DURATION_MAX {
        return Err(format!("must be more than nothing and at most a year; {form}"));
    }
    Ok(duration)
}

/// This program's version, for `--version` and for comparing with the nodes'.
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Prints the completion script of `command` for a shell.
pub fn completions(shell: Shell, mut command: Command, output: &mut Output) -> Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    output.raw(script)
}

/// Writes the man pages of `command` and its subcommands, section 1, into `directory`.
///
/// # Errors
/// When the folder cannot be made or written to.
pub fn man(command: Command, directory: &Path) -> Result<()> {
    let failed =
        |error: io::Error| Failure::from(error).context(format!("cannot write man pages to {}", directory.display()));
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(command, directory).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn man_pages_are_written_for_every_verb_that_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let command = Command::new("tool")
            .subcommand(Command::new("shown").about("Does this."))
            .subcommand(Command::new("hidden").hide(true));
        man(command, &directory.path().join("new")).unwrap();
        let page = |name: &str| fs::read_to_string(directory.path().join("new").join(name));
        assert!(page("tool.1").unwrap().contains("shown"));
        assert!(page("tool-shown.1").unwrap().contains("Does this."));
        assert!(page("tool-hidden.1").is_err());
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        for bad in ["", "10", "0s", "-1s", "2years", "soon"] {
            assert!(duration(bad).is_err(), "{bad:?} is no duration");
        }
    }
}
