//! A command that failed: what, why, and what to do next.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use super::{Exit, output::folded, text};
use crate::wire::{Fault, Reason};

/// A command's end.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why a command failed, for the person who typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    /// The code that the program ends with.
    pub exit: Exit,
    /// What failed and why, innermost last: `cannot add node n4: nothing answers at 10.0.0.4:7400`.
    pub message: String,
    /// What to do next.
    pub next: Option<String>,
    /// Nothing is printed: the reader of our output has gone away, or has been told already.
    pub quiet: bool,
}

impl Failure {
    /// A failure with a message and no advice.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), next: None, quiet: false }
    }

    /// Ends with `exit` and says no more: the output has said it.
    pub fn quiet(exit: Exit) -> Self {
        Self { quiet: true, ..Self::new(exit, "") }
    }

    /// Puts what was being attempted in front of the message.
    #[must_use]
    pub fn context(mut self, attempt: impl fmt::Display) -> Self {
        self.message = format!("{attempt}: {}", self.message);
        self
    }

    /// Adds what to do next, in place of what was there.
    #[must_use]
    pub fn next(mut self, advice: impl Into<String>) -> Self {
        self.next = Some(advice.into());
        self
    }
}

/// As printed after `error: `. Text that came over the wire is made harmless here.
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
        // Of sessions, we know better than the server what people type.
        let said = fault.next.filter(|_| fault.reason != Reason::SessionInvalid);
        let next = said.or_else(|| advice(fault.reason).map(str::to_owned));
        Self { exit, message, next, quiet: false }
    }
}

/// What to do about a fault that brought no advice of its own.
fn advice(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::NoLeader | Reason::NotLeader | Reason::NoQuorum => {
            Some("`chat-admin status` shows which nodes are missing; repeating the command is safe")
        }
        Reason::Timeout => Some("repeating the command is safe; --timeout gives it longer"),
        Reason::Unreachable => Some("check the addresses given and that a node runs there"),
        Reason::NodeNotFound => Some("`chat-admin status` lists the nodes"),
        Reason::EtagMismatch | Reason::ChangeInProgress => {
            Some("look at `chat-admin status`, then repeat the command if it still applies")
        }
        Reason::Overloaded | Reason::RateLimited => Some("wait a moment, then repeat the command"),
        Reason::SessionInvalid => Some("sign in with `chat login NAME`"),
        _ => None,
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // The reader (`head`, say) has seen enough.
            return Self::quiet(Exit::Ok);
        }
        Self::new(Exit::Failure, error.to_string())
    }
}

/// The last act of a program: prints the failure, if any, to stderr and gives the exit code.
pub fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            if !failure.quiet {
                let words = format!("error: {failure}");
                let words = if io::stderr().is_terminal() { folded(&words) } else { words };
                // Nobody is left to tell when stderr is gone too.
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
