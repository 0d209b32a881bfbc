//! Printable characters: those that a terminal shows as themselves and in their place.
//!
//! The others are dangerous in text from strangers. Control characters drive the terminal, direction marks make text
//! read as something else, and invisible characters make two names look equal. Names must not contain them. In messages
//! they are allowed, and shown as escapes.

/// Whether all of `text` is printable.
pub fn is_printable(text: &str) -> bool {
    printable(text).all(|(_, printable)| printable)
}

/// The characters of `text`, each with whether it is printable in its place.
pub fn printable(text: &str) -> impl Iterator<Item = (char, bool)> {
    let mut before = None;
    let mut rest = text.chars().peekable();
    std::iter::from_fn(move || {
        let c = rest.next()?;
        let printable = match is_joiner(c) {
            true => is_joined(before) && is_joined(rest.peek().copied()),
            false => shows(c),
        };
        before = Some(c);
        Some((c, printable))
    })
}

/// Zero-width joiner and non-joiner. Emoji families and words in Persian and Hindi need them.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Whether a joiner next to `c` can change how text looks. Next to ASCII it would only make two names look equal.
fn is_joined(c: Option<char>) -> bool {
    c.is_some_and(|c| !c.is_ascii() && !is_joiner(c) && shows(c))
}

/// Whether a character is visible and moves nothing but the cursor forward.
fn shows(c: char) -> bool {
    // Line and paragraph separators, marks, embeddings, overrides and isolates: Unicode Standard Annex 9, section 2.
    let directs = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    // Default_Ignorable_Code_Point and the interlinear marks, but not the joiners, nor the variation selectors, which
    // follow a visible character.
    let is_invisible = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}' | '\u{200b}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e00ff}');
    !c.is_control() && !directs && !is_invisible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_printable() {
        for text in ["", "hello", "Über uns ☕ 日本語", "👩‍👩‍👧", "❤️‍🔥", "می‌خواهم", "क्‍ष", "שלום", "葛\u{e0100}"]
        {
            assert!(is_printable(text), "{text:?}");
        }
    }

    #[test]
    fn what_drives_misleads_or_hides_is_not() {
        for text in [
            "\u{1b}[2J",
            "a\nb",
            "\u{7}",
            "\u{7f}",
            "\u{9b}2J",
            "\u{85}",
            "\u{202e}nimda",
            "\u{2066}x",
            "\u{200e}",
            "\u{2028}",
            "ad\u{200b}min",
            "ad\u{200d}min",
            "é\u{200d}a",
            "日\u{200c}\u{200c}本",
            "\u{200d}",
            "\u{feff}x",
            "\u{ad}",
            "\u{2060}",
            "\u{3164}",
            "a\u{e0041}",
            "\u{fffb}",
        ] {
            assert!(!is_printable(text), "{text:?}");
        }
    }
}
