//! Floor 0: classic bugs that a test can switch on, to prove that the simulation finds them.
//!
//! Product code asks [`enabled`] at the place where a bug would be, in a line or two. In every build without the
//! feature `fault-injection` the answer is the constant `false`, and the compiler drops the bug. With the feature, a
//! process may arm one bug, once, before it starts anything else. Until then the answer is `false` too.
//!
//! # Invariants
//!
//! - No delivered program contains a bug of this list: the feature is off by default and does not compile without debug
//!   assertions. `tests/tidy` checks that no script or package turns it on.
//! - A process has at most one bug, so a finding belongs to that bug.
//! - Each bug is injected in exactly one place.
//!
//! This room is on the lowest floor, because bugs are injected on all floors. It only knows their names.

#[cfg(all(feature = "fault-injection", not(debug_assertions)))]
compile_error!("injected bugs are for tests: no release may be built with the feature `fault-injection`");

macro_rules! bugs {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// A classic bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug { $($(#[$doc])* $variant,)* }

        impl Bug {
            /// All bugs.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in settings and tables.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Reads a name back.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|bug| bug.name() == name)
            }
        }
    };
}

bugs! {
    /// Acknowledges an append before it is synced (P1).
    AckBeforeFsync = "ack-before-fsync";
    /// Acknowledges a vote before it is synced.
    VoteBeforeFsync = "vote-before-fsync";
    /// Forgets at a restart for whom the node voted.
    ForgetVote = "forget-vote";
    /// Purges the log up to a state that is not durable yet.
    PurgeUndurable = "purge-undurable";
    /// Commits the effects of an entry without its applied id, which follows later (P8).
    ApplyTwice = "apply-twice";
    /// Installs a snapshot without its membership.
    SnapshotWithoutMembership = "snapshot-without-membership";
    /// Applies entries by the replica's own clock (P8).
    LocalClock = "local-clock";
    /// Does not look up the request id (P4).
    SkipDedup = "skip-dedup";
    /// Answers a linearizable read from the local state (P3).
    StaleRead = "stale-read";
    /// Confirms reads without checking that the node still leads (P3).
    UnconfirmedLeader = "unconfirmed-leader";
    /// Lets a leader that was killed lead again without an election (P3). This was a real bug of ours once.
    LeaderRestore = "leader-restore";
    /// Does not wait for the index that a session has seen (P3).
    OwnWritesUnseen = "own-writes-unseen";
    /// Makes a new node a voter before it has caught up (P6).
    PromoteEarly = "promote-early";
    /// Gives the id of a removed node to the next one (P6).
    NodeIdReused = "node-id-reused";
    /// Resumes a subscription one entry too late (P5).
    EventDroppedOnResume = "event-dropped-on-resume";
    /// Makes a client believe any node about the leader, even one with an older term.
    LeaderTermIgnored = "leader-term-ignored";
    /// Reports a write without an answer as a failed one (P4).
    TimeoutIsRefusal = "timeout-is-refusal";
    /// Creates an account without checking that the name is free.
    NameTakenTwice = "name-taken-twice";
    /// Lets a session live on after it was ended.
    RevokedSessionLives = "revoked-session-lives";
    /// Trusts a disk that was restored from a copy (P1, P7).
    TrustTheCopy = "trust-the-copy";
    /// Stamps entries by the leader's own clock, however far it is off (P2).
    LeaderClockTrusted = "leader-clock-trusted";
}

#[cfg(feature = "fault-injection")]
static ARMED: std::sync::OnceLock<Bug> = std::sync::OnceLock::new();

/// Arms `bug` for the rest of this process. Returns false, and does nothing, if a bug was armed before.
#[cfg(feature = "fault-injection")]
pub fn arm(bug: Bug) -> bool {
    ARMED.set(bug).is_ok()
}

/// Whether this bug is armed.
#[cfg(feature = "fault-injection")]
pub fn enabled(bug: Bug) -> bool {
    ARMED.get() == Some(&bug)
}

/// Whether this bug is armed: never in this build.
#[cfg(not(feature = "fault-injection"))]
pub const fn enabled(_bug: Bug) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A constant, so that the compiler drops the code behind it.
    #[cfg(not(feature = "fault-injection"))]
    const _: () = assert!(!enabled(Bug::AckBeforeFsync));

    #[test]
    fn no_bug_is_armed_by_itself() {
        assert!(!Bug::ALL.iter().any(|bug| enabled(*bug)));
    }

    #[test]
    fn every_bug_is_known_by_its_name() {
        for bug in Bug::ALL {
            assert_eq!(Bug::named(bug.name()), Some(*bug));
        }
    }
}
