//! The reasons for a refusal: one closed list, which also decides the gRPC code and the exit code of the command lines.

use tonic::Code;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $code:ident, $exit:literal;)*) => {
        /// The reason for a refusal: the `reason` of `google.rpc.ErrorInfo` with the domain `quorate`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// All reasons.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The form on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The gRPC status code.
            pub fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code,)* }
            }

            /// The exit code of the command lines.
            pub fn exit_code(self) -> u8 {
                match self { $(Self::$variant => $exit,)* }
            }

            /// Reads the form on the wire.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

reasons! {
    /// This node is not the leader; the hint names the leader.
    NotLeader = "NOT_LEADER", Unavailable, 6;
    /// No leader is known: an election is in progress, or there is no quorum.
    NoLeader = "NO_LEADER", Unavailable, 6;
    /// The leader cannot reach a majority of the voters.
    NoQuorum = "NO_QUORUM", Unavailable, 6;
    /// The deadline passed. A write may or may not have taken effect: repeat it with the same request_id.
    Timeout = "TIMEOUT", DeadlineExceeded, 6;
    /// Nothing answers at that address.
    Unreachable = "UNREACHABLE", Unavailable, 6;
    /// The node is stopping.
    ShuttingDown = "SHUTTING_DOWN", Unavailable, 6;
    /// This node belongs to no cluster yet: it waits to be added.
    NotMember = "NOT_MEMBER", Unavailable, 6;
    /// This node was removed from its cluster.
    Removed = "REMOVED", Unavailable, 6;
    /// The node's disk or state is broken; it has stopped serving.
    Quarantined = "QUARANTINED", Unavailable, 6;
    /// The node's disk may have forgotten something: it takes no part until the others have vouched for it.
    Verifying = "VERIFYING", Unavailable, 6;
    /// The disk of the caller went back in time: it has promised more than it knows.
    RolledBack = "ROLLED_BACK", Unavailable, 6;
    /// A queue is full. It is safe to repeat the call after the given delay.
    Overloaded = "OVERLOADED", ResourceExhausted, 6;
    /// Too many requests from this account or address.
    RateLimited = "RATE_LIMITED", ResourceExhausted, 6;
    /// The node's disk is full.
    DiskFull = "DISK_FULL", ResourceExhausted, 6;

    /// A field breaks its rule.
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument, 1;
    /// The request_id is missing or not a UUIDv7.
    RequestIdInvalid = "REQUEST_ID_INVALID", InvalidArgument, 1;
    /// The request_id is too old for its outcome to be remembered, so the write may have happened already.
    RequestTooOld = "REQUEST_TOO_OLD", FailedPrecondition, 1;
    /// The request_id was used for another request.
    RequestIdReused = "REQUEST_ID_REUSED", InvalidArgument, 4;
    /// A limit would be exceeded.
    LimitExceeded = "LIMIT_EXCEEDED", FailedPrecondition, 1;
    /// The cursor is beyond the end of this cluster's log.
    CursorInvalid = "CURSOR_INVALID", OutOfRange, 1;

    /// No such account.
    AccountNotFound = "ACCOUNT_NOT_FOUND", NotFound, 3;
    /// No such conversation, or not one the caller may see.
    ConversationNotFound = "CONVERSATION_NOT_FOUND", NotFound, 3;
    /// No such message.
    MessageNotFound = "MESSAGE_NOT_FOUND", NotFound, 3;
    /// No such session.
    SessionNotFound = "SESSION_NOT_FOUND", NotFound, 3;
    /// No such node in this cluster.
    NodeNotFound = "NODE_NOT_FOUND", NotFound, 3;

    /// The name is taken, or was once: no name is given out twice.
    NameTaken = "NAME_TAKEN", AlreadyExists, 4;
    /// Several things have that name: name one by its id.
    Ambiguous = "AMBIGUOUS", FailedPrecondition, 4;
    /// The membership has changed since the caller read it: read it again.
    EtagMismatch = "ETAG_MISMATCH", Aborted, 4;
    /// Another membership change is in progress.
    ChangeInProgress = "CHANGE_IN_PROGRESS", Aborted, 4;

    /// Unknown name or wrong password. It does not say which, so that nobody can probe for names.
    BadCredentials = "BAD_CREDENTIALS", Unauthenticated, 5;
    /// The session is missing, revoked or expired: log in again.
    SessionInvalid = "SESSION_INVALID", Unauthenticated, 5;
    /// The caller may not do this.
    NotAllowed = "NOT_ALLOWED", PermissionDenied, 5;
    /// The caller belongs to another cluster, or expects another node.
    WrongCluster = "WRONG_CLUSTER", PermissionDenied, 5;

    /// Another process is running as the same node.
    AlreadyRunning = "ALREADY_RUNNING", FailedPrecondition, 7;
    /// A safety check refused the change.
    Unsafe = "UNSAFE", FailedPrecondition, 7;

    /// A bug in this program.
    Internal = "INTERNAL", Internal, 1;
}

impl Reason {
    /// Whether the same call may succeed when it is repeated, here or on another node.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::NotLeader
                | Self::NoLeader
                | Self::NoQuorum
                | Self::Timeout
                | Self::Unreachable
                | Self::ShuttingDown
                | Self::NotMember
                | Self::Removed
                | Self::Quarantined
                | Self::Verifying
                | Self::RolledBack
                | Self::Overloaded
                | Self::RateLimited
                | Self::DiskFull
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_reads_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        }
    }

    #[test]
    fn transient_reasons_exit_with_6() {
        for reason in Reason::ALL {
            assert_eq!(reason.is_transient(), reason.exit_code() == 6, "{reason:?}");
        }
    }
}
