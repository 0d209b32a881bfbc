//! Every maximum, in one place. What exceeds one gets an error that names it.

use std::time::Duration;

/// Bytes in a username. ASCII, so characters too.
pub const USERNAME_BYTES: usize = 32;
/// Bytes in a password; longer ones only feed the hash function.
pub const PASSWORD_BYTES: usize = 1024;
/// Fewest characters in a password (NIST SP 800-63B, section 5.1.1.1).
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Bytes in a password's PHC string.
pub const PASSWORD_HASH_BYTES: usize = 256;
/// Bytes in a device label of a session.
pub const DEVICE_BYTES: usize = 64;
/// Sessions an account may hold at once; the oldest gives way.
pub const SESSIONS_PER_ACCOUNT: usize = 64;
/// Longest life of a session.
pub const SESSION_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes in a bearer token as sent.
pub const TOKEN_BYTES: usize = 128;

/// Bytes in a room's title.
pub const ROOM_TITLE_BYTES: usize = 64;
/// Members of one room.
pub const ROOM_MEMBERS: usize = 1_000;
/// Conversations one account may be in.
pub const CONVERSATIONS_PER_ACCOUNT: usize = 10_000;
/// Accounts one account may have blocked.
pub const BLOCKED_ACCOUNTS: usize = 1_000;
/// Bytes in a message's body.
pub const BODY_BYTES: usize = 32 * 1024;
/// Message references in one request.
pub const MESSAGE_REFS: usize = 500;
/// Names in one request.
pub const NAMES_PER_REQUEST: usize = ROOM_MEMBERS;
/// Bytes in a pattern of account names.
pub const PATTERN_BYTES: usize = 64;

/// Rows in one page of any listing, at most.
pub const PAGE_SIZE: usize = 500;
/// Rows in a page when the caller does not say.
pub const PAGE_SIZE_DEFAULT: usize = 50;
/// Bytes in a page, at most: a page ends early rather than exceed it.
pub const PAGE_BYTES: usize = 256 * 1024;
/// Bytes in a page token.
pub const PAGE_TOKEN_BYTES: usize = 256;

/// How long an outcome is remembered, and so how late a retry may come.
pub const REQUEST_WINDOW: Duration = Duration::from_secs(24 * 3600);
/// How far a client's clock may be ahead of the log's.
pub const REQUEST_AHEAD: Duration = Duration::from_secs(3600);

/// Bytes in one gRPC message, either way, for clients.
pub const RPC_BYTES: usize = 4 * 1024 * 1024;
/// Bytes in one request of a client. Far below what a reply may hold: a decoder sets aside what a length prefix
/// announces before it has seen the bytes.
pub const REQUEST_BYTES: usize = 256 * 1024;
/// Bytes in one gRPC message between peers.
pub const PEER_RPC_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of metadata of one call.
pub const METADATA_BYTES: u32 = 16 * 1024;
/// Concurrent calls on one connection.
pub const STREAMS_PER_CONNECTION: u32 = 1_024;
/// Streams that a client has reset before the node looked at them, beyond which its connection ends (CVE-2023-44487).
pub const STREAMS_RESET_EARLY: usize = 64;
/// Streams that the node has reset because of a client's errors, beyond which its connection ends.
pub const STREAMS_RESET_BY_US: usize = 1_024;
/// Connections a node accepts.
pub const CONNECTIONS: usize = 4_096;
/// Connections that the system keeps for a node that has not looked at them yet. It may allow fewer
/// (`net.core.somaxconn`).
pub const CONNECTIONS_QUEUED: u32 = 4_096;
/// Calls that a node has under way at once, from the first byte of each until its answer has left, subscriptions aside;
/// one more is refused with OVERLOADED.
pub const CALLS: usize = 4_096;
/// KiB of pages on their way to callers; one more is refused with OVERLOADED. Whoever does not read them leaves them here.
pub const PAGES_KIB: usize = 256 * 1024;
/// Of connections, calls, pages and subscriptions, one address may take one part in so many.
pub const ADDRESS_SHARE: usize = 2;
/// Longest that a request may take to arrive.
pub const ARRIVAL: Duration = Duration::from_secs(10);
/// Connections that are being told that there is no place for them; one more is closed without a word.
pub const REFUSALS: usize = 64;
/// Sessions that a node remembers having seen alive, so that a write need not look them up first.
pub const SESSIONS_REMEMBERED: usize = 16 * 1024;
/// Accounts or addresses that a node keeps count of for one rate limit; beyond, those closest to idle are forgotten.
pub const RATE_KEYS: usize = 16 * 1024;
/// Longest that a client may ask a node to work on a call.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// Live subscriptions a node serves.
pub const SUBSCRIPTIONS: usize = 4_096;
/// Events that a subscription reads ahead of its consumer.
pub const SUBSCRIPTION_READ_AHEAD: usize = 32;
/// Bytes of them, but at least one: so much does a consumer that never reads cost.
pub const SUBSCRIPTION_READ_AHEAD_BYTES: usize = 64 * 1024;
/// Conversations marked as changed for a sleeping subscription, beyond which it looks at all of them.
pub const DIRTY_CONVERSATIONS: usize = 1_024;

/// Commands in one log entry.
pub const BATCH_COMMANDS: usize = 256;
/// Bytes in one log entry; a single larger command stands alone.
pub const BATCH_BYTES: usize = 1024 * 1024;
/// Commands waiting to be proposed; one more is refused with OVERLOADED.
pub const PROPOSAL_QUEUE: usize = 8_192;
/// Log entries proposed and not yet applied, above which the proposer waits.
pub const PROPOSALS_IN_FLIGHT: usize = 64;
/// Passwords being hashed or waiting for it; one more is refused with OVERLOADED.
pub const HASHING_QUEUE: usize = 256;
/// Bytes of recent log entries kept in memory for followers.
pub const LOG_CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Bytes in a node's name or zone.
pub const NODE_NAME_BYTES: usize = 32;
/// Bytes in an address `host:port`.
pub const ADDRESS_BYTES: usize = 255;
/// Digests at an exact index that a node prepares at once.
pub const DIGESTS: usize = 16;
/// Voters and learners of a cluster.
pub const NODES: usize = 64;

/// Raw bytes in one frame of a snapshot or backup.
pub const ARCHIVE_FRAME_BYTES: usize = 1024 * 1024;
