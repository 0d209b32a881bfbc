//! What the terminal of this process can show: colour, and lines of some width.

use std::{env, io::IsTerminal};

use ratatui::crossterm::terminal;

use super::text;
use crate::telemetry::terminal_has_escapes;

/// Columns below which lines are left to the terminal: nothing readable fits.
const NARROWEST: usize = 20;

/// Whether `stream` is a terminal that wants colour (<https://no-color.org>).
pub(super) fn wants_colour(stream: &impl IsTerminal) -> bool {
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !refused && terminal_has_escapes()
}

/// Breaks `line` to the width of the terminal, with an indent on continuation rows.
///
/// If the terminal broke it instead, text of others would begin at the left margin and could pass for a line of ours.
/// A line with colour is left alone: those are short, and the escape sequences have no width.
pub(super) fn folded(line: &str) -> String {
    let columns = terminal::size().map_or(0, |(columns, _)| usize::from(columns));
    if columns < NARROWEST || line.contains('\u{1b}') { line.to_owned() } else { text::fold(line, columns) }
}
