//! A few looks, used only on a terminal that wants them.

use std::{env, fmt, io::IsTerminal};

/// How a piece of text looks on a terminal with colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A heading.
    Bold,
    /// Of less weight.
    Dim,
    /// All is well.
    Good,
    /// Look here.
    Warn,
    /// Something is lost.
    Bad,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "1;31",
        }
    }

    /// `text` in this style if `colour`, else as it is.
    pub fn paint(self, colour: bool, text: impl fmt::Display) -> String {
        if colour { format!("\u{1b}[{}m{text}\u{1b}[0m", self.code()) } else { text.to_string() }
    }
}

/// Whether `stream` is a terminal that wants colour (<https://no-color.org>).
pub fn wants_colour(stream: &impl IsTerminal) -> bool {
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !refused && env::var_os("TERM").is_none_or(|term| term != "dumb")
}
