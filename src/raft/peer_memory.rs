//! What this node remembers of every other: the highest term in which it voted, and the highest entry that it acknowledged.
//!
//! A node that comes back with less has lost what it promised: its disk went back in time. `docs/adr/0050` has the
//! argument. The memory is fed by the calls and answers that pass anyway. It is written along with commits of the log, at
//! most once a second and never with a sync of its own: after a crash it may lack the last second.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

use super::{
    convert,
    incarnation::{Announcement, Incarnation, Stage},
    types::LogId,
};
use crate::{types::NodeId, wire::store};

/// How many bytes of a peer's own words are kept.
const TEXT_BYTES: usize = 400;

/// Proof that the disk of a node went back in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The start that it is about.
    pub about: Incarnation,
    /// The highest start that is remembered of this node.
    pub known_start: u64,
    /// The promise that is remembered, and what was found of it.
    pub why: String,
}

/// How a peer fares, if it is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCondition {
    /// `verifying`, `rolled back` or `stuck`.
    pub word: &'static str,
    /// Why.
    pub reason: String,
}

/// What to do with an answer that a peer's log ends before an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// Give it to openraft.
    Usual,
    /// Keep it from openraft, which would not survive it.
    Withheld,
}

/// Everything remembered. Cheap to clone; all clones are the same memory.
#[derive(Debug, Clone, Default)]
pub struct PeerMemory(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    peers: BTreeMap<NodeId, Peer>,
    /// The highest entry that this node knows to be committed.
    committed: Option<LogId>,
    /// Whether there is something that is not written down.
    changed: bool,
}

/// Invariants: `term` and `acked` only grow, except when the peer was vouched for after what it had forgotten.
#[derive(Debug, Default)]
struct Peer {
    incarnation: Incarnation,
    term: u64,
    acked: Option<Acked>,
    /// The highest entry that it acknowledged to any leader and that was committed: no log of it ends before.
    held: Option<LogId>,
    evidence: Option<Evidence>,
    reset: Reset,
    stage: Stage,
    refusal: String,
    error: String,
    stuck: Option<String>,
    /// When a process last answered at the member's address, and which.
    heard: Option<(Instant, Incarnation)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Acked {
    /// The term of the leader to which it was acknowledged.
    leader_term: u64,
    log_id: LogId,
}

/// Whether openraft must forget how far a peer was before it hears of the peer's shorter log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Reset {
    #[default]
    No,
    Wanted,
    Allowed,
}

impl PeerMemory {
    /// The memory that was written down as `bytes`.
    pub fn decode(bytes: Option<Bytes>, committed: Option<LogId>) -> Result<Self, prost::DecodeError> {
        let written = store::PeerPromises::decode(bytes.unwrap_or_default())?;
        let read = |promise: store::PeerPromise| {
            let acked =
                promise.acked.map(|id| Acked { leader_term: promise.acked_in_term, log_id: convert::read_log_id(id) });
            let incarnation = Incarnation { start: promise.start, random: promise.random };
            let held = promise.held.map(convert::read_log_id);
            (promise.node_id, Peer { incarnation, term: promise.term, acked, held, ..Peer::default() })
        };
        let peers = written.peers.into_iter().map(read).collect();
        Ok(Self(Arc::new(Mutex::new(Memory { peers, committed, changed: false }))))
    }

    /// The memory to write down; none if nothing has changed since the last call.
    pub fn encode_if_changed(&self) -> Option<Bytes> {
        let mut memory = self.lock();
        if !std::mem::take(&mut memory.changed) {
            return None;
        }
        let write = |(id, peer): (&NodeId, &Peer)| store::PeerPromise {
            node_id: *id,
            start: peer.incarnation.start,
            random: peer.incarnation.random,
            term: peer.term,
            acked: peer.acked.map(|acked| convert::log_id(&acked.log_id)),
            acked_in_term: peer.acked.map_or(0, |acked| acked.leader_term),
            held: peer.held.as_ref().map(convert::log_id),
        };
        Some(store::PeerPromises { peers: memory.peers.iter().map(write).collect() }.encode_to_vec().into())
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares what a peer says of itself with its promises.
    pub fn meet(&self, id: NodeId, said: &Announcement) -> Result<(), Evidence> {
        let mut memory = self.lock();
        let committed = memory.committed;
        memory.changed = true;
        let peer = memory.peers.entry(id).or_default();
        peer.stage = said.stage;
        if peer.incarnation == said.incarnation {
            return match &peer.evidence {
                Some(evidence) if evidence.about == said.incarnation => Err(evidence.clone()),
                _ => Ok(()),
            };
        }
        if said.recovered > peer.incarnation.start {
            // It was vouched for after all that is remembered. A leader among those who remember must also forget how far
            // it was, or openraft would not begin with it anew.
            let (incarnation, stage, heard) = (said.incarnation, said.stage, peer.heard);
            *peer = Peer { incarnation, stage, heard, reset: Reset::Wanted, ..Peer::default() };
            return Ok(());
        }
        if let Some(why) = peer.contradiction(said, committed) {
            let evidence = Evidence { about: said.incarnation, known_start: peer.incarnation.start, why };
            peer.evidence = Some(evidence.clone());
            return Err(evidence);
        }
        peer.incarnation = said.incarnation;
        peer.evidence = None;
        Ok(())
    }

    /// This process has answered at the address of the member.
    pub fn note_heard(&self, id: NodeId, incarnation: Incarnation) {
        self.lock().peers.entry(id).or_default().heard = Some((Instant::now(), incarnation));
    }

    /// Which process has answered at the address of this member since then.
    pub fn heard_since(&self, id: NodeId, since: Instant) -> Option<Incarnation> {
        let memory = self.lock();
        memory.peers.get(&id)?.heard.filter(|(at, _)| *at > since).map(|(_, incarnation)| incarnation)
    }

    /// The highest start that is remembered of a node.
    pub fn known_start(&self, id: NodeId) -> u64 {
        self.lock().peers.get(&id).map_or(0, |peer| peer.incarnation.start)
    }

    /// What proves that the disk of this peer went back, as long as it is not vouched for.
    pub fn evidence(&self, id: NodeId) -> Option<Evidence> {
        self.lock().peers.get(&id)?.evidence.clone()
    }

    /// The peer has made a vote of this term durable.
    pub fn note_term(&self, id: NodeId, term: u64) {
        let mut memory = self.lock();
        let peer = memory.peers.entry(id).or_default();
        if term > peer.term {
            peer.term = term;
            memory.changed = true;
        }
    }

    /// The peer has acknowledged everything up to this entry to the leader of `leader_term`.
    pub fn note_acked(&self, id: NodeId, leader_term: u64, log_id: LogId) {
        let mut memory = self.lock();
        let committed = memory.committed;
        let peer = memory.peers.entry(id).or_default();
        peer.refusal.clear();
        peer.error.clear();
        if peer.reset == Reset::Allowed {
            peer.reset = Reset::No;
        }
        let acked = Acked { leader_term, log_id };
        let newer = |known: Acked| (leader_term, log_id) > (known.leader_term, known.log_id);
        if peer.reset == Reset::No && peer.acked.is_none_or(newer) {
            peer.held = peer.held.max(peer.committed_ack(committed));
            peer.acked = Some(acked);
            peer.term = peer.term.max(leader_term);
            memory.changed = true;
        }
    }

    /// This entry is committed.
    pub fn note_committed(&self, committed: Option<LogId>) {
        let mut memory = self.lock();
        memory.committed = memory.committed.max(committed);
    }

    /// Judges an answer to the leader of `leader_term` that the peer's log ends before `conflict`.
    ///
    /// Within one leader's term a log never ends before what it acknowledged.
    pub fn judge_conflict(&self, id: NodeId, leader_term: u64, conflict: LogId) -> Conflict {
        let mut memory = self.lock();
        let peer = memory.peers.entry(id).or_default();
        match (peer.reset, peer.acked) {
            (Reset::Wanted, _) => Conflict::Withheld,
            (Reset::No, Some(acked))
                if acked.leader_term == leader_term && conflict.index() <= acked.log_id.index() =>
            {
                let why = format!(
                    "it acknowledged entry {} in term {leader_term}, and its log now ends before entry {}",
                    acked.log_id.index(),
                    conflict.index()
                );
                if peer.evidence.is_none() {
                    tracing::error!(peer = id, why, "the disk of a follower went back in time");
                }
                let known_start = peer.incarnation.start;
                peer.evidence = Some(Evidence { about: peer.incarnation, known_start, why });
                Conflict::Withheld
            }
            _ => Conflict::Usual,
        }
    }

    /// The peers that openraft must begin with anew.
    pub fn wanted_resets(&self) -> Vec<NodeId> {
        let wanted = |(id, peer): (&NodeId, &Peer)| (peer.reset == Reset::Wanted).then_some(*id);
        self.lock().peers.iter().filter_map(wanted).collect()
    }

    /// openraft is ready to begin with this peer anew.
    pub fn allow_reset(&self, id: NodeId) {
        let mut memory = self.lock();
        if let Some(peer) = memory.peers.get_mut(&id).filter(|peer| peer.reset == Reset::Wanted) {
            peer.reset = Reset::Allowed;
        }
    }

    /// The peer refused a call because its disk is not trusted, in its own words.
    pub fn note_refusal(&self, id: NodeId, words: &str) {
        self.lock().peers.entry(id).or_default().refusal = shortened(words);
    }

    /// A call to the peer failed otherwise.
    pub fn note_error(&self, id: NodeId, words: &str) {
        self.lock().peers.entry(id).or_default().error = shortened(words);
    }

    /// The peer makes no progress although entries wait for it, or does again.
    pub fn set_stuck(&self, id: NodeId, stuck: bool) {
        let mut memory = self.lock();
        let peer = memory.peers.entry(id).or_default();
        peer.stuck = match (stuck, peer.error.is_empty()) {
            (false, _) => None,
            (true, true) => Some("it answers, and takes no entries".to_owned()),
            (true, false) => Some(peer.error.clone()),
        };
    }

    /// How a peer fares; none if nothing is wrong that is known here.
    pub fn condition(&self, id: NodeId) -> Option<PeerCondition> {
        let memory = self.lock();
        let peer = memory.peers.get(&id)?;
        let condition = |word, reason: &str| Some(PeerCondition { word, reason: reason.to_owned() });
        if let Some(evidence) = &peer.evidence {
            return condition("rolled back", &evidence.why);
        }
        match peer.stage {
            Stage::Verifying => condition("verifying", &peer.refusal),
            Stage::CatchingUp => condition("verifying", "it is catching up with what it may have forgotten"),
            Stage::Trusted => peer.stuck.as_ref().and_then(|why| condition("stuck", why)),
        }
    }

    /// The entry that the peer is known to hold, where that is less than openraft believes.
    pub fn lowered_match(&self, id: NodeId) -> Option<u64> {
        let memory = self.lock();
        let peer = memory.peers.get(&id)?;
        let lowered = peer.evidence.is_some() || peer.reset != Reset::No || peer.stage == Stage::Verifying;
        lowered.then_some(0)
    }
}

impl Peer {
    /// The part of what it last acknowledged that is known to be committed.
    fn committed_ack(&self, committed: Option<LogId>) -> Option<LogId> {
        self.acked.and_then(|acked| committed.map(|committed| committed.min(acked.log_id)))
    }

    /// How what a peer starts with falls short of what it promised before.
    ///
    /// A log that ends earlier in a *later* term is no proof by itself: a new leader truncates what was never committed.
    fn contradiction(&self, said: &Announcement, committed: Option<LogId>) -> Option<String> {
        let (known, start) = (self.incarnation.start, said.incarnation.start);
        if start <= known {
            return Some(format!("its disk counts start {start}, and it was heard in start {known} before"));
        }
        if said.term < self.term {
            return Some(format!("it had voted in term {}, and its disk knows of term {} only", self.term, said.term));
        }
        let end = said.last_log_id.map_or(0, |id| id.index());
        let lost = |entry: LogId| (said.last_log_id < Some(entry)).then_some(entry.index());
        if let Some(acked) = self.acked
            && said.term == acked.leader_term
            && let Some(entry) = lost(acked.log_id)
        {
            return Some(format!("it had acknowledged entry {entry}, and its log ends at entry {end}"));
        }
        let entry = self.held.max(self.committed_ack(committed)).and_then(lost)?;
        Some(format!("it had acknowledged entry {entry}, which is committed, and its log ends at entry {end}"))
    }
}

fn shortened(words: &str) -> String {
    let end = (0..=TEXT_BYTES.min(words.len())).rev().find(|end| words.is_char_boundary(*end)).unwrap_or(0);
    words[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::CommittedLeaderId;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(term), index)
    }

    fn said(start: u64, term: u64, last: LogId) -> Announcement {
        let incarnation = Incarnation { start, random: start * 7 };
        Announcement { incarnation, term, last_log_id: Some(last), ..Announcement::default() }
    }

    /// A node that started for the 5th time, acknowledged entry 20 of term 3, and of which entry 10 is known to be
    /// committed.
    fn memory() -> PeerMemory {
        let memory = PeerMemory::default();
        memory.meet(2, &said(5, 3, id(3, 4))).expect("nothing is known yet");
        memory.note_acked(2, 3, id(3, 20));
        memory.note_committed(Some(id(3, 10)));
        memory
    }

    #[test]
    fn less_than_was_promised_is_proof_and_as_much_is_none() {
        let cases = [
            ("as much", said(6, 3, id(3, 20)), None),
            ("more", said(9, 4, id(4, 30)), None),
            ("truncated by a later leader, but not the committed part", said(6, 4, id(3, 10)), None),
            ("shorter in the term in which it acknowledged", said(6, 3, id(3, 19)), Some("entry 20")),
            ("a committed entry is gone", said(6, 4, id(3, 9)), Some("entry 10, which is committed")),
            ("a later term, an older log", said(6, 7, id(2, 50)), Some("entry 10, which is committed")),
            ("a vote is gone", said(6, 2, id(3, 20)), Some("voted in term 3")),
            ("a start is gone", said(4, 3, id(3, 20)), Some("start 4")),
            (
                "the same start twice",
                Announcement { incarnation: Incarnation { start: 5, random: 1 }, ..said(5, 3, id(3, 20)) },
                Some("start 5"),
            ),
        ];
        for (what, said, expected) in cases {
            let memory = memory();
            let met = memory.meet(2, &said);
            match expected {
                None => assert_eq!(met, Ok(()), "{what}"),
                Some(words) => {
                    let evidence = met.expect_err(what);
                    assert!(evidence.why.contains(words), "{what}: {}", evidence.why);
                    assert_eq!((evidence.about, evidence.known_start), (said.incarnation, 5), "{what}");
                    assert_eq!(memory.condition(2).expect(what).word, "rolled back");
                    // The same process again is still the same.
                    memory.meet(2, &said).expect_err(what);
                }
            }
        }
    }

    #[test]
    fn what_was_promised_before_the_others_vouched_counts_no_more() {
        let memory = memory();
        let back = said(4, 1, id(1, 1));
        memory.meet(2, &back).expect_err("it went back");
        let vouched = Announcement { recovered: 6, ..said(6, 1, id(1, 1)) };
        memory.meet(2, &vouched).expect("it was vouched for");
        assert_eq!(memory.condition(2), None);
        assert_eq!(memory.wanted_resets(), [2]);
        assert_eq!(memory.judge_conflict(2, 3, id(3, 20)), Conflict::Withheld, "openraft is not ready yet");
        memory.allow_reset(2);
        assert_eq!(memory.judge_conflict(2, 3, id(3, 20)), Conflict::Usual);
        memory.note_acked(2, 3, id(3, 2));
        memory.meet(2, &said(7, 1, id(1, 1))).expect_err("what it promised since counts");
    }

    #[test]
    fn within_a_term_a_log_does_not_end_before_what_it_acknowledged() {
        let memory = memory();
        assert_eq!(memory.judge_conflict(2, 3, id(3, 21)), Conflict::Usual);
        assert_eq!(memory.judge_conflict(2, 4, id(3, 20)), Conflict::Usual, "to another leader it may");
        assert_eq!(memory.judge_conflict(2, 3, id(3, 20)), Conflict::Withheld);
        assert!(memory.evidence(2).expect("proof").why.contains("ends before entry 20"));
    }

    #[test]
    fn the_memory_reads_back_and_is_written_only_when_it_changed() {
        let memory = memory();
        let written = memory.encode_if_changed().expect("it changed");
        assert_eq!(memory.encode_if_changed(), None);
        let read = PeerMemory::decode(Some(written), Some(id(3, 10))).expect("sound");
        read.meet(2, &said(6, 3, id(3, 19))).expect_err("it is remembered");
        memory.note_acked(2, 3, id(3, 15));
        assert_eq!(memory.encode_if_changed(), None, "older news is no news");
    }
}
