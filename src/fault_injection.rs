//! Floor 0: classic mistakes that can be made on purpose, so that what finds mistakes can itself be tested.
//!
//! Wherever one of them would be made, the product asks [`enabled`]. In every build but that of the feature `fault-injection`
//! the answer is the constant `false`, and nothing of a mistake is compiled. With the feature a process may arm one bug,
//! once, before it starts anything; until then the answer is `false` too.
//!
//! # Invariants
//! - No program that is not built for tests can hold a mistake: the feature is no default, and it does not compile
//!   without debug assertions.
//! - A process has one bug at most: what is found is found of that one.
//!
//! The room is on the lowest floor because mistakes are made on all of them. It knows their names only; what a mistake
//! does stands where it is made, in a line or two.

#[cfg(all(feature = "fault-injection", not(debug_assertions)))]
compile_error!("injected faults are for tests: no release is built with the feature `fault-injection`");

macro_rules! bugs {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// A classic mistake.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug { $($(#[$doc])* $variant,)* }

        impl Bug {
            /// Every mistake there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// What it is called in settings and tables.
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
    /// An append counts as durable before it is synced (P1).
    AckBeforeFsync = "ack-before-fsync";
    /// A vote is promised before it is synced.
    VoteBeforeFsync = "vote-before-fsync";
    /// A node that starts again does not know whom it voted for.
    ForgetVote = "forget-vote";
    /// The log is purged up to a state that is not durable yet.
    PurgeUndurable = "purge-undurable";
    /// The effects of an entry are committed without the applied id, which follows later (P8).
    ApplyTwice = "apply-twice";
    /// Whoever installs a snapshot does not take over its membership.
    SnapshotWithoutMembership = "snapshot-without-membership";
    /// Replicas apply entries by the clock on their own wall (P8).
    LocalClock = "local-clock";
    /// A request id is not looked up (P4).
    SkipDedup = "skip-dedup";
    /// A linearizable read shows what this node happens to have (P3).
    StaleRead = "stale-read";
    /// A leader confirms reads without asking whether it still leads (P3).
    UnconfirmedLeader = "unconfirmed-leader";
    /// A killed leader that comes back leads on without an election (P3). Ours once.
    LeaderRestore = "leader-restore";
    /// The index that a session has seen is not waited for (P3).
    OwnWritesUnseen = "own-writes-unseen";
    /// A new node votes at once, before it has caught up (P6).
    PromoteEarly = "promote-early";
    /// The id of a node that was removed is given to the next one (P6).
    NodeIdReused = "node-id-reused";
    /// A resumed subscription begins one entry too late (P5).
    EventDroppedOnResume = "event-dropped-on-resume";
    /// A client takes any node's word for who leads, whatever the term that it speaks of.
    LeaderTermIgnored = "leader-term-ignored";
    /// A write whose answer did not come is told as one that failed (P4).
    TimeoutIsRefusal = "timeout-is-refusal";
    /// Whether a name is free is not looked at when the account is made.
    NameTakenTwice = "name-taken-twice";
    /// A session that was ended goes on.
    RevokedSessionLives = "revoked-session-lives";
}

#[cfg(feature = "fault-injection")]
static ARMED: std::sync::OnceLock<Bug> = std::sync::OnceLock::new();

/// Arms `bug` for the rest of this process. Answers whether it was the first: another one is not armed any more.
#[cfg(feature = "fault-injection")]
pub fn arm(bug: Bug) -> bool {
    ARMED.set(bug).is_ok()
}

/// Whether this mistake is to be made.
#[cfg(feature = "fault-injection")]
pub fn enabled(bug: Bug) -> bool {
    ARMED.get() == Some(&bug)
}

/// Whether this mistake is to be made: never.
#[cfg(not(feature = "fault-injection"))]
pub const fn enabled(_bug: Bug) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known to the compiler: what stands behind it is not even compiled.
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
