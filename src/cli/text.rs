//! Escapes text of others for a terminal, and wraps it.
//!
//! Names, titles and messages may hold escape sequences that move the cursor or set the clipboard, direction marks that
//! reorder text (Trojan Source, CVE-2021-42574), and characters that are invisible.
//!
//! # Guarantees
//! - No such character reaches the terminal: each is shown as an escape.
//! - No text can pass for a line of ours. Line ends are escaped or followed by an indent, a title with spaces is quoted,
//!   and on a terminal [`fold`] breaks long lines before the terminal would.
//!
//! JSON output escapes by itself (`output.rs`).

use std::borrow::Cow;

use unicode_width::UnicodeWidthStr;

use crate::types::{is_printable, printable};

/// The indent of continuation rows.
const INDENT: &str = "    ";

/// `text` on one line, with everything that is not [printable](is_printable) escaped, line ends included.
pub fn line(text: &str) -> Cow<'_, str> {
    clean(text, |_| false)
}

/// Like [`line()`], but keeps line ends and tabs.
pub fn block(text: &str) -> Cow<'_, str> {
    clean(text, |c| c == '\n' || c == '\t')
}

/// A room's title as one word: `#ops`, or quoted as in `#"on call"` if its end would not be plain to see.
pub fn title(title: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !title.is_empty() && title.chars().all(is_word) {
        return format!("#{title}");
    }
    let quoted = title.replace('\\', r"\\").replace('"', r#"\""#);
    format!("#\"{}\"", line(&quoted))
}

/// Breaks the lines of `text` into rows of at most `columns`, with continuation rows indented.
pub fn fold(text: &str, columns: usize) -> String {
    let rest = columns.saturating_sub(INDENT.len());
    let folded = text.split('\n').map(|line| wrap(line, columns, rest).join(&format!("\n{INDENT}")));
    folded.collect::<Vec<_>>().join("\n")
}

/// Breaks `body` into rows, between words if possible. The first row has `first` columns, the others `rest`.
pub fn wrap(body: &str, first: usize, rest: usize) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    for line in body.split('\n') {
        let mut row = String::new();
        for word in line.split_inclusive(' ') {
            let room = |rows: &Vec<String>| if rows.is_empty() { first } else { rest };
            if width(&row) + width(word.trim_end()) > room(&rows) && !row.is_empty() {
                rows.push(std::mem::take(&mut row));
            }
            // A word that is wider than a row is broken anywhere.
            for c in word.chars() {
                let wider = width(c.encode_utf8(&mut [0; 4]));
                let is_full = width(&row) + wider > room(&rows);
                match (is_full, c) {
                    // A space at the end of a row is invisible, so it may be dropped.
                    (true, ' ') => {}
                    (true, _) if !row.is_empty() => {
                        rows.push(std::mem::take(&mut row));
                        row.push(c);
                    }
                    _ => row.push(c),
                }
            }
        }
        rows.push(row);
    }
    rows
}

/// The width of `text` in terminal columns.
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// Escapes everything unprintable except the characters to `keep`. Borrows if there is nothing to escape.
fn clean(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    if is_printable(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for (c, printable) in printable(text) {
        match c {
            _ if printable || keep(c) => out.push(c),
            '\n' => out.push_str(r"\n"),
            '\t' => out.push_str(r"\t"),
            '\r' => out.push_str(r"\r"),
            _ if c.is_ascii() => out.push_str(&format!(r"\x{:02x}", c as u32)),
            _ => out.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(out)
}

/// Hostile text for tests.
#[cfg(test)]
pub(crate) mod testing {
    /// Sets the clipboard, the title and a link; clears and moves; has every kind of line end; hides and reverses text.
    pub(crate) const EVIL: &str = "a\u{1b}]52;c;eA==\u{7}\u{1b}]8;;u\u{1b}\\\u{1b}[2J\u{1b}[31337z\u{9b}1z\u{9d}0;x\u{9c}\u{8}\u{7f}\
        \u{202e}b\u{2066}c\u{200b}\u{feff}\u{e0041}d\rFORGED\nFORGED\u{b}FORGED\u{85}FORGED\u{2028}FORGED";

    /// Panics if one of these texts drives a terminal or has a forged line.
    #[track_caller]
    pub(crate) fn assert_harmless(what: &dyn std::fmt::Debug, texts: &[&str]) {
        const RAW: &str = "\u{202e}\u{2066}\u{200b}\u{feff}\u{e0041}\u{2028}";
        for text in texts {
            let raw = text.chars().find(|c| (c.is_control() && *c != '\n') || RAW.contains(*c));
            assert_eq!(raw, None, "{what:?} printed it raw: {text:?}");
            assert!(!text.lines().any(|line| line.starts_with("FORGED")), "{what:?} printed a forged line:\n{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in ["", "hello", "Über uns ☕ 日本語", "👩‍👩‍👧"] {
            assert_eq!(line(text), text);
            assert_eq!(block(text), text);
        }
    }

    #[test]
    fn escape_sequences_and_direction_marks_are_shown_not_sent() {
        assert_eq!(line("\u{1b}]0;title\u{7}"), r"\x1b]0;title\x07");
        assert_eq!(line("a\u{9b}2J"), r"a\u{9b}2J");
        assert_eq!(line("user\u{202e}nimda"), r"user\u{202e}nimda");
        assert_eq!(line("ad\u{200b}min"), r"ad\u{200b}min");
        assert_eq!(line("a\r\nb\tc\u{7f}"), r"a\r\nb\tc\x7f");
    }

    #[test]
    fn a_block_keeps_its_lines_and_nothing_else() {
        assert_eq!(block("a\n\tb\r\u{1b}[31m"), "a\n\tb\\r\\x1b[31m");
    }

    #[test]
    fn a_title_ends_where_it_seems_to() {
        assert_eq!(title("ops-2.Über"), "#ops-2.Über");
        assert_eq!(title("on call"), "#\"on call\"");
        assert_eq!(title("ops\" c1/9 \\\u{1b}"), r##"#"ops\" c1/9 \\\x1b""##);
        assert_eq!(title(""), "#\"\"");
    }

    #[test]
    fn rows_break_between_words_and_long_words_anywhere() {
        assert_eq!(wrap("the quick brown fox", 9, 10), ["the quick", "brown fox"].map(|row| row.to_owned()));
        assert_eq!(wrap("abcdefghij kl", 4, 6), ["abcd", "efghij", "kl"]);
        assert_eq!(wrap("one\n\ntwo", 9, 9), ["one", "", "two"]);
        assert_eq!(wrap("日本語", 4, 4), ["日本", "語"]);
        assert_eq!(wrap("", 5, 5), [""]);
    }

    #[test]
    fn no_row_is_wider_than_it_may_be() {
        let body = "a bb  ccc dddd\u{301} 👩‍👩‍👧 ☕☕☕☕ eeeeeeeeeeeeeeeeeeee \u{200b}x";
        for columns in 2..30 {
            for row in wrap(body, columns, columns) {
                assert!(width(row.trim_end()) <= columns, "{row:?} in {columns} columns");
            }
        }
    }

    #[test]
    fn folded_text_begins_at_the_left_only_once() {
        assert_eq!(fold("c1/2 alice: one two\n  next", 12), "c1/2 alice: \n    one two\n  next");
        let forged = format!("c1/2 alice: {:30}c1/3 bob: yes", "");
        assert!(fold(&forged, 20).lines().skip(1).all(|row| row.starts_with(INDENT)));
        assert_eq!(fold("short", 80), "short");
    }
}
