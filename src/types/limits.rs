//! Every maximum, in one place. A request that exceeds one gets an error that names it.
//!
//! Names carry their unit, except counts and [`Duration`]s. "Bytes in X" means the most bytes that X may have.

use std::time::Duration;

use super::id::Cursor;

/// Bytes in a username. Usernames are ASCII, so also characters.
pub const USERNAME_BYTES: usize = 32;
/// Bytes in a password. Longer ones add no security and cost hashing time.
pub const PASSWORD_BYTES: usize = 1024;
/// The fewest characters in a password (NIST SP 800-63B, section 5.1.1.1).
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Bytes in a password's PHC string.
pub const PASSWORD_HASH_BYTES: usize = 256;
/// Bytes in the device label of a session.
pub const DEVICE_BYTES: usize = 64;
/// Sessions of one account. One more ends the oldest.
pub const SESSIONS_PER_ACCOUNT: usize = 64;
/// The longest life of a session.
pub const SESSION_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes in a bearer token as sent.
pub const TOKEN_BYTES: usize = 128;

/// Bytes in a room's title.
pub const ROOM_TITLE_BYTES: usize = 64;
/// Members of one room.
pub const ROOM_MEMBERS: usize = 1_000;
/// Conversations of one account.
pub const CONVERSATIONS_PER_ACCOUNT: usize = 10_000;
/// Accounts that one account has blocked.
pub const BLOCKED_ACCOUNTS: usize = 1_000;
/// Bytes in a message's body.
pub const BODY_BYTES: usize = 32 * 1024;
/// Message references in one request.
pub const MESSAGE_REFS: usize = 500;
/// Names in one request.
pub const NAMES_PER_REQUEST: usize = ROOM_MEMBERS;
/// Bytes in a pattern of account names.
pub const PATTERN_BYTES: usize = 64;

/// Rows in one page of any listing.
pub const PAGE_SIZE: usize = 500;
/// Rows in a page if the caller gives no number.
pub const PAGE_SIZE_DEFAULT: usize = 50;
/// Bytes in a page. A page ends early before it exceeds this.
pub const PAGE_BYTES: usize = 256 * 1024;
/// Bytes in a page token.
pub const PAGE_TOKEN_BYTES: usize = 256;

/// How long the outcome of a request is remembered, and so how late a retry may come.
pub const REQUEST_WINDOW: Duration = Duration::from_secs(24 * 3600);
/// How far a client's clock may be ahead of log time.
pub const REQUEST_AHEAD: Duration = Duration::from_secs(3600);

/// How far a node's clock may be off the cluster's time. A clock further off stamps nothing, and `status` names it.
pub const CLOCK_OFFSET: Duration = Duration::from_secs(2);

/// Bytes in one gRPC message between a client and a node.
pub const RPC_BYTES: usize = 4 * 1024 * 1024;
/// Bytes in one request of a client. Far below the limit of a reply, because a decoder allocates what a length prefix
/// announces before it has seen the bytes.
pub const REQUEST_BYTES: usize = 256 * 1024;
/// Bytes in one gRPC message between peers.
pub const PEER_RPC_BYTES: usize = 16 * 1024 * 1024;
/// Bytes in the metadata of one call.
pub const METADATA_BYTES: u32 = 16 * 1024;
/// Concurrent calls on one connection.
pub const STREAMS_PER_CONNECTION: u32 = 1_024;
/// Streams that a client may reset before the node has looked at them. One more ends its connection (CVE-2023-44487).
pub const STREAMS_RESET_EARLY: usize = 64;
/// Streams that the node resets because of a client's errors. One more ends the connection.
pub const STREAMS_RESET_BY_US: usize = 1_024;
/// Connections a node accepts.
pub const CONNECTIONS: usize = 4_096;
/// Connections that the operating system queues until the node accepts them. The system may allow fewer
/// (`net.core.somaxconn`).
pub const CONNECTIONS_QUEUED: u32 = 4_096;
/// Calls in progress at once, each from its first byte until its answer has left, subscriptions not counted. One more
/// is refused with OVERLOADED.
pub const CALLS: usize = 4_096;
/// KiB of pages on their way to callers. One more is refused with OVERLOADED. Callers that do not read keep them here.
pub const PAGES_KIB: usize = 256 * 1024;
/// One address may take this fraction (one half, for 2) of all connections, calls, pages and subscriptions.
pub const ADDRESS_SHARE: usize = 2;
/// The longest time that a request may take to arrive.
pub const ARRIVAL: Duration = Duration::from_secs(10);
/// Connections that the node is telling that it is full. One more is closed without an answer.
pub const REFUSALS: usize = 64;
/// Sessions that a node remembers as live, so that a write need not look them up first.
pub const SESSIONS_REMEMBERED: usize = 16 * 1024;
/// Accounts or addresses that a node tracks for one rate limit. Beyond this it forgets those closest to idle.
pub const RATE_KEYS: usize = 16 * 1024;
/// The longest deadline that a client may set for a call.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// Subscriptions that a node serves at once.
pub const SUBSCRIPTIONS: usize = 4_096;
/// Events that a subscription reads before its consumer takes them.
pub const SUBSCRIPTION_READ_AHEAD: usize = 32;
/// Bytes of these events, but at least one event. A consumer that never reads costs no more than this.
pub const SUBSCRIPTION_READ_AHEAD_BYTES: usize = 64 * 1024;
/// Conversations marked as changed for an idle subscription. Beyond this it checks all of its conversations.
pub const DIRTY_CONVERSATIONS: usize = 1_024;

/// Commands in one log entry.
pub const BATCH_COMMANDS: usize = 256;
/// Bytes in one log entry. A single larger command gets its own entry.
pub const BATCH_BYTES: usize = 1024 * 1024;
/// Commands that wait to be proposed. One more is refused with OVERLOADED.
pub const PROPOSAL_QUEUE: usize = 8_192;
/// Log entries proposed and not applied yet. With this many the proposer waits.
pub const PROPOSALS_IN_FLIGHT: usize = 64;
/// Passwords that are being hashed or wait for it. One more is refused with OVERLOADED.
pub const HASHING_QUEUE: usize = 256;
/// Bytes of recent log entries kept in memory for followers.
pub const LOG_CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Bytes in a node's name or zone.
pub const NODE_NAME_BYTES: usize = 32;
/// Bytes in an address `host:port`.
pub const ADDRESS_BYTES: usize = 255;
/// Addresses that a node dials at once for callers that inspect it. The share of one caller's address, half of them, is
/// enough to dial every node of a cluster.
pub const DIALS: usize = 2 * NODES;
/// Addresses that a node dials for one caller's address at once after a pause: four checks of the largest cluster.
pub const DIAL_BURST: u32 = 256;
/// Addresses a second that it dials for one caller's address after that.
pub const DIALS_PER_SECOND: u32 = 8;
/// Inspections that a node answers to one address at once after a pause.
pub const INSPECTION_BURST: u32 = 200;
/// Inspections a second that it answers to one address after that.
pub const INSPECTIONS_PER_SECOND: u32 = 20;
/// Requests for a digest at an exact index that a node serves at once.
pub const DIGESTS: usize = 16;
/// Nodes of a cluster, voters and learners together.
pub const NODES: usize = 64;

/// Indexes of log entries end below this, half of what a cursor can hold. No log gets there in centuries.
pub const LOG_INDEX: u64 = Cursor::ENTRIES / 2;
/// Elections for each millisecond since 1970 that a node takes for possible when a peer claims a term.
pub const TERMS_PER_MS: u64 = 1;
/// The terms that a node takes for possible whatever its clock says: two elections a second for 17,000 years.
pub const TERMS_AT_LEAST: u64 = 1 << 40;
/// No term is above this one, whatever the clock says, so that the term after it always exists.
pub const TERM: u64 = 1 << 62;

/// Raw bytes in one frame of a snapshot or backup.
pub const ARCHIVE_FRAME_BYTES: usize = 1024 * 1024;
