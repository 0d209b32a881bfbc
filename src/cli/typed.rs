//! Text from files and pipes, as people make it: with byte order marks and the line ends of other systems.

use super::{Exit, Failure, Result};

/// The bytes of `source` as text, without a byte order mark.
///
/// # Errors
/// If they are not UTF-8. UTF-16 is named, because editors write it without telling.
pub(super) fn decode(bytes: &[u8], source: &str) -> Result<String> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Failure::new(Exit::Failure, format!("{source} is UTF-16 text")).next("save it as UTF-8"));
    }
    let bytes = without_mark(bytes);
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|_| Failure::new(Exit::Failure, format!("{source} is not UTF-8 text")))
}

/// The bytes without the byte order mark of UTF-8.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes)
}

/// The text with `\n` at the ends of its lines, where Windows writes `\r\n`.
pub(super) fn unix_lines(text: &str) -> String {
    text.replace("\r\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text_and_utf_16_is_named() {
        assert_eq!(decode("\u{feff}caf\u{e9}".as_bytes(), "it").unwrap(), "caf\u{e9}");
        assert_eq!(decode(b"", "it").unwrap(), "");
        for utf_16 in [b"\xff\xfea\0", b"\xfe\xff\0a"] {
            let failure = decode(utf_16, "the file").unwrap_err();
            assert_eq!(failure.message, "the file is UTF-16 text");
            assert!(failure.next.is_some());
        }
        assert_eq!(decode(b"\xe9", "the file").unwrap_err().message, "the file is not UTF-8 text");
    }
}
