//! What nodes have promised to their peers, remembered outside them, and held against what they do later.
//!
//! | promise | broken when |
//! |---|---|
//! | a term has one leader | two nodes replicate in one term |
//! | a node has one vote in a term, and its term never goes back | it votes otherwise, or its disk knows no such vote after a restart |
//! | whoever asks for votes or leads has its own | its disk knows of no such term after a restart, or of another's vote |
//! | two logs with an entry of one index and term are equal there | an entry differs from the one that was seen before |
//! | a log has no hole | a leader sends entries that do not follow what it says is before them |
//! | what is committed stays | a leader of the same term or a later one replicates something else at its place |
//! | what was acknowledged to a leader is synced | it is gone after a restart, though no later leader overruled it |
//! | a node votes once it has caught up | the change that makes it a voter finds it far behind, or silent |
//! | what is purged from the log is in the state | the state on disk ends before the log begins |

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use prost::Message;
use quorate::{
    raft::{LogStore, StateMeta, convert},
    storage::{Blocking, Disk, Disks, LogFile, Open, StateFile, testing::SimDisks},
    wire::raft::{AppendRequest, Entry, LogId, Membership, Vote, entry::Payload},
};

/// Entries that a learner may be behind when it is made a voter: what the product allows, and what comes while the
/// change is judged.
const LAG: u64 = 192;

/// All that was promised. Shared with the services of nodes, which want it to be `Sync`.
#[derive(Default)]
pub struct Promises(Mutex<Known>);

#[derive(Default)]
struct Known {
    nodes: BTreeMap<String, Promised>,
    /// Who replicated in a term.
    leaders: BTreeMap<u64, u64>,
    /// What stands at an index and term.
    entries: BTreeMap<(u64, u64), blake3::Hash>,
    /// The terms of entries that a leader said were committed, and the first leader's own.
    committed: BTreeMap<u64, (u64, u64)>,
    /// Ids of nodes that vote or did.
    voters: BTreeSet<u64>,
    /// The machines of nodes, by id. A new disk is another node.
    names: BTreeMap<u64, String>,
    broken: Vec<String>,
}

/// What one node has promised, on one disk.
#[derive(Default)]
struct Promised {
    /// The latest term in which it voted or acknowledged anything.
    term: u64,
    votes: BTreeMap<u64, u64>,
    /// Index and term of each entry that it said was synced.
    acknowledged: BTreeMap<u64, u64>,
}

/// What a node's disk holds before it starts.
struct Found {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: Vec<Entry>,
    applied: u64,
}

impl Promises {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found broken since the last call.
    pub fn take_broken(&self) -> Vec<String> {
        std::mem::take(&mut self.known().broken)
    }

    /// `node` gave its vote.
    pub fn voted(&self, node: &str, term: u64, candidate: u64) {
        let mut known = self.known();
        let promised = known.nodes.entry(node.to_owned()).or_default();
        let (before, first) = (promised.term, *promised.votes.entry(term).or_insert(candidate));
        promised.term = before.max(term);
        known.expect(first == candidate, || format!("{node} voted for {first} and for {candidate} in term {term}"));
        known.expect(before <= term, || format!("{node} voted in term {term} after it had promised term {before}"));
    }

    /// The node with this id lives on the machine `node`.
    pub fn named(&self, id: u64, node: &str) {
        self.known().names.entry(id).or_insert_with(|| node.to_owned());
    }

    /// A candidate asks others for their votes.
    pub fn stood(&self, vote: Vote) {
        self.known().note_own(vote);
    }

    /// A leader sent this to `node`.
    pub fn heard(&self, node: &str, request: &AppendRequest) {
        let mut known = self.known();
        let leader = request.vote.unwrap_or_default();
        let first = *known.leaders.entry(leader.term).or_insert(leader.node_id);
        let (term, id) = (leader.term, leader.node_id);
        known.expect(first == id, || format!("nodes {first} and {id} both led in term {term}"));
        known.note_own(leader);
        let next = request.prev_log_id.map_or(0, |prev| prev.index + 1);
        for (entry, place) in request.entries.iter().zip(next..) {
            let index = entry.log_id.unwrap_or_default().index;
            known.expect(index == place, || format!("node {id} sent {node} entry {index} in the place of {place}"));
            known.note_entry(entry, leader.term);
            if let Some(Payload::Membership(membership)) = &entry.payload {
                known.note_voters(membership, &leader, entry.log_id.unwrap_or_default().index);
            }
        }
        if let Some(LogId { term, index }) = request.leader_commit {
            let (first, by) = known.committed.get(&index).copied().unwrap_or((term, leader.term));
            known.committed.insert(index, (first, by.min(leader.term)));
            known.expect(first == term, || format!("{index} is committed in term {first} and in term {term}"));
        }
        let promised = known.nodes.entry(node.to_owned()).or_default();
        if leader.term >= promised.term {
            let sent =
                request.prev_log_id.iter().chain(request.entries.iter().filter_map(|entry| entry.log_id.as_ref()));
            promised.overrule(sent);
        }
    }

    /// `node` said that these entries, sent by a leader of `term`, are synced and equal to the leader's.
    pub fn acknowledged(&self, node: &str, term: u64, entries: impl IntoIterator<Item = (u64, u64)>) {
        let mut known = self.known();
        let promised = known.nodes.entry(node.to_owned()).or_default();
        let before = promised.term;
        promised.term = before.max(term);
        promised.acknowledged.extend(entries);
        known.expect(before <= term, || {
            format!("{node} followed a leader of term {term} after it had promised {before}")
        });
    }

    /// The latest term in which `node` has promised anything on its present disk.
    pub fn term(&self, node: &str) -> u64 {
        self.known().nodes.get(node).map_or(0, |promised| promised.term)
    }

    /// Holds the disk of a node that is about to start against what it has promised. An empty disk promises nothing.
    pub fn check_disk(&self, node: &str, disks: &SimDisks) {
        if disks.contents("identity").is_none() {
            let mut known = self.known();
            known.nodes.remove(node);
            known.names.retain(|_, name| name != node);
            return;
        }
        // What cannot be opened fails at the start itself.
        let Some(found) = look(disks) else { return };
        let mut known = self.known();
        known.check_order(node, &found.entries);
        let purged = found.purged.map_or(0, |id| id.index);
        let applied = found.applied;
        known
            .expect(applied >= purged, || format!("{node} purged its log up to {purged}, its state ends at {applied}"));
        let Some(promised) = known.nodes.remove(node) else { return };
        let wrong = promised.missing_from(&found);
        known.broken.extend(wrong.into_iter().map(|wrong| format!("{node} starts without what it promised: {wrong}")));
        known.nodes.insert(node.to_owned(), promised);
    }
}

impl Known {
    fn expect(&mut self, holds: bool, wrong: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(wrong());
        }
    }

    /// Whoever stands in a term has voted for itself, before it asks anybody. The message may have been on its way for
    /// a while: that it has promised more since is no wonder.
    fn note_own(&mut self, vote: Vote) {
        let Some(name) = self.names.get(&vote.node_id).cloned() else { return };
        let promised = self.nodes.entry(name.clone()).or_default();
        promised.term = promised.term.max(vote.term);
        let first = *promised.votes.entry(vote.term).or_insert(vote.node_id);
        self.expect(first == vote.node_id, || {
            format!("{name} voted for {first} and stood itself in term {}", vote.term)
        });
    }

    fn note_entry(&mut self, entry: &Entry, leader_term: u64) {
        let Some(LogId { term, index }) = entry.log_id else { return };
        let hash = blake3::hash(&entry.encode_to_vec());
        let first = *self.entries.entry((index, term)).or_insert(hash);
        self.expect(first == hash, || format!("two entries have index {index} and term {term}"));
        // A leader of an earlier term that nobody has deposed yet may still hold to its own.
        let committed = self.committed.get(&index).filter(|(_, by)| *by <= leader_term).copied();
        self.expect(committed.is_none_or(|(committed, _)| committed == term), || {
            format!("{index} is committed ({committed:?}), and the leader of term {leader_term} has one of term {term} there")
        });
    }

    /// The members that vote for the first time by the membership at `index`.
    fn note_voters(&mut self, membership: &Membership, leader: &Vote, index: u64) {
        let ids: BTreeSet<u64> = membership.configs.iter().flat_map(|set| set.node_ids.iter().copied()).collect();
        let new: Vec<u64> = ids.into_iter().filter(|id| self.voters.insert(*id) && *id != leader.node_id).collect();
        for member in membership.members.iter().filter(|member| new.contains(&member.node_id) && index > 0) {
            let last = self.nodes.get(&member.name).and_then(Promised::last_acknowledged);
            self.expect(last.is_some_and(|last| last + LAG >= index), || {
                format!("{} became a voter at {index}, and had acknowledged up to {last:?}", member.name)
            });
        }
    }

    /// Terms never decrease along a log, and no entry differs from what others have at its place.
    fn check_order(&mut self, node: &str, entries: &[Entry]) {
        let mut last = 0;
        for entry in entries {
            let LogId { term, index } = entry.log_id.unwrap_or_default();
            self.expect(term >= last, || format!("{node} has an entry of term {term} at {index}, after term {last}"));
            last = term;
            // Entries that nobody was sent yet are its own affair.
            if self.entries.contains_key(&(index, term)) {
                let hash = blake3::hash(&entry.encode_to_vec());
                let first = self.entries[&(index, term)];
                self.expect(first == hash, || format!("{node} has another entry than others at {index}, term {term}"));
            }
        }
    }
}

impl Promised {
    fn last_acknowledged(&self) -> Option<u64> {
        self.acknowledged.keys().next_back().copied()
    }

    /// A leader that sends other entries at these places takes the promise for them back, and for all after them.
    fn overrule<'a>(&mut self, sent: impl Iterator<Item = &'a LogId>) {
        for id in sent {
            if self.acknowledged.get(&id.index).is_some_and(|term| *term != id.term) {
                self.acknowledged.split_off(&id.index);
            }
        }
    }

    fn missing_from(&self, found: &Found) -> Vec<String> {
        let mut wrong = Vec::new();
        let vote = found.vote.unwrap_or_default();
        if vote.term < self.term {
            wrong.push(format!("its vote is of term {}, it had promised term {}", vote.term, self.term));
        }
        // Whoever follows the leader of a term notes that one, whomever it had voted for.
        let voted = self.votes.get(&vote.term).filter(|candidate| !vote.committed && **candidate != vote.node_id);
        if let Some(candidate) = voted {
            wrong.push(format!("its vote in term {} is for {}, it was for {candidate}", vote.term, vote.node_id));
        }
        // What is in the state is not needed in the log.
        let covered = found.purged.map_or(0, |id| id.index).max(found.applied);
        let held: BTreeMap<u64, u64> =
            found.entries.iter().filter_map(|entry| entry.log_id).map(|id| (id.index, id.term)).collect();
        let lost = self.acknowledged.range(covered + 1..).find(|(index, term)| held.get(index) != Some(term));
        if let Some((index, term)) = lost {
            let now = held.get(index);
            wrong.push(format!("entry {index} of term {term}, which it acknowledged, is not on its disk: {now:?}"));
        }
        wrong
    }
}

/// Opens copies of the files, so that nothing is changed by looking.
fn look(disks: &SimDisks) -> Option<Found> {
    let log = LogFile::on(copy(disks, "log.redb")?, copy(disks, "log.redb.witness"), Blocking::Inline).ok()?;
    let store = LogStore::new(log);
    let purged = store.bounds().ok()?.last_purged_log_id;
    let mut entries = Vec::new();
    let visited = store.each_after(purged, |entry| {
        entries.push(convert::entry(&entry));
        Ok(())
    });
    visited.ok()?;
    let state = StateFile::open(copy(disks, "state.redb")?).ok()?;
    let applied = StateMeta::read(&state.view().ok()?).ok()?.applied;
    Some(Found {
        vote: store.vote().ok()?.as_ref().map(convert::vote),
        purged: purged.as_ref().map(convert::log_id),
        entries,
        applied: applied.map_or(0, |id| id.index()),
    })
}

fn copy(disks: &SimDisks, name: &str) -> Option<Disk> {
    let apart = SimDisks::new(0);
    apart.write_small(name, &disks.contents(name)?).ok()?;
    apart.open(name, Open::Existing).ok()
}

#[cfg(test)]
mod tests {
    use quorate::wire::raft::{Member, VoterSet};

    use super::*;

    const LEADER: Vote = Vote { term: 3, node_id: 1, committed: true };

    fn id(term: u64, index: u64) -> LogId {
        LogId { term, index }
    }

    fn entry(term: u64, index: u64) -> Entry {
        Entry { log_id: Some(id(term, index)), payload: None }
    }

    fn append(leader: Vote, entries: Vec<Entry>, leader_commit: Option<LogId>) -> AppendRequest {
        let first = entries.first().and_then(|entry| entry.log_id);
        let prev_log_id = first.map(|first| id(3, first.index - 1));
        AppendRequest { vote: Some(leader), prev_log_id, entries, leader_commit }
    }

    fn found(vote: Vote, entries: Vec<Entry>) -> Found {
        Found { vote: Some(vote), purged: None, entries, applied: 0 }
    }

    #[test]
    fn what_is_kept_is_not_complained_about() {
        let promises = Promises::default();
        promises.voted("n2", 3, 1);
        promises.heard("n2", &append(LEADER, vec![entry(3, 1), entry(3, 2)], Some(id(3, 1))));
        promises.acknowledged("n2", 3, [(1, 3), (2, 3)]);
        let known = promises.known();
        assert_eq!(known.nodes["n2"].last_acknowledged(), Some(2));
        assert!(known.nodes["n2"].missing_from(&found(LEADER, vec![entry(3, 1), entry(3, 2)])).is_empty());
        assert!(known.broken.is_empty(), "{:?}", known.broken);
    }

    #[test]
    fn every_broken_promise_to_a_peer_is_named() {
        let promises = Promises::default();
        let complains = |about: &str| {
            let broken = promises.take_broken();
            assert!(broken.len() == 1 && broken[0].contains(about), "{about}: {broken:?}");
        };
        promises.voted("n2", 3, 1);
        promises.voted("n2", 3, 4);
        complains("n2 voted for 1 and for 4 in term 3");
        promises.voted("n2", 2, 4);
        complains("after it had promised term 3");
        promises.heard("n2", &append(LEADER, vec![entry(3, 1)], Some(id(3, 1))));
        promises.heard("n3", &append(Vote { node_id: 4, ..LEADER }, vec![], None));
        complains("both led in term 3");
        promises.heard("n2", &append(Vote { term: 4, ..LEADER }, vec![entry(4, 1)], None));
        complains("the leader of term 4 has one of term 4 there");
        promises.heard("n2", &append(Vote { term: 4, ..LEADER }, vec![], Some(id(4, 1))));
        complains("1 is committed in term 3 and in term 4");
        promises.acknowledged("n2", 1, []);
        complains("followed a leader of term 1");
        promises.heard("n2", &append(LEADER, vec![entry(3, 1), entry(3, 3)], None));
        complains("node 1 sent n2 entry 3 in the place of 2");
        let other = Entry { payload: Some(Payload::Batch("x".into())), ..entry(3, 1) };
        promises.heard("n2", &append(LEADER, vec![other], None));
        complains("two entries have index 1 and term 3");
    }

    #[test]
    fn what_a_disk_lacks_of_a_promise_is_named() {
        let promises = Promises::default();
        promises.voted("n2", 3, 1);
        promises.acknowledged("n2", 3, [(1, 3), (2, 3)]);
        let known = promises.known();
        let missing = |found| known.nodes["n2"].missing_from(&found).join("; ");
        let whole = || vec![entry(3, 1), entry(3, 2)];
        assert!(missing(found(LEADER, vec![entry(3, 1)])).contains("entry 2 of term 3"));
        assert!(missing(found(LEADER, vec![entry(3, 1), entry(2, 2)])).contains("entry 2 of term 3"));
        assert!(missing(found(Vote { term: 2, ..LEADER }, whole())).contains("its vote is of term 2"));
        let other = Vote { node_id: 4, ..LEADER };
        assert!(missing(found(Vote { committed: false, ..other }, whole())).contains("it was for 1"));
        assert_eq!(missing(found(other, whole())), "", "it follows whoever won");
        assert_eq!(missing(Found { applied: 2, ..found(LEADER, vec![]) }), "", "the state holds it");
    }

    #[test]
    fn whoever_stands_has_voted_for_itself() {
        let promises = Promises::default();
        let own = Vote { term: 5, node_id: 2, committed: false };
        promises.stood(own);
        promises.named(2, "n2");
        promises.voted("n2", 4, 1);
        promises.stood(own);
        let known = promises.known();
        let missing = |vote| known.nodes["n2"].missing_from(&found(vote, vec![])).join("; ");
        assert_eq!(missing(own), "");
        assert!(missing(Vote { term: 4, node_id: 1, committed: false }).contains("its vote is of term 4"));
        assert!(missing(Vote { node_id: 1, ..own }).contains("it was for 2"));
        drop(known);
        promises.stood(Vote { term: 4, ..own });
        assert!(promises.take_broken()[0].contains("n2 voted for 1 and stood itself in term 4"));
        promises.check_disk("n2", &SimDisks::new(0));
        promises.stood(own);
        assert_eq!(promises.term("n2"), 0, "what was on its way from the disk before binds nobody");
    }

    #[test]
    fn a_later_leader_may_overrule_what_was_acknowledged() {
        let promises = Promises::default();
        promises.acknowledged("n2", 3, [(1, 3), (2, 3), (3, 3)]);
        promises.heard("n2", &append(Vote { term: 4, ..LEADER }, vec![entry(4, 2)], None));
        assert_eq!(promises.known().nodes["n2"].last_acknowledged(), Some(1));
        let broken = promises.take_broken();
        assert!(broken.is_empty(), "{broken:?}");
    }

    #[test]
    fn whoever_votes_has_caught_up() {
        let joined = |index: u64| {
            let promises = Promises::default();
            promises.acknowledged("n2", 3, [(10, 3)]);
            let configs = vec![VoterSet { node_ids: vec![1, 2] }];
            let member = |id: u64| Member { node_id: id, name: format!("n{id}"), ..Default::default() };
            let membership = Membership { configs, members: vec![member(1), member(2)] };
            let entry = Entry { payload: Some(Payload::Membership(membership)), ..entry(3, index) };
            promises.heard("n2", &append(LEADER, vec![entry.clone()], None));
            promises.heard("n3", &append(LEADER, vec![entry], None));
            promises.take_broken().len()
        };
        assert_eq!((joined(11), joined(10 + LAG), joined(11 + LAG)), (0, 0, 1));
    }
}
