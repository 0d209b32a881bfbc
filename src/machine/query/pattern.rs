//! Patterns of names: `*` stands for any text, `?` for one character.

/// A pattern in lower case, like the names it is compared with.
pub(super) struct Pattern(Vec<u8>);

impl Pattern {
    /// Reads a pattern; an empty one matches everything.
    pub(super) fn new(text: &str) -> Self {
        let text = if text.is_empty() { "*" } else { text };
        Self(text.to_ascii_lowercase().into_bytes())
    }

    /// The beginning that every match shares.
    pub(super) fn prefix(&self) -> &[u8] {
        let end = self.0.iter().position(|byte| matches!(byte, b'*' | b'?')).unwrap_or(self.0.len());
        &self.0[..end]
    }

    /// Whether a name in lower case matches. It backtracks to the last `*` only, so the time is at most the length of
    /// the pattern times the length of the name.
    pub(super) fn matches(&self, name: &[u8]) -> bool {
        let pattern = &self.0;
        let (mut at, mut from) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while from < name.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    star = Some((at, from));
                    at += 1;
                }
                Some(byte) if *byte == b'?' || *byte == name[from] => {
                    at += 1;
                    from += 1;
                }
                _ => {
                    let Some((star_at, star_from)) = star else { return false };
                    star = Some((star_at, star_from + 1));
                    at = star_at + 1;
                    from = star_from + 1;
                }
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_as_in_a_shell() {
        let matches = |pattern: &str, name: &str| Pattern::new(pattern).matches(name.as_bytes());
        for (pattern, name) in [
            ("", "x"),
            ("*", ""),
            ("a*", "alice"),
            ("*e", "alice"),
            ("A?ice", "alice"),
            ("*l*c*", "alice"),
            ("**", "a"),
        ] {
            assert!(matches(pattern, name), "{pattern} matches {name}");
        }
        for (pattern, name) in [("a", "alice"), ("?", ""), ("*x*", "alice"), ("alice?", "alice"), ("b*", "alice")] {
            assert!(!matches(pattern, name), "{pattern} does not match {name}");
        }
        let evil = "*a".repeat(32);
        assert!(!matches(&evil, &"a".repeat(31)));
        assert_eq!(Pattern::new("al?c*").prefix(), b"al");
    }
}
