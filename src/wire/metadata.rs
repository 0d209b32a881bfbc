//! The names of our gRPC metadata.

/// `linearizable` or `stale`: how fresh a read must be.
pub const CONSISTENCY: &str = "x-chat-consistency";
/// A log index: the read must reflect state at least as new.
pub const MIN_INDEX: &str = "x-chat-min-index";
/// On every reply: the log index that the answer reflects.
pub const INDEX: &str = "x-chat-index";
/// `Bearer` and a session's token.
pub const AUTHORIZATION: &str = "authorization";

/// The id of the cluster that the caller means: between peers always, from a client once it knows.
pub const CLUSTER: &str = "x-chat-cluster";
/// Between peers: the cluster's epoch, raised by an offline recovery.
pub const EPOCH: &str = "x-chat-epoch";
/// Between peers: the caller's node id.
pub const FROM: &str = "x-chat-from";
/// Between peers: the node id that the caller means.
pub const TO: &str = "x-chat-to";
