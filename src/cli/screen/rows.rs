//! The layout of the screen, and messages as rows of a given width. All text of others is escaped here.

use std::collections::VecDeque;

use ratatui::{
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
};

use super::{
    state::{Mode, Outgoing, Stage, State, other},
    timeline::Timeline,
};
use crate::{
    cli::{room_change, text},
    wire::chat::{Conversation, Message, RoomChange},
};

/// Columns of the list of conversations, if it is shown.
const LIST: u16 = 22;
/// Columns from which on the list is shown beside the timeline.
const WIDE: u16 = 60;
/// Rows of the composer that are shown at most.
const COMPOSER: usize = 6;
/// Columns before the text of a message, which hold the time in its first row.
const INDENT: usize = 6;

/// The areas of the screen.
pub(super) struct Areas {
    pub(super) banner: Rect,
    pub(super) list: Rect,
    pub(super) title: Rect,
    pub(super) timeline: Rect,
    pub(super) composer: Rect,
    pub(super) hint: Rect,
}

/// Splits the screen. The composer grows with its text, at the cost of the timeline.
pub(super) fn areas(state: &State) -> Areas {
    let (columns, rows) = state.size;
    let list = if columns >= WIDE { LIST } else { 0 };
    let width = usize::from(columns.saturating_sub(list)).max(1);
    let written = hard_wrap(&escaped(state.composer.text()), width.saturating_sub(2)).len().clamp(1, COMPOSER) as u16;
    let screen = Rect::new(0, 0, columns, rows);
    let [banner, middle, hint] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)]).areas(screen);
    let [list, right] = Layout::horizontal([Constraint::Length(list), Constraint::Fill(1)]).areas(middle);
    let [title, timeline, composer] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(written + 1)]).areas(right);
    Areas { banner, list, title, timeline, composer, hint }
}

/// Columns and rows of the timeline; the columns are at least enough to wrap text.
pub(super) fn timeline_size(state: &State) -> (usize, usize) {
    let area = areas(state).timeline;
    (usize::from(area.width).max(INDENT + 2), usize::from(area.height))
}

/// The name of a conversation in the list and the title.
pub(super) fn label(chat: &Conversation, me: &str) -> String {
    let name = match other(chat, me) {
        _ if !chat.direct => format!("#{}", chat.title),
        Some(name) => name.to_owned(),
        None => "(deleted account)".to_owned(),
    };
    text::line(&name).into_owned()
}

/// A row of the timeline.
pub(super) struct Row {
    pub(super) line: Line<'static>,
    /// The message that ends with this row.
    pub(super) ends: Option<u64>,
}

impl From<Line<'static>> for Row {
    fn from(line: Line<'static>) -> Self {
        Self { line, ends: None }
    }
}

/// The rows of the timeline that are in view.
pub(super) fn in_view(state: &State, open: &Timeline) -> impl Iterator<Item = Row> + use<> {
    let (width, height) = timeline_size(state);
    let rows = last_rows(state, open, width, open.rows_below + height);
    let end = rows.len().saturating_sub(open.rows_below);
    rows.into_iter().take(end).skip(end.saturating_sub(height))
}

/// The last rows of the timeline: at least `needed` if there are so many. Builds no more than it must, from the end.
pub(super) fn last_rows(state: &State, open: &Timeline, width: usize, needed: usize) -> VecDeque<Row> {
    let mut rows: VecDeque<Row> = outgoing_rows(state, width).into_iter().map(Row::from).collect();
    let first_new = open.first_new(&state.account);
    let mut newer: Option<&Message> = None;
    let mut changes = open.changes.iter().rev().peekable();
    for message in open.messages.values().rev() {
        while let Some((_, change)) = changes.next_if(|(seq, _)| **seq > message.seq) {
            rows.push_front(change_row(change, width).into());
        }
        if rows.len() >= needed {
            return rows;
        }
        if let Some(newer) = newer.filter(|newer| day(newer) != day(message)) {
            rows.push_front(day_row(newer, width).into());
        }
        let own = message_rows(state, message, width).into_iter().rev().enumerate();
        own.for_each(|(at, line)| rows.push_front(Row { line, ends: (at == 0).then_some(message.seq) }));
        if first_new == Some(message.seq) {
            rows.push_front(new_row(width).into());
        }
        newer = Some(message);
    }
    if let Some(oldest) = newer {
        rows.push_front(day_row(oldest, width).into());
    }
    changes.for_each(|(_, change)| rows.push_front(change_row(change, width).into()));
    let beginning = match (open.loading, open.complete, newer.is_some()) {
        (true, ..) => Some("loading"),
        (false, true, false) if open.changes.is_empty() => Some("no messages yet"),
        _ => None,
    };
    if let Some(words) = beginning {
        rows.push_front(Line::styled(words, dim()).into());
    }
    rows
}

/// The row that begins a new day.
fn day_row(message: &Message, width: usize) -> Line<'static> {
    Line::styled(format!("{:-<width$}", format!("--- {} UTC ", day(message))), dim())
}

/// The row above the first message that was new when the conversation was opened.
fn new_row(width: usize) -> Line<'static> {
    Line::styled(format!("{:-<width$}", "--- new "), Style::new().fg(Color::Yellow))
}

/// The row of a change of the room. It is always one row: scrolling counts on it.
fn change_row(change: &RoomChange, width: usize) -> Line<'static> {
    let time = change.create_time.map(|time| time.to_string()).unwrap_or_default();
    let row = format!("{:<INDENT$}* {}", time.get(11..16).unwrap_or("--:--"), room_change::describe(change));
    Line::styled(hard_wrap(&row, width).into_iter().next().unwrap_or_default(), dim())
}

/// The rows of a message.
pub(super) fn message_rows(state: &State, message: &Message, width: usize) -> Vec<Line<'static>> {
    let own = message.sender.eq_ignore_ascii_case(&state.account);
    let body = if message.deleted { "(deleted)".to_owned() } else { escaped(&message.body) };
    let is_read = state.open.as_ref().is_some_and(|open| message.seq <= open.read_by_other);
    let mark = match (own, is_read) {
        (true, true) => " ✓✓",
        (true, false) => " ✓",
        _ => "",
    };
    let found = matches!(state.mode, Mode::Search { at: Some(at), .. } if at == message.seq);
    let look = match (found, message.deleted) {
        (true, _) => Style::new().add_modifier(Modifier::REVERSED),
        (false, true) => dim(),
        _ => Style::new(),
    };
    let gone = if message.sender_deleted { " (deleted account)" } else { "" };
    let sender = format!("{}{gone}", text::line(&message.sender));
    rows(&time(message), &sender, &body, mark, look, width)
}

/// The rows of outgoing messages of the open conversation.
pub(super) fn outgoing_rows(state: &State, width: usize) -> Vec<Line<'static>> {
    let here = state.outgoing.iter().filter(|out| !out.seen && state.is_here(out));
    here.flat_map(|out| outgoing_message_rows(state, out, width)).collect()
}

/// The rows of one outgoing message: its text, then its stage in brackets.
fn outgoing_message_rows(state: &State, out: &Outgoing, width: usize) -> Vec<Line<'static>> {
    let (time, words, look) = match &out.stage {
        Stage::Sending => ("  ...", "sending".to_owned(), dim()),
        Stage::Waiting(why) => ("  ...", format!("waiting, kept on disk: {why}"), dim()),
        Stage::Failed(why) => ("  !!!", format!("FAILED: {why} (Ctrl+R sends it again, Ctrl+X drops it)"), bad()),
        Stage::TooOld => {
            let words = "NOT KNOWN whether this was delivered: Ctrl+R sends it again as a new message, Ctrl+X drops it";
            ("  ???", words.to_owned(), bad())
        }
    };
    let mut lines = rows(time, &text::line(&state.account), &escaped(&out.body), "", dim(), width);
    let words = format!("({})", text::line(&words));
    let rest = width.saturating_sub(INDENT);
    lines.extend(
        text::wrap(&words, rest, rest).into_iter().map(|row| Line::styled(format!("{:INDENT$}{row}", ""), look)),
    );
    lines
}

/// Time, sender and wrapped text. `mark` goes behind the last row if it fits, else into a row of its own.
fn rows(time: &str, sender: &str, body: &str, mark: &'static str, look: Style, width: usize) -> Vec<Line<'static>> {
    let rest = width.saturating_sub(INDENT).max(1);
    let head = text::width(sender) + 2;
    let wrapped = text::wrap(body, rest.saturating_sub(head).max(1), rest);
    let mut lines: Vec<Line<'static>> = Vec::with_capacity(wrapped.len());
    for (at, row) in wrapped.into_iter().enumerate() {
        lines.push(if at == 0 {
            let name = Style::new().fg(colour(sender)).add_modifier(Modifier::BOLD);
            let time = Span::styled(format!("{time:<INDENT$}"), dim());
            Line::from(vec![time, Span::styled(sender.to_owned(), name), Span::raw("  "), Span::styled(row, look)])
        } else {
            Line::from(vec![Span::raw(" ".repeat(INDENT)), Span::styled(row, look)])
        });
    }
    if let Some(last) = lines.last_mut().filter(|_| !mark.is_empty()) {
        if last.width() + 3 > width {
            lines.push(Line::styled(format!("{:INDENT$}{}", "", mark.trim()), dim()));
        } else {
            last.push_span(Span::styled(mark, dim()));
        }
    }
    lines
}

/// Escaped text, with tabs as spaces.
pub(super) fn escaped(body: &str) -> String {
    text::block(body).replace('\t', "    ")
}

fn time(message: &Message) -> String {
    let time = message.create_time.map(|time| time.to_string()).unwrap_or_default();
    time.get(11..16).unwrap_or("--:--").to_owned()
}

fn day(message: &Message) -> String {
    let time = message.create_time.map(|time| time.to_string()).unwrap_or_default();
    time.get(..10).unwrap_or("?").to_owned()
}

/// The colour of a name: the same in every run and regardless of case.
fn colour(name: &str) -> Color {
    const COLOURS: [Color; 6] =
        [Color::Cyan, Color::Green, Color::Yellow, Color::Magenta, Color::Blue, Color::LightRed];
    let sum: usize = name.bytes().map(|byte| usize::from(byte.to_ascii_lowercase())).sum();
    COLOURS[sum % COLOURS.len()]
}

pub(super) fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

pub(super) fn bad() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}

/// `text` in rows of `width` columns, broken at any character. Unlike at words, the row and column of a position then
/// depend only on the text before it, which is how the cursor is placed.
pub(super) fn hard_wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(2);
    let mut rows = Vec::new();
    for line in text.split('\n') {
        let (mut row, mut columns) = (String::new(), 0);
        for c in line.chars() {
            let wider = text::width(c.encode_utf8(&mut [0; 4]));
            if columns + wider > width {
                rows.push(std::mem::take(&mut row));
                columns = 0;
            }
            row.push(c);
            columns += wider;
        }
        rows.push(row);
    }
    rows
}
