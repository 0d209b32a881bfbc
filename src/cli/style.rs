//! The few text styles of the command-line output.

use std::fmt;

/// The style of a piece of text on a terminal with colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A heading.
    Bold,
    /// Less important.
    Dim,
    /// All is well.
    Good,
    /// Needs attention.
    Warn,
    /// Broken or lost.
    Bad,
}

impl Style {
    /// The parameters of the SGR escape sequence (ECMA-48).
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "1;31",
        }
    }

    /// `text` in this style if `colour`, else unchanged.
    pub fn paint(self, colour: bool, text: impl fmt::Display) -> String {
        if colour { format!("\u{1b}[{}m{text}\u{1b}[0m", self.code()) } else { text.to_string() }
    }
}
