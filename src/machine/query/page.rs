//! Pages of a listing: how large, and where the next one begins.
//!
//! A page token is text that needs no escaping anywhere: a version digit, the letter of the listing, and the position
//! of the last row seen, in hex. `1m0000000000700003` goes on after cursor 0x700003 in the listing of all messages.
//! Tokens are opaque to callers, and checked when they come back: a token of another listing is refused.

use crate::{
    machine::core::error::{Refusal, Result, invalid},
    types::limits,
};

const VERSION: &str = "1";

/// The most rows read for one page. A page of a sparse listing ends early instead of searching on.
pub(super) const ROWS_SCANNED: usize = 10_000;

/// What a page under construction may still hold and read.
pub(super) struct PageBudget {
    rows: usize,
    bytes: usize,
    scans: usize,
}

impl PageBudget {
    /// A page of `page_size` rows: 0 means the default, more than the maximum means the maximum.
    pub(super) fn new(page_size: i32) -> Result<Self> {
        let rows = match usize::try_from(page_size) {
            Ok(0) => limits::PAGE_SIZE_DEFAULT,
            Ok(rows) => rows.min(limits::PAGE_SIZE),
            Err(_) => return invalid("page_size", format!("page_size must not be negative, {page_size} is")),
        };
        Ok(Self { rows, bytes: limits::PAGE_BYTES, scans: ROWS_SCANNED })
    }

    /// Takes the reading of one more row. Returns whether the budget allows it.
    pub(super) fn take_scan(&mut self) -> bool {
        let fits = self.rows > 0 && self.scans > 0;
        self.scans = self.scans.saturating_sub(1);
        fits
    }

    /// Takes a row of `bytes` bytes. Returns whether it fits; the first row always does.
    pub(super) fn take_row(&mut self, bytes: usize) -> bool {
        let first = self.bytes == limits::PAGE_BYTES;
        if self.rows == 0 || (bytes > self.bytes && !first) {
            return false;
        }
        self.rows -= 1;
        self.bytes = self.bytes.saturating_sub(bytes.max(1));
        true
    }

    /// Takes bytes for something that comes with the rows and counts as none. Returns whether it fits.
    pub(super) fn take_extra(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.bytes;
        self.bytes = self.bytes.saturating_sub(bytes.max(1));
        fits
    }
}

/// The token that goes on after `position` in the listing `letter`.
pub(super) fn token(letter: char, position: &[u8]) -> String {
    let hex: String = position.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{VERSION}{letter}{hex}")
}

/// Reads a token of the listing `letter`; `None` for the first page.
pub(super) fn position(letter: char, token: &str) -> Result<Option<Vec<u8>>> {
    if token.is_empty() {
        return Ok(None);
    }
    let parsed = (token.len() <= limits::PAGE_TOKEN_BYTES && token.is_ascii())
        .then_some(token)
        .and_then(|token| token.strip_prefix(VERSION)?.strip_prefix(letter))
        .and_then(unhex);
    parsed.map(Some).ok_or_else(|| foreign_token().into())
}

/// Reads a token whose position is one number.
pub(super) fn number(letter: char, token: &str) -> Result<Option<u64>> {
    let Some(position) = position(letter, token)? else { return Ok(None) };
    let bytes = position.try_into().map_err(|_| foreign_token())?;
    Ok(Some(u64::from_be_bytes(bytes)))
}

fn foreign_token() -> Refusal {
    Refusal::invalid("page_token", "page_token is not one that this listing gave out; begin again without one")
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |at: usize| char::from(*text.as_bytes().get(at)?).to_digit(16);
    (0..text.len()).step_by(2).map(|at| u8::try_from(digit(at)? * 16 + digit(at + 1)?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::QueryError;

    #[test]
    fn tokens_come_back_and_foreign_ones_are_refused() {
        assert_eq!(position('a', &token('a', b"alice")).unwrap(), Some(b"alice".to_vec()));
        assert_eq!(number('m', &token('m', &7u64.to_be_bytes())).unwrap(), Some(7));
        let long = format!("1a{}", "00".repeat(limits::PAGE_TOKEN_BYTES));
        for bad in ["x", "1b00", "2a00", "1a0", "1a0g", "1aé0", "1a+1", &long] {
            let field = match position('a', bad) {
                Err(QueryError::Refused(refusal)) => refusal.field,
                other => panic!("{bad:?}: {other:?}"),
            };
            assert_eq!(field, Some("page_token"), "{bad:?} is no token");
        }
        assert!(number('m', "1m00").is_err());
    }

    #[test]
    fn a_page_has_bounds_in_rows_and_bytes_but_room_for_one_row() {
        let mut page = PageBudget::new(2).unwrap();
        assert!(page.take_row(limits::PAGE_BYTES * 2));
        assert!(!page.take_row(1));
        let mut page = PageBudget::new(i32::MAX).unwrap();
        assert_eq!((0..1_000).filter(|_| page.take_row(0)).count(), limits::PAGE_SIZE);
        let mut page = PageBudget::new(0).unwrap();
        assert_eq!((0..1_000).filter(|_| page.take_row(0)).count(), limits::PAGE_SIZE_DEFAULT);
        assert!(PageBudget::new(-1).is_err());
    }
}
