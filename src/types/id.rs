//! Identifiers.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// A node's id. The log allocates ids from 1 upwards and never gives one out twice. On the wire 0 means "none".
pub type NodeId = u64;

/// Text that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {form}")]
pub struct InvalidId {
    /// Which id was expected.
    pub what: &'static str,
    /// What such an id looks like.
    pub form: &'static str,
}

/// An account's id. It is never used twice, so a deleted account is never mistaken for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u64);

/// A conversation's id. In text it is `c` and a number, such as `c42`.
///
/// ```
/// use quorate::types::ConversationId;
///
/// assert_eq!("c42".parse(), Ok(ConversationId(42)));
/// assert_eq!(ConversationId(42).to_string(), "c42");
/// assert!("42".parse::<ConversationId>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId(pub u64);

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

impl FromStr for ConversationId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let error = InvalidId { what: "conversation_id", form: "a `c` and a number from 1, such as c42" };
        match text.strip_prefix('c').map(str::parse) {
            Some(Ok(number)) if number > 0 && !text.starts_with("c+") => Ok(Self(number)),
            _ => Err(error),
        }
    }
}

/// The position of an event in the log: the log index in the upper 44 bits, the event's number within that entry in the
/// lower 20.
///
/// An event has the same cursor on every node, and cursors strictly increase. So a subscription resumes from a cursor
/// on any node. Clients treat it as opaque.
///
/// ```
/// use quorate::types::Cursor;
///
/// assert!(Cursor::new(7, 1) > Cursor::new(7, 0));
/// assert!(Cursor::new(8, 0) > Cursor::end_of(7));
/// assert_eq!(Cursor::new(7, 1).index(), 7);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cursor(pub u64);

impl Cursor {
    /// How many log entries there can be.
    pub const ENTRIES: u64 = 1 << 44;
    /// How many events one log entry can hold.
    pub const EVENTS_PER_ENTRY: u64 = 1 << 20;

    /// The cursor of event number `place`, counted from 0, of the log entry at `index`.
    ///
    /// # Panics
    /// When either is out of range, which the limits on batches and rooms rule out.
    pub fn new(index: u64, place: u64) -> Self {
        assert!(index < Self::ENTRIES && place < Self::EVENTS_PER_ENTRY, "cursor {index}/{place} out of range");
        Self(index << 20 | place)
    }

    /// The largest cursor that the entry at `index` can hold. It stands for everything up to and including that entry.
    pub fn end_of(index: u64) -> Self {
        Self::new(index, Self::EVENTS_PER_ENTRY - 1)
    }

    /// The log index of its entry.
    pub fn index(self) -> u64 {
        self.0 >> 20
    }
}

/// The id of one write: a UUIDv7 that the client mints (RFC 9562, section 5.7). All attempts at the write carry the
/// same id, so that it takes effect once.
///
/// ```
/// use quorate::types::RequestId;
///
/// let id = RequestId::new(1_700_000_000_000, [7; 10]);
/// assert_eq!(id.time_ms(), 1_700_000_000_000);
/// assert_eq!(id.to_string().parse(), Ok(id));
/// assert!("not a UUIDv7".parse::<RequestId>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Uuid);

impl RequestId {
    /// A new id for a write that begins at `now_ms` (Unix milliseconds). Uses 74 bits of `random`.
    pub fn new(now_ms: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(now_ms, &random).into_uuid())
    }

    /// When the client minted it, in Unix milliseconds.
    pub fn time_ms(self) -> u64 {
        self.0.as_u64_pair().0 >> 16
    }

    /// Its 16 bytes, which sort by time.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Reads 16 bytes back.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidId> {
        Uuid::from_slice(bytes).ok().and_then(Self::checked).ok_or(Self::INVALID)
    }

    const INVALID: InvalidId = InvalidId { what: "request_id", form: "a UUIDv7 in text form" };

    fn checked(uuid: Uuid) -> Option<Self> {
        (uuid.get_version_num() == 7 && uuid.get_variant() == uuid::Variant::RFC4122).then_some(Self(uuid))
    }
}

impl FromStr for RequestId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::try_parse(text).ok().and_then(Self::checked).ok_or(Self::INVALID)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// The BLAKE3 hash of a session's bearer token. Nodes store the hash only, never the token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub [u8; 32]);

impl SessionKey {
    /// The key of a token.
    pub fn of_token(token: &str) -> Self {
        Self(*blake3::hash(token.as_bytes()).as_bytes())
    }

    /// Reads 32 bytes back.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The id under which listings show the session: the first 8 bytes, in hex.
    pub fn session_id(&self) -> String {
        self.0[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({})", self.session_id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversation_ids_round_trip_and_refuse_all_else() {
        assert_eq!("c42".parse(), Ok(ConversationId(42)));
        assert_eq!(ConversationId(7).to_string(), "c7");
        for bad in ["", "c", "c0", "42", "c-1", "c+1", "c99999999999999999999", "C1", " c1"] {
            assert!(bad.parse::<ConversationId>().is_err(), "{bad:?} is no conversation id");
        }
    }

    #[test]
    fn request_ids_are_version_7_and_carry_their_time() {
        let id = RequestId::new(1_700_000_000_123, [0xff; 10]);
        assert_eq!(id.time_ms(), 1_700_000_000_123);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(RequestId::from_bytes(id.as_bytes()), Ok(id));
        let version_4 = "9b2b3b6e-6b3e-4c59-8d3c-0a4d4d1c1d11";
        for bad in ["", "x", version_4] {
            assert!(bad.parse::<RequestId>().is_err(), "{bad:?} is no request id");
        }
    }

    #[test]
    fn cursors_order_by_index_then_place() {
        assert!(Cursor::new(1, 5) < Cursor::new(2, 0));
        assert!(Cursor::new(2, 0) < Cursor::new(2, 1));
        assert_eq!(Cursor::new(9, 3).index(), 9);
        assert!(Cursor::end_of(9) < Cursor::new(10, 0));
    }
}
