//! Where everything stands: the one place that knows the layout of keys.
//!
//! The first byte names the table. Numbers are big-endian, so that the order of bytes is the order of numbers; every
//! part but the last has a fixed length, so that no key is a prefix of a stranger's. Keys that begin with 0x00 belong
//! to the consensus adapter and are never touched here.
//!
//! | byte | table | key | value |
//! |------|-------|-----|-------|
//! | 0x01 | meta | | `Meta`: log time and the last ids given out |
//! | 0x02 | account | account | `AccountRecord` |
//! | 0x03 | name | folded username | `AccountRef`; stays when the account is deleted |
//! | 0x04 | session | session key, 32 bytes | `SessionRecord` |
//! | 0x05 | session of account | account, created ms, session key | `Present`; oldest first |
//! | 0x06 | session by expiry | expires ms, session key | `Present`; pruned from the front |
//! | 0x07 | conversation | conversation | `ConversationRecord` |
//! | 0x08 | direct | lower account, higher account | `ConversationRef` |
//! | 0x09 | member | account, conversation | `MemberRecord` |
//! | 0x0a | member of | conversation, account | `MemberRef` |
//! | 0x0b | public room | conversation | `Present`; rooms that can be joined |
//! | 0x0c | event | conversation, seq | `EventRecord`; the timeline |
//! | 0x0d | read | account, conversation, seq | `Present`; read though beyond the read mark |
//! | 0x0e | hidden | account, conversation, seq | `Present`; deleted for this account alone |
//! | 0x0f | erased | conversation, seq | `Present`; deleted for everyone |
//! | 0x10 | account event | account, cursor | `AccountEvent`; what no timeline tells |
//! | 0x11 | sent | account, conversation | `SentRange`; own messages in conversations left |
//! | 0x12 | chore | account | `Chore`; what remains to be tidied after a deletion |
//! | 0x13 | request | request id, 16 bytes | `RequestRecord`; ordered by time, pruned from the front |
//! | 0x14 | blocked | account, account that it has blocked | `Present` |

use crate::types::{AccountId, ConversationId, Cursor, RequestId, SessionKey};

pub(super) const ACCOUNT: u8 = 0x02;
pub(super) const NAME: u8 = 0x03;
pub(super) const SESSION: u8 = 0x04;
pub(super) const SESSION_OF: u8 = 0x05;
pub(super) const SESSION_EXPIRY: u8 = 0x06;
pub(super) const CONVERSATION: u8 = 0x07;
pub(super) const DIRECT: u8 = 0x08;
pub(super) const MEMBER: u8 = 0x09;
pub(super) const MEMBER_OF: u8 = 0x0a;
pub(super) const PUBLIC: u8 = 0x0b;
pub(super) const EVENT: u8 = 0x0c;
pub(super) const READ: u8 = 0x0d;
pub(super) const HIDDEN: u8 = 0x0e;
pub(super) const ERASED: u8 = 0x0f;
pub(super) const ACCOUNT_EVENT: u8 = 0x10;
pub(super) const SENT: u8 = 0x11;
pub(super) const CHORE: u8 = 0x12;
pub(super) const REQUEST: u8 = 0x13;
pub(super) const BLOCKED: u8 = 0x14;

/// The one row of the table meta.
pub(super) const META_KEY: [u8; 1] = [0x01];

/// A key under construction.
#[derive(Clone)]
pub(super) struct Key(Vec<u8>);

impl Key {
    fn table(table: u8) -> Self {
        let mut bytes = Vec::with_capacity(50);
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

/// A half-open range of keys.
pub(super) struct Span {
    pub(super) start: Vec<u8>,
    pub(super) end: Vec<u8>,
}

impl Span {
    /// Every key that begins with `prefix`.
    pub(super) fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                break;
            }
        }
        Self { start: prefix.to_vec(), end }
    }

    /// Every key that begins with `prefix` and is not below `start`.
    pub(super) fn prefix_from(prefix: &[u8], start: &[u8]) -> Self {
        let whole = Self::prefix(prefix);
        Self { start: start.max(prefix).to_vec(), end: whole.end }
    }
}

/// Every row of a table.
pub(super) fn all(table: u8) -> Span {
    Span::prefix(&[table])
}

/// Every row of a table that belongs to one id.
pub(super) fn all_of(table: u8, id: u64) -> Span {
    Span::prefix(&Key::table(table).number(id))
}

/// The rows of one id from `second` on: in tables keyed by two numbers or more.
pub(super) fn all_of_from(table: u8, id: u64, second: u64) -> Span {
    Span::prefix_from(&Key::table(table).number(id), &Key::table(table).number(id).number(second))
}

/// The rows of (account, conversation, seq) tables with `first <= seq <= last`.
pub(super) fn seqs(table: u8, account: AccountId, conversation: ConversationId, first: u64, last: u64) -> Span {
    let prefix = Key::table(table).number(account.0).number(conversation.0);
    let end = Span::prefix(&prefix.clone().number(last)).end;
    Span { start: prefix.number(first).to_vec(), end }
}

/// The events of a timeline with `first <= seq <= last`.
pub(super) fn events(conversation: ConversationId, first: u64, last: u64) -> Span {
    Span { start: event(conversation, first).to_vec(), end: Span::prefix(&event(conversation, last)).end }
}

/// The last number of a key: its second part in (id, id) tables, the seq in (account, conversation, seq) ones.
pub(super) fn last_number(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The number that follows the table byte.
pub(super) fn first_number(key: &[u8]) -> u64 {
    key.get(1..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The session key at the end of a key.
pub(super) fn session_key(key: &[u8]) -> SessionKey {
    SessionKey(key.last_chunk().copied().unwrap_or_default())
}

pub(super) fn account(id: AccountId) -> Key {
    Key::table(ACCOUNT).number(id.0)
}

pub(super) fn name(folded: &str) -> Key {
    Key::table(NAME).bytes(folded.as_bytes())
}

pub(super) fn session(key: &SessionKey) -> Key {
    Key::table(SESSION).bytes(&key.0)
}

pub(super) fn session_of(account: AccountId, created_ms: u64, key: &SessionKey) -> Key {
    Key::table(SESSION_OF).number(account.0).number(created_ms).bytes(&key.0)
}

pub(super) fn session_expiry(expires_ms: u64, key: &SessionKey) -> Key {
    Key::table(SESSION_EXPIRY).number(expires_ms).bytes(&key.0)
}

pub(super) fn conversation(id: ConversationId) -> Key {
    Key::table(CONVERSATION).number(id.0)
}

pub(super) fn direct(one: AccountId, other: AccountId) -> Key {
    Key::table(DIRECT).number(one.0.min(other.0)).number(one.0.max(other.0))
}

pub(super) fn member(account: AccountId, conversation: ConversationId) -> Key {
    Key::table(MEMBER).number(account.0).number(conversation.0)
}

pub(super) fn member_of(conversation: ConversationId, account: AccountId) -> Key {
    Key::table(MEMBER_OF).number(conversation.0).number(account.0)
}

pub(super) fn public(id: ConversationId) -> Key {
    Key::table(PUBLIC).number(id.0)
}

pub(super) fn event(conversation: ConversationId, seq: u64) -> Key {
    Key::table(EVENT).number(conversation.0).number(seq)
}

pub(super) fn read(account: AccountId, conversation: ConversationId, seq: u64) -> Key {
    Key::table(READ).number(account.0).number(conversation.0).number(seq)
}

pub(super) fn hidden(account: AccountId, conversation: ConversationId, seq: u64) -> Key {
    Key::table(HIDDEN).number(account.0).number(conversation.0).number(seq)
}

pub(super) fn erased(conversation: ConversationId, seq: u64) -> Key {
    Key::table(ERASED).number(conversation.0).number(seq)
}

pub(super) fn account_event(account: AccountId, cursor: Cursor) -> Key {
    Key::table(ACCOUNT_EVENT).number(account.0).number(cursor.0)
}

pub(super) fn sent(account: AccountId, conversation: ConversationId) -> Key {
    Key::table(SENT).number(account.0).number(conversation.0)
}

pub(super) fn chore(account: AccountId) -> Key {
    Key::table(CHORE).number(account.0)
}

pub(super) fn blocked(by: AccountId, account: AccountId) -> Key {
    Key::table(BLOCKED).number(by.0).number(account.0)
}

pub(super) fn request(id: RequestId) -> Key {
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
