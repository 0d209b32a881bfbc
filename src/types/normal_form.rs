//! One form for text that looks the same.

use unicode_normalization::UnicodeNormalization;

/// The text in Unicode's normal form C: `é` is one character, whether the keyboard made it one or two.
///
/// Text that people type again to name a thing is compared in this form. It must never be applied to a command that is in
/// the log: see docs/adr/0060.
pub fn normal_form(text: &str) -> String {
    text.nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_composed_and_a_decomposed_letter_have_one_form() {
        assert_eq!(normal_form("cafe\u{301}"), "caf\u{e9}");
        assert_eq!(normal_form("caf\u{e9}"), "caf\u{e9}");
        assert_eq!(normal_form("\u{1100}\u{1161}"), "\u{ac00}", "Korean");
        assert_eq!(normal_form("\u{fb01}"), "\u{fb01}", "a ligature stays: it looks different");
    }
}
