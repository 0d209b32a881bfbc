//! The error of a command: the exit code, what failed and why, and what to do next.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use super::{Exit, terminal::folded, text};
use crate::{
    client::outcome_is_unknown,
    wire::{Fault, Reason},
};

/// The result of a command.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why a command failed, for the person who typed it.
///
/// `message` and `next` may hold text of others as it came over the wire. [`fmt::Display`] escapes it, so print a failure
/// only by that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    /// The exit code of the program.
    pub exit: Exit,
    /// What failed and why, the cause last: `cannot add node n4: nothing answers at 10.0.0.4:7400`.
    pub message: String,
    /// What to do next.
    pub next: Option<String>,
    /// Print nothing: the reader of our output has gone away, or the output has told the reason already.
    pub quiet: bool,
}

impl Failure {
    /// A failure with a message and no advice.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), next: None, quiet: false }
    }

    /// A write's fault. If the write may have taken effect all the same, `check` says how to find out.
    pub fn of_write(fault: Fault, check: impl Into<String>) -> Self {
        let unknown = outcome_is_unknown(&fault);
        let failure = Self::from(fault);
        if unknown { failure.next(check) } else { failure }
    }

    /// Ends with `exit` and prints nothing: the output has said it.
    pub fn quiet(exit: Exit) -> Self {
        Self { quiet: true, ..Self::new(exit, "") }
    }

    /// Prefixes the message with what was attempted.
    #[must_use]
    pub fn context(mut self, attempt: impl fmt::Display) -> Self {
        self.message = format!("{attempt}: {}", self.message);
        self
    }

    /// Sets what to do next, in place of earlier advice.
    #[must_use]
    pub fn next(mut self, advice: impl Into<String>) -> Self {
        self.next = Some(advice.into());
        self
    }
}

/// As printed after `error: `. Escapes text that came over the wire.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::line(&self.message))?;
        match &self.next {
            Some(next) => write!(f, "\n  next: {}", text::line(next)),
            None => Ok(()),
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let exit = Exit::from(&fault);
        let message = match &fault.field {
            Some(field) if !fault.message.contains(field.as_str()) => format!("{field}: {}", fault.message),
            _ => fault.message,
        };
        // The server cannot know by which command people sign in here.
        let from_server = fault.next.filter(|_| fault.reason != Reason::SessionInvalid);
        let next = from_server.or_else(|| advice(fault.reason).map(str::to_owned));
        Self { exit, message, next, quiet: false }
    }
}

/// What to do about a fault that the server sent without advice.
fn advice(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::NoLeader | Reason::NotLeader | Reason::NoQuorum => {
            Some("`chat-admin status` shows which nodes are missing; repeating the command is safe")
        }
        Reason::Timeout => Some("repeating the command is safe; --timeout allows more time"),
        Reason::Unreachable => Some("check the addresses, and that a node runs there"),
        Reason::NodeNotFound => Some("`chat-admin status` lists the nodes"),
        Reason::EtagMismatch | Reason::ChangeInProgress => {
            Some("check `chat-admin status`, then repeat the command if it still applies")
        }
        Reason::Overloaded | Reason::RateLimited => Some("wait a moment, then repeat the command"),
        Reason::SessionInvalid => Some("sign in with `chat login NAME`"),
        _ => None,
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // The reader, `head` for example, has closed the pipe on purpose.
            return Self::quiet(Exit::Ok);
        }
        Self::new(Exit::Failure, error.to_string())
    }
}

/// Ends a program: prints the failure, if any, to stderr and returns the exit code.
pub fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            if !failure.quiet {
                let words = format!("error: {failure}");
                let words = if io::stderr().is_terminal() { folded(&words) } else { words };
                // If stderr is gone too, there is nowhere to report it.
                let _ = writeln!(io::stderr(), "{words}");
            }
            failure.exit.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_failed_why_and_what_next() {
        let fault = Fault::new(Reason::Unreachable, "nothing answers at 10.0.0.4:7400").next("start the node there");
        let failure = Failure::from(fault).context("cannot add node n4");
        assert_eq!(
            failure.to_string(),
            "cannot add node n4: nothing answers at 10.0.0.4:7400\n  next: start the node there"
        );
        assert_eq!(failure.exit, Exit::Unavailable);
    }

    #[test]
    fn the_field_at_fault_is_named_once() {
        assert_eq!(Failure::from(Fault::invalid("zone", "too long")).to_string(), "zone: too long");
        assert_eq!(Failure::from(Fault::invalid("zone", "a zone is short")).to_string(), "a zone is short");
    }

    #[test]
    fn text_from_the_wire_cannot_drive_the_terminal() {
        let failure = Failure::from(Fault::new(Reason::Internal, "\u{1b}[2Jgone\nerror: forged"));
        assert_eq!(failure.to_string(), r"\x1b[2Jgone\nerror: forged");
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.quiet && failure.exit == Exit::Ok);
    }
}
