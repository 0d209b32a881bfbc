//! Argument parsing that the three programs share: usage errors, durations, completion scripts, man pages.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::Path,
    process,
    time::Duration,
};

use clap::{Command, Parser, error::ContextValue};
use clap_complete::Shell;

use super::{Failure, Output, Result, terminal::folded, text};

/// The longest duration that a flag takes: one year. It keeps every sum of times far from overflow.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Parses the arguments of this process. On a usage error, prints it and exits with code 2.
pub fn parse<P: Parser>() -> P {
    P::try_parse().unwrap_or_else(|error| {
        if error.exit_code() == 0 {
            error.exit();
        }
        let text = usage_error(error);
        let text = if io::stderr().is_terminal() { folded(&text) } else { text };
        // If stderr is gone, there is nowhere to report it.
        let _ = io::stderr().write_all(text.as_bytes());
        process::exit(2)
    })
}

/// The text of a usage error. It quotes the arguments, which may have been pasted from anywhere, so they are escaped.
fn usage_error(mut error: clap::Error) -> String {
    let clean = |text: &str| text::line(text).into_owned();
    let context: Vec<_> = error.context().map(|(kind, value)| (kind, value.clone())).collect();
    for (kind, value) in context {
        let value = match value {
            ContextValue::String(text) => ContextValue::String(clean(&text)),
            ContextValue::Strings(texts) => ContextValue::Strings(texts.iter().map(|text| clean(text)).collect()),
            ContextValue::StyledStrs(texts) => {
                ContextValue::StyledStrs(texts.iter().map(|text| clean(&text.to_string()).into()).collect())
            }
            _ => continue,
        };
        error.insert(kind, value);
    }
    text::block(&error.render().to_string()).into_owned()
}

/// Parses a duration such as `10s`, `1m 30s` or `250ms`, for clap's `value_parser`. Zero is refused.
pub fn duration(text: &str) -> std::result::Result<Duration, String> {
    let form = "use a number and a unit, such as 250ms, 10s or 5m";
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; {form}"))?;
    if duration.is_zero() || duration > DURATION_MAX {
        return Err(format!("must be greater than zero and at most one year; {form}"));
    }
    Ok(duration)
}

/// The version of this program, for `--version`.
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
/// If the folder cannot be created or written.
pub fn man(command: Command, directory: &Path) -> Result<()> {
    let failed =
        |error: io::Error| Failure::from(error).context(format!("cannot write man pages to {}", directory.display()));
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(command, directory).map_err(failed)
}

#[cfg(test)]
mod tests {
    use clap::{Arg, value_parser};

    use super::*;
    use crate::types::is_printable;

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
    fn arguments_that_are_refused_are_shown_not_sent() {
        let command = Command::new("tool")
            .arg(Arg::new("n").long("n").value_parser(value_parser!(u8)))
            .subcommand(Command::new("verb"));
        let evil = "\u{1b}]52;c;eA==\u{7}\u{9b}1m\u{202e}\r\nerror: forged";
        for args in [
            vec![evil.to_owned()],
            vec![format!("--{evil}")],
            vec!["--n".into(), evil.into()],
            vec!["verb".into(), evil.into()],
        ] {
            let error = command.clone().try_get_matches_from([vec!["tool".to_owned()], args].concat()).unwrap_err();
            let words = usage_error(error);
            assert!(words.starts_with("error: ") && words.contains(r"\x1b]52;c;eA"), "{words}");
            assert!(!words.lines().any(|line| line.starts_with("error: forged") || !is_printable(line)), "{words}");
        }
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
