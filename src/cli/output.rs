//! Where the answers of a command go: data on stdout, messages to the person ("talk") on stderr.
//!
//! So `chat … > file` and `chat-admin … | jq` get data only. Text of others must pass [`text`](super::text) before it is
//! written here; JSON is escaped here.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
};

use prost::{Message, Name};

use super::{
    Failure, Result, Table,
    terminal::{folded, wants_colour},
};
use crate::{telemetry::terminal_has_escapes, types::printable, wire::json};

/// The two streams of a command, and how to write to them.
///
/// # Invariants
/// - No function writes to both streams.
/// - Colour, folded lines and progress bars appear only on a terminal. `--json` output never has any.
/// - A JSON document is one line of printable characters, so it can neither drive a terminal nor break a line reader.
pub struct Output {
    json: bool,
    colour: bool,
    /// Terminals of this process understand escape sequences.
    escapes: bool,
    /// stdout is a terminal.
    terminal: bool,
    /// stderr is a terminal.
    talk_terminal: bool,
    data: Box<dyn Write + Send>,
    talk: Box<dyn Write + Send>,
}

impl Output {
    /// The streams of this process.
    pub fn standard(json: bool) -> Self {
        Self {
            json,
            colour: wants_colour(&io::stdout()),
            escapes: terminal_has_escapes(),
            terminal: io::stdout().is_terminal(),
            talk_terminal: io::stderr().is_terminal(),
            data: Box::new(io::stdout()),
            talk: Box::new(io::stderr()),
        }
    }

    /// Streams in memory, which are no terminals. The second value reads back what was written. For tests, and for a
    /// command that runs another one.
    pub fn captured(json: bool) -> (Self, Captured) {
        let captured = Captured::default();
        let (data, talk) = (captured.data.clone(), captured.talk.clone());
        let (colour, escapes, terminal, talk_terminal) = (false, false, false, false);
        (Self { json, colour, escapes, terminal, talk_terminal, data: Box::new(data), talk: Box::new(talk) }, captured)
    }

    /// Whether `--json` was given.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether data may have colour.
    pub fn has_colour(&self) -> bool {
        self.colour
    }

    /// Whether data goes to a terminal.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether data goes to a terminal on which it can be drawn over.
    pub fn can_redraw(&self) -> bool {
        self.terminal && self.escapes
    }

    /// Whether talk goes to a terminal that can show progress bars.
    pub fn talk_can_redraw(&self) -> bool {
        self.talk_terminal && self.escapes
    }

    /// Writes a line of data. Text of others must have passed [`text`](super::text).
    pub fn line(&mut self, line: impl fmt::Display) -> Result<()> {
        let line = if self.terminal { folded(&line.to_string()) } else { line.to_string() };
        writeln!(self.data, "{line}").map_err(Failure::from)
    }

    /// Writes bytes as they are, and flushes.
    pub fn raw(&mut self, data: impl AsRef<[u8]>) -> Result<()> {
        self.data.write_all(data.as_ref())?;
        self.data.flush().map_err(Failure::from)
    }

    /// Writes a table.
    pub fn table(&mut self, table: &Table) -> Result<()> {
        table.render(self.colour).into_iter().try_for_each(|line| self.line(line))
    }

    /// Writes a protobuf message as one line of proto3 JSON, and flushes, so that a reader can act on it at once.
    pub fn message<M: Message + Name>(&mut self, message: &M) -> Result<()> {
        self.json_line(&json::to_string(message))
    }

    /// Writes a JSON document for which there is no protobuf message.
    pub fn json(&mut self, document: &serde_json::Value) -> Result<()> {
        self.json_line(&document.to_string())
    }

    fn json_line(&mut self, json: &str) -> Result<()> {
        self.raw(escape_unprintable(json) + "\n")
    }

    /// Writes a line for the person to stderr. Ignores errors: the command itself can still succeed.
    pub fn talk(&mut self, line: impl fmt::Display) {
        let line = if self.talk_terminal { folded(&line.to_string()) } else { line.to_string() };
        let _ = writeln!(self.talk, "{line}");
    }
}

/// Escapes what JSON itself leaves raw: everything unprintable above U+001F, such as CSI (U+009B) and direction marks.
/// Such characters occur only inside strings, where the escape has the same meaning.
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

/// What was written to [`Output::captured`].
#[derive(Debug, Clone, Default)]
pub struct Captured {
    data: Buffer,
    talk: Buffer,
}

impl Captured {
    /// What would have gone to stdout.
    pub fn data(&self) -> String {
        self.data.text()
    }

    /// What would have gone to stderr.
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
