//! What a peer may claim: terms, log ids, and the name it speaks in.
//!
//! openraft takes the word of its peers. It adopts any greater vote, makes it durable and adds one to it at the next
//! election, so a single message of term 2^64-1 would end all elections of a cluster. It panics on a snapshot that is
//! newer than the vote it comes with, and it leads without an election when an append names it as the leader. This file
//! checks every request and every answer of a peer before openraft sees it.
//!
//! # Terms
//!
//! A term is one election. So a cluster can have reached no term beyond the number of elections that fit into the time
//! since it was made, and that bound is the same for a node that was away for years, for a newcomer in term 0 and for
//! everybody else. A bound on the distance to a node's own term has neither property: it refuses an honest leader once
//! others were pushed ahead, and a liar passes it in many small steps.
//!
//! [`highest_term`] allows one election for each millisecond since 1970. The shortest election timeout that the
//! configuration takes is 30 ms, so a cluster of [`limits::NODES`] candidates that never agree needs 49 years to get
//! there. A liar can push a cluster to the bound once; after that the clock adds 1,000 terms a second for honest
//! elections, so no number of messages exhausts them. See docs/adr/0040.
//!
//! # Log ids
//!
//! Terms never decrease along a log, no entry is newer than the vote of the node that holds it, and every leader holds
//! what was committed before its term (Ongaro, sections 3.5 and 3.6). An id that breaks one of these rules is forged.
//!
//! # What this file leaves out
//!
//! Whether the sender is who it says it is. Only TLS can tell.

use super::types::{
    AppendEntriesRequest, LogId, Metrics, SnapshotMeta, StreamAppendError, StreamAppendResult, Vote, VoteRequest,
    VoteResponse,
};
use crate::types::{NodeId, limits};

/// Why a peer's message cannot be true.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Implausible {
    /// A term that no cluster has reached.
    #[error("term {term} is above {highest}, the highest that a cluster can have reached by this node's clock")]
    Term {
        /// As claimed.
        term: u64,
        /// The bound at this moment.
        highest: u64,
    },
    /// An index that no log reaches.
    #[error("log index {0} is above {most}, the highest of any log", most = limits::LOG_INDEX)]
    Index(u64),
    /// An entry of a later term than the node that has it.
    #[error("entry {index} is of term {term}, the vote that it comes with of term {vote}")]
    AheadOfVote {
        /// Its index.
        index: u64,
        /// Its term.
        term: u64,
        /// The sender's term.
        vote: u64,
    },
    /// Entries whose terms decrease.
    #[error("entry {0} is of an earlier term than the entry before it")]
    BackInTerm(u64),
    /// A log without an entry that is committed.
    #[error("entry {index} of term {term} contradicts entry {committed}, which is committed")]
    Committed {
        /// Its index.
        index: u64,
        /// Its term.
        term: u64,
        /// The index of the committed entry.
        committed: u64,
    },
    /// A snapshot of nothing, or a membership that comes after its snapshot.
    #[error("the snapshot's header is inconsistent: {0}")]
    Snapshot(&'static str),
    /// An answer about entries that were never sent.
    #[error("the answer is about entry {0}, which was not sent")]
    NotSent(u64),
}

type Result<T = ()> = std::result::Result<T, Implausible>;

/// The highest term that a node in term `own` accepts at `now_ms` (Unix milliseconds).
///
/// Whatever the clock says, the next term is accepted: no clock can end the elections of a cluster whose nodes agree.
pub fn highest_term(now_ms: u64, own: u64) -> u64 {
    let by_clock = now_ms.saturating_mul(limits::TERMS_PER_MS).max(limits::TERMS_AT_LEAST);
    by_clock.max(own.saturating_add(1)).min(limits::TERM)
}

/// Checks the term of a vote that another node claims to have.
pub fn check_term(vote: &Vote, now_ms: u64, own: u64) -> Result {
    let (term, highest) = (vote.leader_id().term, highest_term(now_ms, own));
    if term <= highest { Ok(()) } else { Err(Implausible::Term { term, highest }) }
}

/// Checks a follower's answer to a leader of term `own` that has sent it nothing after `sent`.
pub fn check_append_answer(answer: &StreamAppendResult, sent: Option<&LogId>, now_ms: u64, own: u64) -> Result {
    let about = match answer {
        Err(StreamAppendError::HigherVote(vote)) => return check_term(vote, now_ms, own),
        Err(StreamAppendError::Conflict(at)) => Some(at),
        Ok(matched) => matched.as_ref(),
    };
    about.filter(|id| Some(*id) > sent).map_or(Ok(()), |id| Err(Implausible::NotSent(id.index())))
}

/// Checks a voter's answer to a candidate of term `own`.
pub fn check_vote_answer(answer: &VoteResponse, now_ms: u64, own: u64) -> Result {
    check_term(&answer.vote, now_ms, own)?;
    answer.last_log_id.iter().try_for_each(|id| held_by(&answer.vote, id))
}

/// Whether `vote` is that of `sender` as an elected leader.
pub fn is_leader(vote: &Vote, sender: NodeId) -> bool {
    vote.is_committed() && vote.leader_id().voted_for == sender
}

/// Whether `vote` is that of `sender` as a candidate.
pub fn is_candidate(vote: &Vote, sender: NodeId) -> bool {
    !vote.is_committed() && vote.leader_id().voted_for == sender
}

/// What this node knows when a peer speaks to it.
///
/// It may be older than what openraft knows. That is safe: the term only grows, and what was committed stays so.
#[derive(Debug, Clone, Copy)]
pub struct Standpoint {
    /// Its wall clock, in Unix milliseconds.
    pub now_ms: u64,
    /// Its term.
    pub term: u64,
    /// The last entry that it knows to be committed.
    pub committed: Option<LogId>,
}

impl Standpoint {
    /// As of these metrics.
    pub fn of(metrics: &Metrics, now_ms: u64) -> Self {
        Self { now_ms, term: metrics.current_term, committed: metrics.local_committed }
    }

    /// Checks what a leader wants appended.
    pub fn append(&self, request: &AppendEntriesRequest) -> Result {
        let vote = &request.vote;
        check_term(vote, self.now_ms, self.term)?;
        let mut term = 0;
        for id in request.prev_log_id.iter().chain(request.entries.iter().map(|entry| &entry.log_id)) {
            self.in_log_of(vote, id)?;
            if term_of(id) < term {
                return Err(Implausible::BackInTerm(id.index()));
            }
            term = term_of(id);
        }
        request.leader_commit.iter().try_for_each(|id| self.in_log_of(vote, id))
    }

    /// Checks the request of a candidate, whose log may lack anything.
    pub fn vote(&self, request: &VoteRequest) -> Result {
        check_term(&request.vote, self.now_ms, self.term)?;
        request.last_log_id.iter().try_for_each(|id| held_by(&request.vote, id))
    }

    /// Checks the header of a snapshot.
    pub fn snapshot(&self, vote: &Vote, meta: &SnapshotMeta) -> Result {
        check_term(vote, self.now_ms, self.term)?;
        let last = meta.last_log_id.as_ref().ok_or(Implausible::Snapshot("it ends before the first entry"))?;
        self.in_log_of(vote, last)?;
        if meta.last_membership.log_id().as_ref() > Some(last) {
            return Err(Implausible::Snapshot("its membership is newer than its last entry"));
        }
        Ok(())
    }

    /// Checks a leader's request to another node to take over.
    pub fn transfer(&self, vote: &Vote, last: Option<&LogId>) -> Result {
        check_term(vote, self.now_ms, self.term)?;
        last.into_iter().try_for_each(|id| self.in_log_of(vote, id))
    }

    /// Checks an id in the log of the leader whose vote this is.
    ///
    /// A leader of an earlier term may lack committed entries. openraft answers it with the higher vote.
    fn in_log_of(&self, vote: &Vote, id: &LogId) -> Result {
        held_by(vote, id)?;
        let Some(committed) = self.committed.filter(|_| vote.leader_id().term >= self.term) else { return Ok(()) };
        let (index, term) = (id.index(), term_of(id));
        let newer_before = index <= committed.index() && term > term_of(&committed);
        let older_after = index >= committed.index() && term < term_of(&committed);
        if newer_before || older_after {
            return Err(Implausible::Committed { index, term, committed: committed.index() });
        }
        Ok(())
    }
}

/// Checks an id in the log of the node whose vote this is.
fn held_by(vote: &Vote, id: &LogId) -> Result {
    let (index, term, vote) = (id.index(), term_of(id), vote.leader_id().term);
    if index >= limits::LOG_INDEX {
        return Err(Implausible::Index(index));
    }
    if term > vote { Err(Implausible::AheadOfVote { index, term, vote }) } else { Ok(()) }
}

fn term_of(id: &LogId) -> u64 {
    id.committed_leader_id().term
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::{CommittedLeaderId, Entry, EntryPayload, StoredMembership};

    /// Some day of 2026.
    const NOW: u64 = 1_780_000_000_000;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(term), index)
    }

    fn in_term(term: u64) -> Standpoint {
        Standpoint { now_ms: NOW, term, committed: Some(id(5, 100)) }
    }

    fn append(term: u64, prev: Option<LogId>, entries: &[LogId], commit: Option<LogId>) -> AppendEntriesRequest {
        let entry = |log_id: &LogId| Entry { log_id: *log_id, payload: EntryPayload::Blank };
        AppendEntriesRequest {
            vote: Vote::new_committed(term, 2),
            prev_log_id: prev,
            entries: entries.iter().map(entry).collect(),
            leader_commit: commit,
        }
    }

    #[test]
    fn a_peer_may_be_as_many_elections_ahead_as_there_was_time_for() {
        let year = 2 * 365 * 24 * 3600;
        for away in [1, 1_000, year, 100 * year] {
            assert_eq!(check_term(&Vote::new_committed(5 + away, 2), NOW, 5), Ok(()), "{away} elections");
            assert_eq!(check_term(&Vote::new_committed(away, 2), NOW, 0), Ok(()), "a newcomer after {away} elections");
        }
        assert_eq!(check_term(&Vote::new(NOW, 2), NOW, 5), Ok(()));
        assert!(check_term(&Vote::new(NOW + 1, 2), NOW, 5).is_err());
        assert!(check_term(&Vote::new(u64::MAX, 2), NOW, 5).is_err());
    }

    #[test]
    fn no_clock_refuses_a_cluster_or_ends_its_elections() {
        let century_of_elections = 100 * 2 * 365 * 24 * 3600;
        for now_ms in [0, 1, NOW, u64::MAX] {
            assert_eq!(check_term(&Vote::new(century_of_elections, 2), now_ms, 0), Ok(()), "at {now_ms}");
            let pushed = highest_term(NOW, 5);
            assert_eq!(check_term(&Vote::new(pushed + 1, 2), now_ms, pushed), Ok(()), "at {now_ms}");
            assert!(highest_term(now_ms, u64::MAX) <= limits::TERM, "one more never overflows");
        }
        assert!(highest_term(NOW + 1_000, NOW) - NOW >= 1_000, "a liar at the bound leaves room for elections");
    }

    #[test]
    fn an_honest_append_is_taken_wherever_the_follower_stands() {
        let far = limits::LOG_INDEX - 1;
        for request in [
            append(5, None, &[id(0, 0), id(1, 1)], None),
            append(5, Some(id(3, 50)), &[id(3, 51), id(5, 52)], Some(id(5, 100))),
            append(5, Some(id(5, 100)), &[id(5, 101)], Some(id(5, 100))),
            append(9, Some(id(7, far)), &[], Some(id(7, 90_000))),
            append(9, None, &[], None),
        ] {
            assert_eq!(in_term(5).append(&request), Ok(()), "{request}");
        }
        let deposed = append(4, Some(id(4, 120)), &[id(4, 121)], Some(id(4, 90)));
        assert_eq!(in_term(5).append(&deposed), Ok(()), "openraft tells it of the higher vote");
    }

    #[test]
    fn an_append_that_no_leader_can_send_is_refused() {
        let refused = |request| in_term(5).append(&request).expect_err("it is forged");
        let greatest = u64::MAX;
        assert!(matches!(refused(append(greatest, None, &[], None)), Implausible::Term { term: u64::MAX, .. }));
        assert_eq!(refused(append(5, Some(id(5, greatest)), &[], None)), Implausible::Index(greatest));
        assert_eq!(refused(append(5, None, &[], Some(id(5, greatest)))), Implausible::Index(greatest));
        let ahead = |index, term| Implausible::AheadOfVote { index, term, vote: 5 };
        assert_eq!(refused(append(5, Some(id(6, 100)), &[], None)), ahead(100, 6));
        assert_eq!(refused(append(5, None, &[], Some(id(6, 1)))), ahead(1, 6));
        assert_eq!(refused(append(5, Some(id(5, 100)), &[id(9, 101)], None)), ahead(101, 9));
        let back = append(7, Some(id(7, 200)), &[id(7, 201), id(6, 202)], None);
        assert_eq!(refused(back), Implausible::BackInTerm(202));
        let contradicts = |index, term| Implausible::Committed { index, term, committed: 100 };
        assert_eq!(refused(append(6, Some(id(6, 99)), &[], None)), contradicts(99, 6));
        assert_eq!(refused(append(6, Some(id(4, 100)), &[], None)), contradicts(100, 4));
        assert_eq!(refused(append(6, None, &[], Some(id(4, 101)))), contradicts(101, 4));
    }

    #[test]
    fn candidates_snapshots_and_transfers_are_held_to_the_same_rules() {
        let here = in_term(5);
        let candidate = |term, last| here.vote(&VoteRequest::new(Vote::new(term, 2), Some(last)));
        assert_eq!(candidate(6, id(4, 90)), Ok(()), "a log that is behind is openraft's to judge");
        assert!(candidate(u64::MAX, id(4, 90)).is_err() && candidate(6, id(7, 90)).is_err());
        assert!(candidate(6, id(5, u64::MAX)).is_err());

        let vote = Vote::new_committed(6, 2);
        let snapshot = |last: Option<LogId>, membership: Option<LogId>| {
            let last_membership = StoredMembership::new(membership, Default::default());
            here.snapshot(&vote, &SnapshotMeta { last_log_id: last, last_membership })
        };
        assert_eq!(snapshot(Some(id(6, 900)), Some(id(3, 7))), Ok(()));
        for (last, membership) in [
            (None, None),
            (Some(id(7, 900)), None),
            (Some(id(6, u64::MAX)), None),
            (Some(id(6, 99)), None),
            (Some(id(6, 900)), Some(id(6, 901))),
        ] {
            assert!(snapshot(last, membership).is_err(), "{last:?} {membership:?}");
        }
        assert_eq!(here.transfer(&vote, Some(&id(6, 120))), Ok(()));
        assert!(here.transfer(&Vote::new_committed(u64::MAX, 2), None).is_err());
        assert!(here.transfer(&vote, Some(&id(6, u64::MAX))).is_err());
    }

    #[test]
    fn a_sender_speaks_for_itself_alone() {
        let (leader, candidate) = (Vote::new_committed(5, 2), Vote::new(5, 2));
        assert!(is_leader(&leader, 2) && is_candidate(&candidate, 2));
        assert!(!is_leader(&leader, 3) && !is_leader(&candidate, 2));
        assert!(!is_candidate(&candidate, 3) && !is_candidate(&leader, 2));
    }
}
