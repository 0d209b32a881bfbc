//! Draws a state. Pure: the same state gives the same picture.

use ratatui::{
    Frame,
    layout::{Position, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Clear, Paragraph},
};

use super::{
    compose::Composer,
    keys::{Choice, HELP},
    rows::{self, Areas, bad, dim},
    state::{Connection, Mode, Quorum, State},
};
use crate::{cli::text, client::Recipient, types::ConversationId, wire::chat::Conversation};

/// Columns and rows below which nothing is drawn.
const SMALLEST: (u16, u16) = (20, 6);

/// Draws the whole screen.
pub(super) fn draw(state: &State, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        return frame.render_widget("too small", area);
    }
    let areas = rows::areas(state);
    frame.render_widget(banner(state), areas.banner);
    list(state, areas.list, frame);
    frame.render_widget(title(state), areas.title);
    timeline(state, areas.timeline, frame);
    composer(state, &areas, frame);
    hint(state, areas.hint, frame);
    match &state.mode {
        Mode::Help => help(area, frame),
        Mode::GoTo { words, picked, .. } => go_to(state, words, *picked, area, frame),
        _ => {}
    }
}

/// The first row: the account and the state of the connection.
fn banner(state: &State) -> Line<'_> {
    let (words, look) = match &state.connection {
        Connection::Connecting => ("connecting".to_owned(), Style::new().fg(Color::Yellow)),
        Connection::Connected(_) if state.quorum == Quorum::Electing => (
            "electing a leader: messages are kept on disk and sent in a moment".to_owned(),
            Style::new().fg(Color::Yellow),
        ),
        Connection::Connected(_) if state.quorum == Quorum::Missing => {
            ("NO QUORUM: messages are kept on disk and sent when enough nodes are back".to_owned(), bad())
        }
        Connection::Connected(node) => (format!("connected to {node}"), Style::new().fg(Color::Green)),
        Connection::Lost(why) => {
            (format!("RECONNECTING ({why})"), Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD))
        }
        Connection::Ended(why) => (format!("SIGNED OUT: {why}; any key leaves, then `chat login`"), bad()),
    };
    let account = Span::styled(format!(" {} ", text::line(&state.account)), Style::new().add_modifier(Modifier::BOLD));
    Line::from(vec![account, Span::raw(" "), Span::styled(text::line(&words).into_owned(), look)])
}

/// The list of conversations, scrolled so that the open one is visible.
fn list(state: &State, area: Rect, frame: &mut Frame<'_>) {
    if area.width == 0 {
        return;
    }
    let block = Block::new().borders(Borders::RIGHT).border_style(dim());
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let here = |chat: &Conversation| state.open.as_ref().is_some_and(|open| open.is(&chat.conversation_id));
    let height = usize::from(inner.height);
    let opened = state.chats.iter().position(here).unwrap_or(0);
    let skip = (opened + 1).saturating_sub(height);
    let mut lines = Vec::new();
    for chat in state.chats.iter().skip(skip).take(height) {
        lines.push(list_row(state, chat, here(chat), usize::from(inner.width)));
    }
    if lines.is_empty() {
        lines.push(Line::styled("Ctrl+T: talk to...", dim()));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

fn list_row<'a>(state: &State, chat: &Conversation, here: bool, width: usize) -> Line<'a> {
    // The open conversation is about to be marked as read.
    let marking =
        |(id, up_to): (ConversationId, u64)| here && chat.conversation_id == id.to_string() && up_to >= chat.last_seq;
    let unread = if state.marking.is_some_and(marking) { 0 } else { chat.unread_count };
    let count = if unread > 0 { format!(" {}", unread.min(9_999)) } else { String::new() };
    let room = width.saturating_sub(count.len() + 1);
    let label = cut(&rows::label(chat, &state.account), room);
    let gap = " ".repeat(room.saturating_sub(text::width(&label)));
    let mut look = Style::new();
    if here {
        look = look.add_modifier(Modifier::REVERSED);
    }
    if unread > 0 {
        look = look.add_modifier(Modifier::BOLD);
    }
    let pointer = if here { ">" } else { " " };
    Line::from(Span::styled(format!("{pointer}{label}{gap}{count}"), look))
}

/// `label`, cut to `width` columns.
fn cut(label: &str, width: usize) -> String {
    rows::hard_wrap(label, width).into_iter().next().unwrap_or_default()
}

/// The row above the timeline: name, members and id of the open conversation.
fn title(state: &State) -> Line<'static> {
    let look = Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
    let Some(open) = &state.open else { return Line::styled("no conversation is open", dim()) };
    let chat = state.chats.iter().find(|chat| open.is(&chat.conversation_id));
    let label = match (chat, &open.to) {
        (Some(chat), _) => rows::label(chat, &state.account),
        (None, Recipient::Username(name)) => text::line(name).into_owned(),
        (None, Recipient::Conversation(id)) => id.to_string(),
    };
    let members = chat.filter(|chat| !chat.direct).map(|chat| format!("  {} members", chat.member_count));
    let id = open.id.map(|id| format!("  {id}")).unwrap_or_default();
    let above = if open.rows_below > 0 { "  (older; Ctrl+End: newest)" } else { "" };
    Line::from(vec![
        Span::styled(label, look),
        Span::styled(format!("{}{id}{above}", members.unwrap_or_default()), dim()),
    ])
}

fn timeline(state: &State, area: Rect, frame: &mut Frame<'_>) {
    let Some(open) = &state.open else {
        let words = "Ctrl+T: choose a conversation or a user. F1: help. Ctrl+C: leave.";
        return frame.render_widget(Paragraph::new(words).style(dim()), area);
    };
    let lines: Vec<Line<'_>> = rows::in_view(state, open).map(|row| row.line).collect();
    // The newest message is at the bottom, next to the composer.
    let filled = u16::try_from(lines.len()).unwrap_or(u16::MAX).min(area.height);
    let bottom = Rect { y: area.y + area.height - filled, height: filled, ..area };
    frame.render_widget(Paragraph::new(lines), bottom);
}

/// The composer, scrolled so that the insertion point is visible.
fn composer(state: &State, areas: &Areas, frame: &mut Frame<'_>) {
    let block = Block::new().borders(Borders::TOP).border_style(dim());
    let inner = block.inner(areas.composer);
    frame.render_widget(block, areas.composer);
    let width = usize::from(inner.width).saturating_sub(2);
    let (height, before) = (usize::from(inner.height), rows::hard_wrap(&rows::escaped(state.composer.before()), width));
    let at = before.len().saturating_sub(1);
    let skip = (at + 1).saturating_sub(height);
    let all = rows::hard_wrap(&rows::escaped(state.composer.text()), width);
    let prompt = |place| if place == 0 { "> " } else { "  " };
    let lines = all.iter().enumerate().skip(skip).take(height);
    let lines: Vec<Line<'_>> = lines.map(|(place, row)| Line::from(format!("{}{row}", prompt(place)))).collect();
    frame.render_widget(Paragraph::new(lines), inner);
    if state.mode == Mode::Compose {
        let column = before.last().map_or(0, |row| text::width(row)) + 2;
        let (x, y) = (u16::try_from(column).unwrap_or(0), u16::try_from(at - skip).unwrap_or(0));
        frame.set_cursor_position(Position::new((inner.x + x).min(inner.right().saturating_sub(1)), inner.y + y));
    }
}

/// The last row: the search field, a notice, or the main keys.
fn hint(state: &State, area: Rect, frame: &mut Frame<'_>) {
    let words = match (&state.mode, &state.notice) {
        (Mode::Search { words, at, .. }, notice) => {
            let line = format!("Search: {}", text::line(words.text()));
            let column = u16::try_from(text::width(&format!("Search: {}", words.before()))).unwrap_or(0);
            frame.set_cursor_position(Position::new(column.min(area.width.saturating_sub(1)), area.y));
            let help = match (notice, at) {
                (Some(notice), _) => notice.as_str(),
                (None, Some(_)) => "Enter: older  Down: newer  Esc: close",
                (None, None) => "Enter: find  Esc: close",
            };
            return frame.render_widget(
                Line::from(vec![Span::raw(line), Span::styled(format!("   {}", text::line(help)), dim())]),
                area,
            );
        }
        (_, Some(notice)) => {
            let look = Style::new().fg(Color::Yellow);
            return frame.render_widget(Line::styled(text::line(notice).into_owned(), look), area);
        }
        _ => "F1 help  Ctrl+T go to  Ctrl+N/P next/previous  Ctrl+F search  Ctrl+C leave",
    };
    frame.render_widget(Line::styled(words, dim()), area);
}

fn help(screen: Rect, frame: &mut Frame<'_>) {
    let line = |(keys, what): &(&'static str, &'static str)| Line::from(format!(" {keys:<18}{what}"));
    let lines: Vec<Line<'_>> = HELP.iter().map(line).collect();
    boxed(" Keys (any key closes) ", lines, screen, frame);
}

fn go_to(state: &State, words: &Composer, picked: usize, screen: Rect, frame: &mut Frame<'_>) {
    let mut lines = vec![Line::from(format!(" To: {}", text::line(words.text()))), Line::default()];
    for (at, choice) in state.choices().into_iter().enumerate() {
        let (label, kind) = match &choice {
            Choice::Chat(chat) if chat.direct => (rows::label(chat, &state.account), ""),
            Choice::Chat(chat) => (rows::label(chat, &state.account), "room"),
            Choice::User(name) => (text::line(name).into_owned(), "new"),
        };
        let look = if at == picked { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        lines.push(Line::from(vec![
            Span::raw(" "),
            Span::styled(label, look),
            Span::styled(format!(" {kind}"), dim()),
        ]));
    }
    lines.resize(lines.len().max(10), Line::default());
    let column = u16::try_from(text::width(words.before())).unwrap_or(0);
    let area = boxed(" Go to: Enter opens, Up and Down choose, Esc closes ", lines, screen, frame);
    frame.set_cursor_position(Position::new((area.x + 5 + column).min(area.right().saturating_sub(1)), area.y));
}

/// Draws a box in the middle of the screen and returns its inside.
fn boxed(title: &'static str, lines: Vec<Line<'_>>, screen: Rect, frame: &mut Frame<'_>) -> Rect {
    let width = lines.iter().map(Line::width).max().unwrap_or(0).max(title.len()) + 4;
    let width = u16::try_from(width).unwrap_or(u16::MAX).min(screen.width);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(screen.height);
    let (x, y) = ((screen.width - width) / 2, (screen.height - height) / 2);
    let area = Rect { x, y, width, height };
    let block = Block::bordered().title(title);
    let inner = block.inner(area);
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(block), area);
    inner
}
