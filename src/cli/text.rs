//! Text from others, made harmless for a terminal.
//!
//! Names and messages may hold escape sequences that move the cursor, set the window's title or worse, and
//! direction marks that make text read as something else. They are shown as escapes, never sent raw.

use std::borrow::Cow;

use unicode_width::UnicodeWidthStr;

/// `text` on one line: control characters, line ends and direction marks appear as escapes.
pub fn line(text: &str) -> Cow<'_, str> {
    clean(text, |_| false)
}

/// `text` with its line ends and tabs kept, everything else as in [`line()`].
pub fn block(text: &str) -> Cow<'_, str> {
    clean(text, |c| c == '\n' || c == '\t')
}

/// Terminal columns that `text` takes.
pub fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// Whether a terminal would act on `c`, or show the text around it in another order.
fn is_harmful(c: char) -> bool {
    // Line and paragraph separators, embeddings, overrides and isolates: Unicode Standard Annex 9, section 2.
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn clean(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let harmful = |c: char| is_harmful(c) && !keep(c);
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            _ if !harmful(c) => out.push(c),
            '\n' => out.push_str(r"\n"),
            '\t' => out.push_str(r"\t"),
            '\r' => out.push_str(r"\r"),
            _ if c.is_ascii() => out.push_str(&format!(r"\x{:02x}", c as u32)),
            _ => out.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(out)
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
        assert_eq!(line("a\r\nb\tc\u{7f}"), r"a\r\nb\tc\x7f");
    }

    #[test]
    fn a_block_keeps_its_lines_and_nothing_else() {
        assert_eq!(block("a\n\tb\r\u{1b}[31m"), "a\n\tb\\r\\x1b[31m");
    }
}
