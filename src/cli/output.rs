//! Where a command's answers go: data on stdout, talk on stderr.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
};

use prost::{Message, Name};
use ratatui::crossterm::terminal;

use super::{Failure, Result, Table, style, text};
use crate::{types::printable, wire::json};

/// The two streams of a command, and how it was asked to speak.
pub struct Output {
    json: bool,
    colour: bool,
    terminal: bool,
    talk_terminal: bool,
    data: Box<dyn Write + Send>,
    talk: Box<dyn Write + Send>,
}

impl Output {
    /// The process's own streams.
    pub fn standard(json: bool) -> Self {
        Self {
            json,
            colour: style::wants_colour(&io::stdout()),
            terminal: io::stdout().is_terminal(),
            talk_terminal: io::stderr().is_terminal(),
            data: Box::new(io::stdout()),
            talk: Box::new(io::stderr()),
        }
    }

    /// No terminal; what is written can be read back from the second value. For tests.
    pub fn captured(json: bool) -> (Self, Captured) {
        let captured = Captured::default();
        let (data, talk) = (captured.data.clone(), captured.talk.clone());
        let (colour, terminal, talk_terminal) = (false, false, false);
        (Self { json, colour, terminal, talk_terminal, data: Box::new(data), talk: Box::new(talk) }, captured)
    }

    /// Whether `--json` was given.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether data may be coloured.
    pub fn has_colour(&self) -> bool {
        self.colour
    }

    /// Whether data goes to a terminal.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether talk goes to a terminal: progress bars and prompts are welcome there.
    pub fn talk_is_terminal(&self) -> bool {
        self.talk_terminal
    }

    /// Writes a line of data. What others wrote must have gone through [`text`](super::text) before.
    pub fn line(&mut self, line: impl fmt::Display) -> Result<()> {
        let line = if self.terminal { folded(&line.to_string()) } else { line.to_string() };
        writeln!(self.data, "{line}").map_err(Failure::from)
    }

    /// Writes data as it is and flushes.
    pub fn raw(&mut self, data: impl AsRef<[u8]>) -> Result<()> {
        self.data.write_all(data.as_ref())?;
        self.data.flush().map_err(Failure::from)
    }

    /// Writes a table.
    pub fn table(&mut self, table: &Table) -> Result<()> {
        table.render(self.colour).into_iter().try_for_each(|line| self.line(line))
    }

    /// Writes one of our messages as a line of proto3 JSON, and flushes, since the reader may act on it.
    pub fn message<M: Message + Name>(&mut self, message: &M) -> Result<()> {
        self.json_line(&json::to_string(message))
    }

    /// Writes a JSON document that has no message of its own.
    pub fn json(&mut self, document: &serde_json::Value) -> Result<()> {
        self.json_line(&document.to_string())
    }

    fn json_line(&mut self, json: &str) -> Result<()> {
        self.raw(escape_unprintable(json) + "\n")
    }

    /// Says something to the person on stderr. A person who has gone away is no failure.
    pub fn talk(&mut self, line: impl fmt::Display) {
        let line = if self.talk_terminal { folded(&line.to_string()) } else { line.to_string() };
        let _ = writeln!(self.talk, "{line}");
    }
}

/// A line as a terminal shows it, broken by us: where the terminal breaks a line, what others wrote would stand at the
/// left and could pass for a line of ours. Lines in colour are short, and hold nothing of others that is long.
pub(super) fn folded(line: &str) -> String {
    const NARROWEST: usize = 20;
    let columns = terminal::size().map_or(0, |(columns, _)| usize::from(columns));
    if columns < NARROWEST || line.contains('\u{1b}') { line.to_owned() } else { text::fold(line, columns) }
}

/// JSON itself escapes only the first 32 control characters; all else would reach the terminal raw. It can only stand
/// inside strings, where an escape means the same.
fn escape_unprintable(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for (c, printable) in printable(json) {
        match printable {
            true => out.push(c),
            false => out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
        }
    }
    out
}

/// What a command wrote, for tests.
#[derive(Debug, Clone, Default)]
pub struct Captured {
    data: Buffer,
    talk: Buffer,
}

impl Captured {
    /// What went to stdout.
    pub fn data(&self) -> String {
        self.data.text()
    }

    /// What went to stderr.
    pub fn talk(&self) -> String {
        self.talk.text()
    }
}

#[derive(Debug, Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::cluster;

    #[test]
    fn json_is_one_line_and_drives_no_terminal() {
        let (mut output, captured) = Output::captured(true);
        let node = cluster::Node { name: "a\u{9b}2J\n\u{7f}\u{202e}\u{e0041}".into(), ..Default::default() };
        output.message(&node).unwrap();
        let json = captured.data();
        assert_eq!(json.lines().count(), 1);
        assert!(json.contains(r"a\u009b2J\n\u007f\u202e\udb40\udc41"), "{json}");
        let back: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(back["name"], "a\u{9b}2J\n\u{7f}\u{202e}\u{e0041}");
    }

    #[test]
    fn data_and_talk_keep_apart() {
        let (mut output, captured) = Output::captured(false);
        output.line("data").unwrap();
        output.talk("talk");
        assert_eq!((captured.data().as_str(), captured.talk().as_str()), ("data\n", "talk\n"));
    }
}
