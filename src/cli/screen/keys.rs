//! Keys and pasted text, except in the search: writing, sending, and moving between conversations.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    compose::Composer,
    event::Effect,
    rows,
    state::{Connection, Mode, Outgoing, Stage, State, other},
};
use crate::{
    client::Recipient,
    types::{ConversationId, Username},
    wire::chat::Conversation,
};

/// The table of keys that F1 shows.
pub(super) const HELP: &[(&str, &str)] = &[
    ("Enter", "send the message"),
    ("Alt+Enter, Ctrl+J", "start a new line"),
    ("Tab", "complete a user's name"),
    ("Ctrl+T", "go to a conversation, or start one with a user"),
    ("Ctrl+N, Ctrl+P", "next, previous conversation (also Alt+Down, Alt+Up)"),
    ("PageUp, PageDown", "older, newer messages"),
    ("Ctrl+End", "back to the newest message"),
    ("Ctrl+F", "search in this conversation"),
    ("Ctrl+R, Ctrl+X", "send again, or drop, the first message that failed"),
    ("Ctrl+W, Ctrl+U", "erase a word, a line"),
    ("Esc", "close the search or the dialog"),
    ("Ctrl+C", "leave; unsent messages are sent at the next start"),
];

/// Choices offered at most by "go to", and names shown at most by completion.
const CHOICES: usize = 8;

impl State {
    /// Handles a key. Ctrl+C always works; after the end of the session every key leaves.
    pub(super) fn key(&mut self, key: KeyEvent) {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        self.notice = None;
        match (control, key.code) {
            (true, KeyCode::Char('c' | 'q')) => self.effects.push(Effect::Quit),
            _ if matches!(self.connection, Connection::Ended(_)) => self.effects.push(Effect::Quit),
            _ if self.mode == Mode::Help => self.mode = Mode::Compose,
            (_, KeyCode::F(1)) => self.mode = Mode::Help,
            (_, KeyCode::Esc) => self.close(),
            (_, KeyCode::PageUp) => self.page(1),
            (_, KeyCode::PageDown) => self.page(-1),
            (true, KeyCode::End) => self.scroll(-isize::try_from(usize::MAX / 4).unwrap_or(0)),
            (true, KeyCode::Home) => self.scroll(isize::try_from(usize::MAX / 4).unwrap_or(0)),
            (true, KeyCode::Char('f')) => self.search(),
            (true, KeyCode::Char('t' | 'k')) => self.go_to(),
            (true, KeyCode::Char('n')) => self.step(1),
            (true, KeyCode::Char('p')) => self.step(-1),
            (true, KeyCode::Char('r')) => self.renew(),
            (true, KeyCode::Char('x')) => self.drop_failed(),
            _ => match self.mode {
                Mode::Search { .. } => self.search_key(key),
                Mode::GoTo { .. } => self.go_to_key(key),
                _ => self.compose_key(key),
            },
        }
    }

    /// Inserts pasted text into the active text field. Line ends in it do not send the message.
    pub(super) fn paste(&mut self, text: &str) {
        let fits = match &mut self.mode {
            Mode::Search { words, .. } | Mode::GoTo { words, .. } => {
                words.insert(text.lines().next().unwrap_or_default())
            }
            _ => self.composer.insert(text),
        };
        self.notice = (!fits).then(|| "the text is longer than a message may be and was cut".to_owned());
    }

    fn close(&mut self) {
        self.mode = Mode::Compose;
    }

    /// Handles a key of the composer. Up and Down scroll the timeline from the first and last line.
    fn compose_key(&mut self, key: KeyEvent) {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        match key.code {
            KeyCode::Enter if alt || key.modifiers.contains(KeyModifiers::SHIFT) => self.type_text("\n"),
            KeyCode::Char('j') if control => self.type_text("\n"),
            KeyCode::Enter => self.submit(),
            KeyCode::Tab => {
                let prefix = self.composer.word().trim_start_matches('@').to_owned();
                self.complete(prefix);
            }
            KeyCode::Up if alt => self.step(-1),
            KeyCode::Down if alt => self.step(1),
            KeyCode::Up => {
                if !self.composer.up() {
                    self.scroll(1);
                }
            }
            KeyCode::Down => {
                if !self.composer.down() {
                    self.scroll(-1);
                }
            }
            _ => {
                let fits = self.composer.key(key);
                self.notice = (!fits).then(|| "the message has its maximum length".to_owned());
            }
        }
    }

    fn type_text(&mut self, text: &str) {
        self.composer.insert(text);
    }

    /// Sends the text of the composer.
    fn submit(&mut self) {
        if self.composer.text().trim().is_empty() {
            return;
        }
        let Some(open) = &mut self.open else {
            self.notice = Some("choose a recipient first: Ctrl+T".to_owned());
            return;
        };
        open.rows_below = 0;
        let to = open.to.clone();
        let (id, body) = (self.request_id(), self.composer.take());
        let out =
            Outgoing { id, to: to.clone(), body: body.clone(), stage: Stage::Sending, seen: false, on_disk: true };
        self.outgoing.push(out);
        self.effects.push(Effect::Send { id, to, body });
    }

    /// Sends the first failed message of the open conversation again, under a new request id.
    fn renew(&mut self) {
        let Some(at) = self.first_failed() else { return };
        let fresh = self.request_id();
        let out = &mut self.outgoing[at];
        let id = std::mem::replace(&mut out.id, fresh);
        (out.stage, out.seen) = (Stage::Sending, false);
        let effect = if std::mem::replace(&mut out.on_disk, true) {
            Effect::Renew { id, fresh }
        } else {
            Effect::Send { id: fresh, to: out.to.clone(), body: out.body.clone() }
        };
        self.effects.push(effect);
    }

    /// Drops the first failed message of the open conversation. Its text returns to the composer if that is empty.
    fn drop_failed(&mut self) {
        let Some(at) = self.first_failed() else { return };
        let out = self.outgoing.remove(at);
        if self.composer.is_empty() {
            self.composer.put(out.body);
        }
        self.effects.push(Effect::Drop { id: out.id });
    }

    /// The first failed message of the open conversation.
    fn first_failed(&mut self) -> Option<usize> {
        let at = self.outgoing.iter().position(|out| out.stage.needs_decision() && self.is_here(out));
        if at.is_none() {
            self.notice = Some("no message in this conversation has failed".to_owned());
        }
        at
    }

    /// Asks for the names that begin with `prefix`.
    fn complete(&mut self, prefix: String) {
        if prefix.is_empty() || Username::new(&prefix).is_err() {
            self.notice = Some("type the beginning of a name, then press Tab".to_owned());
        } else {
            self.effects.push(Effect::Complete { prefix });
        }
    }

    /// Takes the names that begin with `prefix`. Ignored if the person has typed on meanwhile.
    pub(super) fn completed(&mut self, prefix: &str, found: Vec<String>) {
        if let Mode::GoTo { words, names, picked } = &mut self.mode {
            if words.text().trim_start_matches('@').eq_ignore_ascii_case(prefix) {
                (*names, *picked) = (found, 0);
            }
            return;
        }
        let word = self.composer.word();
        let at = if word.starts_with('@') { "@" } else { "" };
        if !word.trim_start_matches('@').eq_ignore_ascii_case(prefix) {
            return;
        }
        match &found[..] {
            [] => self.notice = Some(format!("no user's name begins with {prefix}")),
            [name] => self.composer.replace_word(&format!("{at}{name} ")),
            [first, ..] => {
                let common = found.iter().fold(first.len(), |common, name| common.min(shared(first, name)));
                self.composer.replace_word(&format!("{at}{}", &first[..common]));
                self.notice = Some(found.iter().take(CHOICES).cloned().collect::<Vec<_>>().join("  "));
            }
        }
    }

    /// Opens the next or previous conversation of the list, around its ends.
    fn step(&mut self, by: isize) {
        let here =
            self.chats.iter().position(|chat| self.open.as_ref().is_some_and(|open| open.is(&chat.conversation_id)));
        let count = isize::try_from(self.chats.len()).unwrap_or(0);
        if count == 0 {
            return;
        }
        let next = here.map_or(0, |here| (isize::try_from(here).unwrap_or(0) + by).rem_euclid(count));
        let chat = self.chats[usize::try_from(next).unwrap_or(0)].clone();
        self.open_chat(&chat);
    }

    fn go_to(&mut self) {
        self.mode = Mode::GoTo { words: Composer::default(), names: Vec::new(), picked: 0 };
    }

    fn go_to_key(&mut self, key: KeyEvent) {
        let choices = self.choices();
        let Mode::GoTo { words, names, picked } = &mut self.mode else { return };
        match key.code {
            KeyCode::Up => *picked = picked.saturating_sub(1),
            KeyCode::Down | KeyCode::Tab => *picked = (*picked + 1).min(choices.len().saturating_sub(1)),
            KeyCode::Enter => {
                let typed = words.text().trim().to_owned();
                let chosen = choices.into_iter().nth(*picked);
                self.go(chosen, &typed);
            }
            _ => {
                let before = words.text().to_owned();
                words.key(key);
                if *words.text() != before {
                    (*picked, *names) = (0, Vec::new());
                    let prefix = words.text().trim_start_matches('@').to_owned();
                    if Username::new(&prefix).is_ok() {
                        self.effects.push(Effect::Complete { prefix });
                    }
                }
            }
        }
    }

    /// Opens the choice, or what was typed if there is none.
    fn go(&mut self, chosen: Option<Choice>, typed: &str) {
        self.mode = Mode::Compose;
        match chosen {
            Some(Choice::Chat(chat)) => self.open_chat(&chat),
            Some(Choice::User(name)) => self.open_with(Recipient::Username(name), None),
            // Without a connection there are no choices, so the typed name is used as it is.
            None => match (typed.parse::<ConversationId>(), Username::new(typed.trim_start_matches('@'))) {
                (Ok(id), _) => self.open_with(Recipient::Conversation(id), Some(id)),
                (_, Ok(name)) => self.open_with(Recipient::Username(name.to_string()), None),
                _ => self.notice = Some("no such conversation or user".to_owned()),
            },
        }
    }

    /// The choices of "go to": conversations whose names contain the typed text, then users whose names begin with it.
    pub(super) fn choices(&self) -> Vec<Choice> {
        let Mode::GoTo { words, names, .. } = &self.mode else { return Vec::new() };
        let words = words.text().to_lowercase();
        let holds = |chat: &&Conversation| rows::label(chat, &self.account).to_lowercase().contains(&words);
        let chats = self.chats.iter().filter(holds).cloned().map(Box::new).map(Choice::Chat);
        let is_listed = |name: &str| {
            let of =
                |chat: &Conversation| other(chat, &self.account).is_some_and(|other| other.eq_ignore_ascii_case(name));
            self.chats.iter().any(|chat| chat.direct && of(chat))
        };
        let users = names.iter().filter(|name| !is_listed(name)).cloned().map(Choice::User);
        chats.chain(users).take(CHOICES).collect()
    }
}

/// A choice of "go to".
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Choice {
    Chat(Box<Conversation>),
    User(String),
}

/// The length of the common prefix of two names, regardless of case. Names are ASCII.
fn shared(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count()
}
