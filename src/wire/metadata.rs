//! The names of our gRPC metadata.

/// How fresh a read must be: `linearizable` or `stale`.
pub const CONSISTENCY: &str = "x-chat-consistency";
/// A log index. The read must reflect a state at least as new.
pub const MIN_INDEX: &str = "x-chat-min-index";
/// In every reply: the log index that the answer reflects.
pub const INDEX: &str = "x-chat-index";
/// `Bearer` and the token of a session.
pub const AUTHORIZATION: &str = "authorization";

/// The id of the cluster that the caller expects. Peers always send it, clients once they know it.
pub const CLUSTER: &str = "x-chat-cluster";
/// Between peers: the cluster's epoch. An offline recovery raises it, which shuts out members left behind.
pub const EPOCH: &str = "x-chat-epoch";
/// Between peers: the caller's node id.
pub const FROM: &str = "x-chat-from";
/// Between peers: the node id that the caller expects.
pub const TO: &str = "x-chat-to";
/// Between peers, on calls and answers: which start of which process speaks, and with what it started.
pub const INCARNATION: &str = "x-chat-incarnation";
/// Between peers: proof that the disk of the one who is spoken to went back in time.
pub const EVIDENCE: &str = "x-chat-evidence";
