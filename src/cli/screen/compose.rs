//! A text field of several lines, with the usual editing keys.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::types::limits;

/// A text and the insertion point in it.
///
/// # Invariants
/// - `at` is a character boundary of `text`, at most its length.
/// - `text` is at most [`limits::BODY_BYTES`] long if it was typed or pasted, and its only control characters are line
///   ends and tabs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Composer {
    text: String,
    /// The insertion point, in bytes.
    at: usize,
}

impl Composer {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The text before the insertion point.
    pub(super) fn before(&self) -> &str {
        &self.text[..self.at]
    }

    /// The text after the insertion point.
    pub(super) fn after(&self) -> &str {
        &self.text[self.at..]
    }

    /// Empties the field and returns its text.
    pub(super) fn take(&mut self) -> String {
        self.at = 0;
        std::mem::take(&mut self.text)
    }

    /// Replaces the text; the insertion point goes to its end.
    pub(super) fn put(&mut self, text: impl Into<String>) {
        self.text = text.into();
        self.at = self.text.len();
    }

    /// Inserts text up to the maximum length of a message. Returns whether all of it fitted.
    pub(super) fn insert(&mut self, text: &str) -> bool {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let text: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
        let room = limits::BODY_BYTES.saturating_sub(self.text.len());
        let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
        let fits = ends.take_while(|end| *end <= room).last().unwrap_or(0);
        self.text.insert_str(self.at, &text[..fits]);
        self.at += fits;
        fits == text.len()
    }

    /// Handles an editing key (Emacs style, as in shells) or a character. Returns false if the character did not fit.
    pub(super) fn key(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('w') if control => self.erase_word(),
            KeyCode::Char('u') if control => self.erase_line(),
            KeyCode::Char('a') if control => self.home(),
            KeyCode::Char('e') if control => self.end(),
            KeyCode::Char('h') if control => self.backspace(),
            KeyCode::Char(_) if control => {}
            KeyCode::Char(c) => return self.insert(c.encode_utf8(&mut [0; 4])),
            KeyCode::Backspace => self.backspace(),
            KeyCode::Delete => self.delete(),
            KeyCode::Left => self.left(),
            KeyCode::Right => self.right(),
            KeyCode::Home => self.home(),
            KeyCode::End => self.end(),
            _ => {}
        }
        true
    }

    fn backspace(&mut self) {
        if let Some(last) = self.before().chars().next_back() {
            self.at -= last.len_utf8();
            self.text.remove(self.at);
        }
    }

    fn delete(&mut self) {
        if self.at < self.text.len() {
            self.text.remove(self.at);
        }
    }

    /// Erases the word before the insertion point.
    fn erase_word(&mut self) {
        let kept = self
            .before()
            .trim_end()
            .rfind(char::is_whitespace)
            .map_or(0, |space| space + self.text[space..].chars().next().map_or(0, char::len_utf8));
        self.text.replace_range(kept..self.at, "");
        self.at = kept;
    }

    /// Erases the line up to the insertion point.
    fn erase_line(&mut self) {
        let start = self.line_start();
        self.text.replace_range(start..self.at, "");
        self.at = start;
    }

    fn left(&mut self) {
        self.at -= self.before().chars().next_back().map_or(0, char::len_utf8);
    }

    fn right(&mut self) {
        self.at += self.after().chars().next().map_or(0, char::len_utf8);
    }

    fn home(&mut self) {
        self.at = self.line_start();
    }

    fn end(&mut self) {
        self.at += self.after().find('\n').unwrap_or(self.after().len());
    }

    /// Goes up one line. Returns false on the first line.
    pub(super) fn up(&mut self) -> bool {
        let start = self.line_start();
        let column = self.text[start..self.at].chars().count();
        let Some(above) = start.checked_sub(1) else { return false };
        self.at = self.text[..above].rfind('\n').map_or(0, |end| end + 1);
        self.forward_within_line(column);
        true
    }

    /// Goes down one line. Returns false on the last line.
    pub(super) fn down(&mut self) -> bool {
        let column = self.text[self.line_start()..self.at].chars().count();
        let Some(end) = self.after().find('\n') else { return false };
        self.at += end + 1;
        self.forward_within_line(column);
        true
    }

    /// The word that ends at the insertion point, for completion.
    pub(super) fn word(&self) -> &str {
        let start = self.before().rfind(char::is_whitespace);
        self.before()[start.unwrap_or(0)..].trim_start()
    }

    /// Replaces [`Composer::word`] by `word`.
    pub(super) fn replace_word(&mut self, word: &str) {
        let start = self.at - self.word().len();
        self.text.replace_range(start..self.at, "");
        self.at = start;
        self.insert(word);
    }

    fn line_start(&self) -> usize {
        self.before().rfind('\n').map_or(0, |end| end + 1)
    }

    fn forward_within_line(&mut self, columns: usize) {
        let line = self.after().split('\n').next().unwrap_or_default();
        self.at += line.chars().take(columns).map(char::len_utf8).sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composer(before: &str, after: &str) -> Composer {
        Composer { text: format!("{before}{after}"), at: before.len() }
    }

    #[test]
    fn typing_erasing_and_moving_keep_to_whole_characters() {
        let mut composer = Composer::default();
        composer.insert("Über ☕");
        composer.left();
        composer.backspace();
        composer.insert("-\u{1b}");
        assert_eq!((composer.before(), composer.after()), ("Über-", "☕"));
        composer.delete();
        composer.delete();
        composer.home();
        composer.right();
        assert_eq!((composer.before(), composer.after()), ("Ü", "ber-"));
    }

    #[test]
    fn up_and_down_keep_the_column_as_far_as_lines_are_long() {
        let mut composer = composer("one\nt\nthr", "ee");
        assert!(composer.up());
        assert_eq!(composer.before(), "one\nt");
        assert!(composer.up());
        assert_eq!(composer.before(), "o");
        assert!(!composer.up());
        assert!(composer.down() && composer.down() && !composer.down());
        assert_eq!(composer.before(), "one\nt\nt");
    }

    #[test]
    fn words_and_lines_are_erased_and_replaced() {
        let mut composer = composer("hello\nthe bo", "!");
        assert_eq!(composer.word(), "bo");
        composer.replace_word("bob ");
        assert_eq!(composer.text(), "hello\nthe bob !");
        composer.erase_word();
        assert_eq!(composer.before(), "hello\nthe ");
        composer.erase_line();
        assert_eq!(composer.text(), "hello\n!");
    }

    #[test]
    fn a_text_never_exceeds_what_a_message_may_hold() {
        let mut composer = Composer::default();
        assert!(!composer.insert(&"é".repeat(limits::BODY_BYTES)));
        assert_eq!(composer.text().len(), limits::BODY_BYTES);
        assert_eq!(Composer::default().text(), "");
    }
}
