//! Names that people type.
//!
//! Usernames, node names and zones are plain ASCII, so that no two of them look alike. They are compared in lower case
//! and shown as first written. A value of these types has passed its check.

use std::fmt;

use super::{limits, normal_form::normal_form, printable::is_printable};

/// Text that is not a name of the expected kind. The message states the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(pub String);

fn check_ascii(what: &str, text: &str, max: usize) -> Result<(), InvalidName> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let first_fits = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !first_fits || text.len() > max || !text.bytes().all(allowed) {
        return Err(InvalidName(format!(
            "{what} must be 1 to {max} of the characters a-z, A-Z, 0-9, '.', '_' and '-', beginning with a letter or digit"
        )));
    }
    Ok(())
}

macro_rules! ascii_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks `text` against the rule.
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                check_ascii($what, text, $max)?;
                Ok(Self(text.to_owned()))
            }

            /// As written.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// In lower case, the form that is compared.
            pub fn folded(&self) -> String {
                self.0.to_ascii_lowercase()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

ascii_name!(
    /// The name of an account.
    ///
    /// ```
    /// use quorate::types::Username;
    ///
    /// let name = Username::new("Alice")?;
    /// assert_eq!((name.as_str(), name.folded().as_str()), ("Alice", "alice"));
    /// assert!(Username::new("no spaces").is_err());
    /// # Ok::<(), quorate::types::InvalidName>(())
    /// ```
    Username, "a username", limits::USERNAME_BYTES
);
ascii_name!(
    /// The name of a replica, unique in its cluster.
    NodeName, "a node name", limits::NODE_NAME_BYTES
);
ascii_name!(
    /// A failure domain: a machine, a rack, a site.
    Zone, "a zone", limits::NODE_NAME_BYTES
);

/// The title of a room: any printable text, shown as written.
///
/// ```
/// use quorate::types::RoomTitle;
///
/// assert!(RoomTitle::new("Über uns ☕").is_ok());
/// assert!(RoomTitle::new("a\u{1b}[31m").is_err(), "an escape sequence");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomTitle(String);

impl RoomTitle {
    /// Checks `text`: 1 to 64 bytes, all printable, no white space at its ends.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let fits = !text.is_empty() && text.len() <= limits::ROOM_TITLE_BYTES;
        if !fits || text.trim() != text || !is_printable(text) {
            return Err(InvalidName(format!(
                "a room's title must be 1 to {} bytes of printable text without spaces at its ends",
                limits::ROOM_TITLE_BYTES
            )));
        }
        Ok(Self(text.to_owned()))
    }

    /// Checks the normal form of `text`, so that a title typed on another keyboard is the same title.
    ///
    /// For text on its way into the log or into a comparison. The state machine uses [`RoomTitle::new`]: it applies old
    /// entries as they were applied before (P8).
    pub fn normalised(text: &str) -> Result<Self, InvalidName> {
        Self::new(&normal_form(text))
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_are_plain_ascii_and_fold_to_lower_case() {
        assert_eq!(Username::new("Alice.B-1_x").map(|name| name.folded()), Ok("alice.b-1_x".to_owned()));
        let long = "a".repeat(limits::USERNAME_BYTES + 1);
        for bad in ["", "-a", ".", "a b", "аlice", "a\n", "a/b", &long] {
            assert!(Username::new(bad).is_err(), "{bad:?} is no username");
        }
    }

    #[test]
    fn a_title_has_one_normal_form_and_is_left_alone_where_the_log_has_it() {
        let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
        assert_eq!(RoomTitle::normalised(decomposed), RoomTitle::new(composed));
        assert_eq!(RoomTitle::new(decomposed).map(|title| title.as_str().to_owned()), Ok(decomposed.to_owned()));
        assert!(RoomTitle::normalised(&"e\u{301}".repeat(32)).is_ok(), "the limit counts the normal form");
    }

    #[test]
    fn room_titles_may_be_any_printable_text() {
        assert!(RoomTitle::new("Über uns ☕").is_ok());
        for bad in ["", " a", "a ", "a\u{1b}[31m", "a\nb", "a\u{202e}b", "a\u{200b}b", &"é".repeat(33)] {
            assert!(RoomTitle::new(bad).is_err(), "{bad:?} is no title");
        }
    }
}
