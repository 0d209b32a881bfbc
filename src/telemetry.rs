//! Floor 1: logging.
//!
//! Log lines go to standard error, as text for people or as one JSON object per line for programs. No code in this
//! crate may pass a secret (a password, a token, a request body) to a log macro, because nothing here filters secrets
//! out.

use std::{
    env,
    io::{self, IsTerminal},
};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// The levels of the libraries that we use, unless the filter names them itself.
const QUIET: &str = "openraft=off,h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn";

/// A log filter that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{filter}` is not a log filter: {problem}; use a level such as `info`, or `info,quorate::raft=debug`")]
pub struct InvalidFilter {
    /// The filter as given.
    pub filter: String,
    /// Why it does not parse.
    pub problem: String,
}

/// Sets up logging for the whole process. `filter` is a level or a tracing filter; `json` asks for JSON lines. A second
/// call changes nothing.
pub fn init(filter: &str, json: bool) -> Result<(), InvalidFilter> {
    let registry = tracing_subscriber::registry().with(parse(filter)?);
    let lines = fmt::layer().with_writer(io::stderr);
    let set = if json {
        registry.with(lines.json().flatten_event(true)).try_init()
    } else {
        registry.with(lines.with_ansi(io::stderr().is_terminal() && terminal_has_escapes())).try_init()
    };
    // Fails only if there is a subscriber already, which then stays.
    drop(set);
    Ok(())
}

/// Whether the terminal understands escape sequences. One that does not calls itself dumb; without TERM nothing is known
/// of it.
pub fn terminal_has_escapes() -> bool {
    env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Later directives override earlier ones for the same target, so the caller's come last.
fn parse(filter: &str) -> Result<EnvFilter, InvalidFilter> {
    EnvFilter::try_new(format!("{QUIET},{filter}"))
        .map_err(|error| InvalidFilter { filter: filter.to_owned(), problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_read_and_garbage_is_refused() {
        for good in ["info", "debug,quorate::raft=trace", "openraft=debug", "off"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["quorate=loud", "a=b=c"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn libraries_are_quiet_unless_named() {
        assert!(parse("info").unwrap().to_string().contains("openraft=off"));
        let loud = parse("info,openraft=debug").unwrap().to_string();
        assert!(loud.contains("openraft=debug") && !loud.contains("openraft=off"), "{loud}");
    }
}
