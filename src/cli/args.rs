//! Pieces of argument parsing that the three programs share.

use std::time::Duration;

use clap::Command;
use clap_complete::Shell;

use super::{Output, Result};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        for bad in ["", "10", "0s", "-1s", "2years", "soon"] {
            assert!(duration(bad).is_err(), "{bad:?} is no duration");
        }
    }
}
