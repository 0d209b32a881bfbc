//! The layout of keys. No other file knows it.
//!
//! A key is the byte of its table followed by the parts of the table, without separators:
//!
//! ```text
//! byte 0      1                9                17               25
//! ┌───────┬────────────────┬────────────────┬────────────────┐
//! │ table │ part, u64 BE   │ part, u64 BE   │ part, u64 BE   │    read, hidden: account, conversation, seq
//! └───────┴────────────────┴────────────────┴────────────────┘
//!
//! 0c 000000000000002a 0000000000000007                             event 7 of conversation c42
//! 03 616c696365                                                    the name "alice"
//! ```
//!
//! - Numbers are 8 bytes, big-endian, so the order of bytes is the order of numbers.
//! - Session keys are 32 bytes and request ids 16 bytes, as they are. A request id is a UUIDv7 and sorts by the time at
//!   which it was minted.
//! - Every part except the last has a fixed length. So the keys of one id are one contiguous range, and no key of
//!   another id lies in it.
//! - Keys that begin with 0x00 belong to the consensus adapter (`src/raft`). Nothing here reads or writes them. No key
//!   begins with 0xff ([`kv::END`](crate::storage::kv::END)).
//!
//! A value is one protobuf message of `store.proto`; the storage puts a CRC-32 of key and value before it. Tables whose
//! value is `Present`, an empty message, say everything by their keys.
//!
//! | byte | table | parts of the key | value |
//! |------|-------|-----|-------|
//! | 0x01 | meta | none: one row | `Meta`: log time, the last ids given out, open chores |
//! | 0x02 | account | account | `AccountRecord`; a deleted account keeps its row |
//! | 0x03 | name | username in lower case | `AccountRef`; stays after a deletion, so no name is given out twice |
//! | 0x04 | session | session key | `SessionRecord` |
//! | 0x05 | session of account | account, created ms, session key | `Present`; oldest first |
//! | 0x06 | session by expiry | expires ms, session key | `Present`; pruned from the front |
//! | 0x07 | conversation | conversation | `ConversationRecord` |
//! | 0x08 | direct | lower account, higher account | `ConversationRef` |
//! | 0x09 | member | account, conversation | `MemberRecord` |
//! | 0x0a | member of | conversation, account | `MemberRef` |
//! | 0x0b | public room | conversation | `Present`; rooms that anyone can join |
//! | 0x0c | event | conversation, seq | `EventRecord`; the timeline |
//! | 0x0d | read | account, conversation, seq | `Present`; a message read beyond the read mark |
//! | 0x0e | hidden | account, conversation, seq | `Present`; a message deleted for this account alone |
//! | 0x0f | erased | conversation, seq | `Present`; a message deleted for everyone |
//! | 0x10 | account event | account, cursor | `AccountEvent`; an event that is in no timeline |
//! | 0x11 | sent | account, conversation | `SentRange`; where its messages lie in a conversation it left |
//! | 0x12 | chore | account | `Chore`; what remains to be done after its deletion |
//! | 0x13 | request | request id | `RequestRecord`; pruned from the front |
//! | 0x14 | blocked | account, account that it has blocked | `Present` |

use crate::types::{AccountId, ConversationId, Cursor, RequestId, SessionKey};

pub const ACCOUNT: u8 = 0x02;
pub const NAME: u8 = 0x03;
pub const SESSION: u8 = 0x04;
pub const SESSION_OF: u8 = 0x05;
pub const SESSION_EXPIRY: u8 = 0x06;
pub const CONVERSATION: u8 = 0x07;
pub const DIRECT: u8 = 0x08;
pub const MEMBER: u8 = 0x09;
pub const MEMBER_OF: u8 = 0x0a;
pub const PUBLIC: u8 = 0x0b;
pub const EVENT: u8 = 0x0c;
pub const READ: u8 = 0x0d;
pub const HIDDEN: u8 = 0x0e;
pub const ERASED: u8 = 0x0f;
pub const ACCOUNT_EVENT: u8 = 0x10;
pub const SENT: u8 = 0x11;
pub const CHORE: u8 = 0x12;
pub const REQUEST: u8 = 0x13;
pub const BLOCKED: u8 = 0x14;

/// The key of the only row of the table meta.
pub const META_KEY: [u8; 1] = [0x01];

/// A key, or the beginning of one.
#[derive(Clone)]
pub struct Key(Vec<u8>);

impl Key {
    fn table(table: u8) -> Self {
        // Enough for the longest key, 49 bytes: session of account.
        let mut bytes = Vec::with_capacity(49);
        bytes.push(table);
        Self(bytes)
    }

    fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

impl std::ops::Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// The keys from `start` up to, but without, `end`.
pub struct Span {
    pub start: Vec<u8>,
    pub end: Vec<u8>,
}

impl Span {
    /// Every key that begins with `prefix`. The end is the prefix with its last byte below 0xff raised by one.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                break;
            }
        }
        Self { start: prefix.to_vec(), end }
    }

    /// Every key from `start` on that begins with `prefix`.
    pub fn prefix_from(prefix: &[u8], start: &[u8]) -> Self {
        let whole = Self::prefix(prefix);
        Self { start: start.max(prefix).to_vec(), end: whole.end }
    }
}

/// Every row of a table.
pub fn all(table: u8) -> Span {
    Span::prefix(&[table])
}

/// Every row of a table whose first part is `id`.
pub fn all_of(table: u8, id: u64) -> Span {
    Span::prefix(&Key::table(table).number(id))
}

/// The rows whose first part is `id` and whose second part is at least `second`.
pub fn all_of_from(table: u8, id: u64, second: u64) -> Span {
    Span::prefix_from(&Key::table(table).number(id), &Key::table(table).number(id).number(second))
}

/// The rows of the tables read and hidden with `first <= seq <= last`.
pub fn seqs(table: u8, account: AccountId, conversation: ConversationId, first: u64, last: u64) -> Span {
    let prefix = Key::table(table).number(account.0).number(conversation.0);
    let end = Span::prefix(&prefix.clone().number(last)).end;
    Span { start: prefix.number(first).to_vec(), end }
}

/// The events of a timeline with `first <= seq <= last`.
pub fn events(conversation: ConversationId, first: u64, last: u64) -> Span {
    Span { start: event(conversation, first).to_vec(), end: Span::prefix(&event(conversation, last)).end }
}

/// The number that ends a key; 0 if the key is too short to hold one.
pub fn last_number(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The number that follows the table byte; 0 if the key is too short to hold one.
pub fn first_number(key: &[u8]) -> u64 {
    key.get(1..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The session key that ends a key.
pub fn session_key(key: &[u8]) -> SessionKey {
    SessionKey(key.last_chunk().copied().unwrap_or_default())
}

pub fn account(id: AccountId) -> Key {
    Key::table(ACCOUNT).number(id.0)
}

pub fn name(folded: &str) -> Key {
    Key::table(NAME).bytes(folded.as_bytes())
}

pub fn session(key: &SessionKey) -> Key {
    Key::table(SESSION).bytes(&key.0)
}

pub fn session_of(account: AccountId, created_ms: u64, key: &SessionKey) -> Key {
    Key::table(SESSION_OF).number(account.0).number(created_ms).bytes(&key.0)
}

pub fn session_expiry(expires_ms: u64, key: &SessionKey) -> Key {
    Key::table(SESSION_EXPIRY).number(expires_ms).bytes(&key.0)
}

pub fn conversation(id: ConversationId) -> Key {
    Key::table(CONVERSATION).number(id.0)
}

pub fn direct(one: AccountId, other: AccountId) -> Key {
    Key::table(DIRECT).number(one.0.min(other.0)).number(one.0.max(other.0))
}

pub fn member(account: AccountId, conversation: ConversationId) -> Key {
    Key::table(MEMBER).number(account.0).number(conversation.0)
}

pub fn member_of(conversation: ConversationId, account: AccountId) -> Key {
    Key::table(MEMBER_OF).number(conversation.0).number(account.0)
}

pub fn public(id: ConversationId) -> Key {
    Key::table(PUBLIC).number(id.0)
}

pub fn event(conversation: ConversationId, seq: u64) -> Key {
    Key::table(EVENT).number(conversation.0).number(seq)
}

pub fn read(account: AccountId, conversation: ConversationId, seq: u64) -> Key {
    Key::table(READ).number(account.0).number(conversation.0).number(seq)
}

pub fn hidden(account: AccountId, conversation: ConversationId, seq: u64) -> Key {
    Key::table(HIDDEN).number(account.0).number(conversation.0).number(seq)
}

pub fn erased(conversation: ConversationId, seq: u64) -> Key {
    Key::table(ERASED).number(conversation.0).number(seq)
}

pub fn account_event(account: AccountId, cursor: Cursor) -> Key {
    Key::table(ACCOUNT_EVENT).number(account.0).number(cursor.0)
}

pub fn sent(account: AccountId, conversation: ConversationId) -> Key {
    Key::table(SENT).number(account.0).number(conversation.0)
}

pub fn chore(account: AccountId) -> Key {
    Key::table(CHORE).number(account.0)
}

pub fn blocked(by: AccountId, account: AccountId) -> Key {
    Key::table(BLOCKED).number(by.0).number(account.0)
}

pub fn request(id: RequestId) -> Key {
    Key::table(REQUEST).bytes(id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_spans_all_its_keys_and_no_others() {
        let span = Span::prefix(&[1, 255]);
        assert_eq!((span.start, span.end), (vec![1, 255], vec![2]));
        let span = seqs(READ, AccountId(1), ConversationId(2), 3, u64::MAX);
        let last = read(AccountId(1), ConversationId(2), u64::MAX);
        let next = read(AccountId(1), ConversationId(3), 0);
        assert!(span.start[..] <= last[..] && last[..] < span.end[..] && span.end[..] <= next[..]);
    }

    #[test]
    fn numbers_read_back_from_keys() {
        let key = read(AccountId(7), ConversationId(8), 9);
        assert_eq!((first_number(&key), last_number(&key)), (7, 9));
        assert_eq!((first_number(&[]), last_number(&[1])), (0, 0));
    }
}
