//! What nodes have promised their peers, recorded outside them, and compared with what they do and store later.
//!
//! These are Raft's safety properties (figure 3 of the paper), and what a node owes for them across a restart:
//!
//! | promise | violated when |
//! |---|---|
//! | election safety: a term has one leader | two nodes replicate in one term |
//! | a node has one vote in a term, and its term never falls | it votes otherwise, or its disk lacks the vote after a restart |
//! | a candidate or leader has its own vote | its disk lacks this vote, or has another's, after a restart |
//! | log matching: entries of one index and term are equal | an entry differs from the one that was seen before |
//! | a log has no hole | a leader sends entries that do not follow the entry it names before them |
//! | a committed entry stays (leader completeness) | a leader of the same term or a later one replicates another entry at its index |
//! | an entry that was acknowledged to a leader is synced | it is gone after a restart, though no later leader overwrote it |
//! | a node whose disk went back votes for nobody until it has caught up | it votes, or asks for votes, before it acknowledged all that was committed when the disk went back |
//! | a node votes once it has caught up | the change that makes it a voter finds it far behind, or silent |
//! | purged entries are in the state | the state on disk ends before the log starts |
//!
//! Not checked here: what the entries do (the ledger, the digests), and whether anything happens at all (the bounds of
//! [`Cluster`](crate::cluster::Cluster)).

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

/// Entries that a learner may be behind when it becomes a voter: what the product allows, and what may be written while
/// it decides.
const LAG: u64 = 192;

/// All promises of all nodes. It is behind a lock because the nodes' services must be `Sync`; one thread uses it.
#[derive(Default)]
pub struct Promises(Mutex<Record>);

/// Invariants:
/// - `leaders`, `entries` and `voters` only grow: what was seen first stands, and later messages are compared with it.
/// - A node's promises belong to one disk. They are dropped when the node starts on an empty disk, together with its id
///   in `names`; a message that was still on its way from the old disk then binds nobody.
#[derive(Default)]
struct Record {
    /// By the name of the machine.
    nodes: BTreeMap<String, NodePromises>,
    /// The node id that replicated in each term.
    leaders: BTreeMap<u64, u64>,
    /// The hash of the entry with each index and term.
    entries: BTreeMap<(u64, u64), blake3::Hash>,
    /// By index: the term of an entry that a leader called committed, and the lowest term of a leader that did.
    committed: BTreeMap<u64, (u64, u64)>,
    /// Ids of nodes that vote, or once did.
    voters: BTreeSet<u64>,
    /// The machine on which each node id runs.
    names: BTreeMap<u64, String>,
    /// The term up to which a machine has forgotten its candidacies. A message of then may still be under way.
    forgotten: BTreeMap<String, u64>,
    /// Machines whose disks went back, with the highest index that was committed then: they vote once they have it again.
    behind: BTreeMap<String, u64>,
    violations: Vec<String>,
}

/// What one node has promised, on its present disk.
#[derive(Default)]
struct NodePromises {
    /// The highest term in which it voted or acknowledged anything. It never falls.
    term: u64,
    /// The candidate it voted for, by term.
    votes: BTreeMap<u64, u64>,
    /// The term of each entry that it called synced, by index, as long as no later leader overwrote it.
    acknowledged: BTreeMap<u64, u64>,
}

/// What a node's disk holds before it starts.
struct DiskContents {
    vote: Option<Vote>,
    /// The last entry that was purged from the log.
    purged: Option<LogId>,
    entries: Vec<Entry>,
    /// The index up to which the state has applied the log.
    applied: u64,
}

impl Promises {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The violations found since the last call.
    pub fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.record().violations)
    }

    /// Records that `node` granted its vote.
    pub fn vote_granted(&self, node: &str, term: u64, candidate: u64) {
        let mut record = self.record();
        let promised = record.nodes.entry(node.to_owned()).or_default();
        let acknowledged = promised.last_acknowledged();
        let (before, first) = (promised.term, *promised.votes.entry(term).or_insert(candidate));
        promised.term = before.max(term);
        record.expect_caught_up(node, acknowledged);
        record.expect(first == candidate, || format!("{node} voted for both {first} and {candidate} in term {term}"));
        record.expect(before <= term, || format!("{node} voted in term {term} after it promised term {before}"));
    }

    /// Records that the node with this id runs on the machine `node`.
    pub fn node_runs_on(&self, id: u64, node: &str) {
        self.record().names.entry(id).or_insert_with(|| node.to_owned());
    }

    /// Records that a candidate asks for votes: it has voted for itself.
    pub fn vote_requested(&self, vote: Vote) {
        self.record().own_vote(vote);
    }

    /// Records an append request that reached `node`.
    pub fn append_received(&self, node: &str, request: &AppendRequest) {
        let mut record = self.record();
        let leader = request.vote.unwrap_or_default();
        let first = *record.leaders.entry(leader.term).or_insert(leader.node_id);
        let (term, id) = (leader.term, leader.node_id);
        record.expect(first == id, || format!("nodes {first} and {id} both led in term {term}"));
        record.own_vote(leader);
        // Raft's consistency check holds for the first entry only; the others must follow it without a hole.
        let next = request.prev_log_id.map_or(0, |prev| prev.index + 1);
        for (entry, place) in request.entries.iter().zip(next..) {
            let index = entry.log_id.unwrap_or_default().index;
            record
                .expect(index == place, || format!("node {id} sent {node} entry {index} where entry {place} follows"));
            record.replicated(entry, leader.term);
            if let Some(Payload::Membership(membership)) = &entry.payload {
                record.new_voters(membership, &leader, entry.log_id.unwrap_or_default().index);
            }
        }
        if let Some(LogId { term, index }) = request.leader_commit {
            let (first, by) = record.committed.get(&index).copied().unwrap_or((term, leader.term));
            record.committed.insert(index, (first, by.min(leader.term)));
            record.expect(first == term, || {
                format!("the entry at index {index} is committed with term {first} and with term {term}")
            });
        }
        let promised = record.nodes.entry(node.to_owned()).or_default();
        if leader.term >= promised.term {
            let sent =
                request.prev_log_id.iter().chain(request.entries.iter().filter_map(|entry| entry.log_id.as_ref()));
            // The previous entry counts too: the node truncates its log if its own entry there differs.
            promised.overwritten_by(sent);
        }
    }

    /// Records that `node` called these entries (index and term), sent by a leader of `term`, synced and equal to the
    /// leader's.
    pub fn append_acknowledged(&self, node: &str, term: u64, entries: impl IntoIterator<Item = (u64, u64)>) {
        let mut record = self.record();
        let promised = record.nodes.entry(node.to_owned()).or_default();
        let before = promised.term;
        promised.term = before.max(term);
        promised.acknowledged.extend(entries);
        record.expect(before <= term, || {
            format!("{node} followed a leader of term {term} after it promised term {before}")
        });
    }

    /// The disk of `node` is about to go back in time. Its promises so far are forgotten, and kept by the others.
    pub fn forget(&self, node: &str, disks: &SimDisks) {
        let term = read_disk(disks).and_then(|found| found.vote).map_or(0, |vote| vote.term);
        let mut record = self.record();
        record.nodes.remove(node);
        let committed = record.committed.keys().next_back().copied().unwrap_or(0);
        record.behind.insert(node.to_owned(), committed);
        let forgotten = record.forgotten.entry(node.to_owned()).or_default();
        *forgotten = term.max(*forgotten);
    }

    /// The highest term in which `node` promised anything on its present disk.
    pub fn term(&self, node: &str) -> u64 {
        self.record().nodes.get(node).map_or(0, |promised| promised.term)
    }

    /// Compares the disk of a node that is about to start with its promises. An empty disk makes it a new node, which
    /// has promised nothing.
    pub fn check_disk(&self, node: &str, disks: &SimDisks) {
        if disks.contents("identity").is_none() {
            let mut record = self.record();
            record.nodes.remove(node);
            record.behind.remove(node);
            record.names.retain(|_, name| name != node);
            return;
        }
        // If the files cannot be opened, the start fails and reports that.
        let Some(found) = read_disk(disks) else { return };
        let mut record = self.record();
        record.check_order(node, &found.entries);
        let purged = found.purged.map_or(0, |id| id.index);
        let applied = found.applied;
        record.expect(applied >= purged, || {
            format!("{node} purged its log up to index {purged}, but its state ends at {applied}")
        });
        let Some(promised) = record.nodes.remove(node) else { return };
        let missing = promised.missing_from(&found);
        record
            .violations
            .extend(missing.into_iter().map(|what| format!("{node} starts without what it promised: {what}")));
        record.nodes.insert(node.to_owned(), promised);
    }
}

impl Record {
    fn expect(&mut self, holds: bool, violation: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(violation());
        }
    }

    /// A vote of a node whose disk went back needs everything that was committed when it did.
    fn expect_caught_up(&mut self, node: &str, acknowledged: Option<u64>) {
        let Some(needed) = self.behind.get(node).copied() else { return };
        let has_all = acknowledged.is_some_and(|index| index >= needed);
        self.behind.retain(|name, _| name != node || !has_all);
        self.expect(has_all, || format!("{node} votes after its disk went back, with {acknowledged:?} of {needed}"));
    }

    /// A candidate or leader of a term has voted for itself before it sends anything. Its message may be old: that the
    /// node has promised a higher term since is no violation.
    fn own_vote(&mut self, vote: Vote) {
        let Some(name) = self.names.get(&vote.node_id).cloned() else { return };
        if self.forgotten.get(&name).is_some_and(|term| vote.term <= *term) {
            return;
        }
        let promised = self.nodes.entry(name.clone()).or_default();
        let acknowledged = promised.last_acknowledged();
        self.expect_caught_up(&name, acknowledged);
        let promised = self.nodes.entry(name.clone()).or_default();
        promised.term = promised.term.max(vote.term);
        let first = *promised.votes.entry(vote.term).or_insert(vote.node_id);
        self.expect(first == vote.node_id, || {
            format!("{name} voted for {first} and was a candidate itself in term {}", vote.term)
        });
    }

    /// Checks an entry that a leader of `leader_term` replicates: log matching, and that committed entries stay.
    fn replicated(&mut self, entry: &Entry, leader_term: u64) {
        let Some(LogId { term, index }) = entry.log_id else { return };
        let hash = blake3::hash(&entry.encode_to_vec());
        let first = *self.entries.entry((index, term)).or_insert(hash);
        self.expect(first == hash, || format!("two different entries have index {index} and term {term}"));
        // A deposed leader of an earlier term that has not noticed yet may still replicate its own entry.
        let committed = self.committed.get(&index).filter(|(_, by)| *by <= leader_term).copied();
        self.expect(committed.is_none_or(|(committed, _)| committed == term), || {
            format!("index {index} is committed ({committed:?}), but the leader of term {leader_term} replicates an entry of term {term} there")
        });
    }

    /// Checks the members that vote for the first time by the membership at `index`: each must have caught up. The
    /// leader has the entry by definition, and the founder has index 0.
    fn new_voters(&mut self, membership: &Membership, leader: &Vote, index: u64) {
        let ids: BTreeSet<u64> = membership.configs.iter().flat_map(|set| set.node_ids.iter().copied()).collect();
        let new: Vec<u64> = ids.into_iter().filter(|id| self.voters.insert(*id) && *id != leader.node_id).collect();
        for member in membership.members.iter().filter(|member| new.contains(&member.node_id) && index > 0) {
            let last = self.nodes.get(&member.name).and_then(NodePromises::last_acknowledged);
            self.expect(last.is_some_and(|last| last + LAG >= index), || {
                format!("{} became a voter at index {index}, but had acknowledged only up to {last:?}", member.name)
            });
        }
    }

    /// Checks a log on disk: terms never fall along it, and no entry differs from the one that was replicated with its
    /// index and term.
    fn check_order(&mut self, node: &str, entries: &[Entry]) {
        let mut last = 0;
        for entry in entries {
            let LogId { term, index } = entry.log_id.unwrap_or_default();
            self.expect(term >= last, || {
                format!("{node} has an entry of term {term} at index {index}, after one of term {last}")
            });
            last = term;
            // An entry that was never sent to anybody cannot contradict another one.
            if self.entries.contains_key(&(index, term)) {
                let hash = blake3::hash(&entry.encode_to_vec());
                let first = self.entries[&(index, term)];
                self.expect(first == hash, || {
                    format!("{node} has a different entry than others at index {index}, term {term}")
                });
            }
        }
    }
}

impl NodePromises {
    fn last_acknowledged(&self) -> Option<u64> {
        self.acknowledged.keys().next_back().copied()
    }

    /// A later leader may overwrite acknowledged entries that were not committed. This ends the promise for them and
    /// for all entries behind them.
    fn overwritten_by<'a>(&mut self, sent: impl Iterator<Item = &'a LogId>) {
        for id in sent {
            if self.acknowledged.get(&id.index).is_some_and(|term| *term != id.term) {
                self.acknowledged.split_off(&id.index);
            }
        }
    }

    /// Lists the promises that the disk does not keep.
    fn missing_from(&self, found: &DiskContents) -> Vec<String> {
        let mut missing = Vec::new();
        let vote = found.vote.unwrap_or_default();
        if vote.term < self.term {
            missing.push(format!("its vote is of term {}, but it promised term {}", vote.term, self.term));
        }
        // A follower stores its leader as the vote of the term, whichever candidate it voted for, and marks it
        // committed.
        let voted = self.votes.get(&vote.term).filter(|candidate| !vote.committed && **candidate != vote.node_id);
        if let Some(candidate) = voted {
            missing.push(format!("its vote in term {} is for {}, but it was for {candidate}", vote.term, vote.node_id));
        }
        // Entries that the state has applied, or that were purged, need not be in the log.
        let covered = found.purged.map_or(0, |id| id.index).max(found.applied);
        let on_disk: BTreeMap<u64, u64> =
            found.entries.iter().filter_map(|entry| entry.log_id).map(|id| (id.index, id.term)).collect();
        let lost = self.acknowledged.range(covered + 1..).find(|(index, term)| on_disk.get(index) != Some(term));
        if let Some((index, term)) = lost {
            let found = on_disk.get(index);
            missing.push(format!(
                "entry {index} of term {term}, which it acknowledged, is not on its disk; term found there: {found:?}"
            ));
        }
        missing
    }
}

/// Reads a node's disk. It opens copies of the files, because opening a redb file may repair and so change it.
fn read_disk(disks: &SimDisks) -> Option<DiskContents> {
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
    Some(DiskContents {
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
        AppendRequest { vote: Some(leader), prev_log_id, entries, leader_commit, time_ms: 0 }
    }

    fn found(vote: Vote, entries: Vec<Entry>) -> DiskContents {
        DiskContents { vote: Some(vote), purged: None, entries, applied: 0 }
    }

    #[test]
    fn promises_that_are_kept_are_no_violations() {
        let promises = Promises::default();
        promises.vote_granted("n2", 3, 1);
        promises.append_received("n2", &append(LEADER, vec![entry(3, 1), entry(3, 2)], Some(id(3, 1))));
        promises.append_acknowledged("n2", 3, [(1, 3), (2, 3)]);
        let record = promises.record();
        assert_eq!(record.nodes["n2"].last_acknowledged(), Some(2));
        assert!(record.nodes["n2"].missing_from(&found(LEADER, vec![entry(3, 1), entry(3, 2)])).is_empty());
        assert!(record.violations.is_empty(), "{:?}", record.violations);
    }

    #[test]
    fn every_violated_promise_to_a_peer_is_named() {
        let promises = Promises::default();
        let violates = |about: &str| {
            let violations = promises.take_violations();
            assert!(violations.len() == 1 && violations[0].contains(about), "{about}: {violations:?}");
        };
        promises.vote_granted("n2", 3, 1);
        promises.vote_granted("n2", 3, 4);
        violates("n2 voted for both 1 and 4 in term 3");
        promises.vote_granted("n2", 2, 4);
        violates("after it promised term 3");
        promises.append_received("n2", &append(LEADER, vec![entry(3, 1)], Some(id(3, 1))));
        promises.append_received("n3", &append(Vote { node_id: 4, ..LEADER }, vec![], None));
        violates("both led in term 3");
        promises.append_received("n2", &append(Vote { term: 4, ..LEADER }, vec![entry(4, 1)], None));
        violates("the leader of term 4 replicates an entry of term 4 there");
        promises.append_received("n2", &append(Vote { term: 4, ..LEADER }, vec![], Some(id(4, 1))));
        violates("index 1 is committed with term 3 and with term 4");
        promises.append_acknowledged("n2", 1, []);
        violates("followed a leader of term 1");
        promises.append_received("n2", &append(LEADER, vec![entry(3, 1), entry(3, 3)], None));
        violates("node 1 sent n2 entry 3 where entry 2 follows");
        let other = Entry { payload: Some(Payload::Batch("x".into())), ..entry(3, 1) };
        promises.append_received("n2", &append(LEADER, vec![other], None));
        violates("two different entries have index 1 and term 3");
    }

    #[test]
    fn a_promise_that_the_disk_lacks_is_named() {
        let promises = Promises::default();
        promises.vote_granted("n2", 3, 1);
        promises.append_acknowledged("n2", 3, [(1, 3), (2, 3)]);
        let record = promises.record();
        let missing = |found| record.nodes["n2"].missing_from(&found).join("; ");
        let whole = || vec![entry(3, 1), entry(3, 2)];
        assert!(missing(found(LEADER, vec![entry(3, 1)])).contains("entry 2 of term 3"));
        assert!(missing(found(LEADER, vec![entry(3, 1), entry(2, 2)])).contains("entry 2 of term 3"));
        assert!(missing(found(Vote { term: 2, ..LEADER }, whole())).contains("its vote is of term 2"));
        let other = Vote { node_id: 4, ..LEADER };
        assert!(missing(found(Vote { committed: false, ..other }, whole())).contains("but it was for 1"));
        assert_eq!(missing(found(other, whole())), "", "a follower stores the leader that won");
        assert_eq!(
            missing(DiskContents { applied: 2, ..found(LEADER, vec![]) }),
            "",
            "the state has applied the entries"
        );
    }

    #[test]
    fn a_candidate_has_voted_for_itself() {
        let promises = Promises::default();
        let own = Vote { term: 5, node_id: 2, committed: false };
        promises.vote_requested(own);
        promises.node_runs_on(2, "n2");
        promises.vote_granted("n2", 4, 1);
        promises.vote_requested(own);
        let record = promises.record();
        let missing = |vote| record.nodes["n2"].missing_from(&found(vote, vec![])).join("; ");
        assert_eq!(missing(own), "");
        assert!(missing(Vote { term: 4, node_id: 1, committed: false }).contains("its vote is of term 4"));
        assert!(missing(Vote { node_id: 1, ..own }).contains("but it was for 2"));
        drop(record);
        promises.vote_requested(Vote { term: 4, ..own });
        assert!(promises.take_violations()[0].contains("n2 voted for 1 and was a candidate itself in term 4"));
        promises.check_disk("n2", &SimDisks::new(0));
        promises.vote_requested(own);
        assert_eq!(promises.term("n2"), 0, "a late message from the old disk binds nobody");
    }

    #[test]
    fn a_later_leader_may_overwrite_acknowledged_entries() {
        let promises = Promises::default();
        promises.append_acknowledged("n2", 3, [(1, 3), (2, 3), (3, 3)]);
        promises.append_received("n2", &append(Vote { term: 4, ..LEADER }, vec![entry(4, 2)], None));
        assert_eq!(promises.record().nodes["n2"].last_acknowledged(), Some(1));
        let violations = promises.take_violations();
        assert!(violations.is_empty(), "{violations:?}");
    }

    #[test]
    fn a_new_voter_has_caught_up() {
        let joined = |index: u64| {
            let promises = Promises::default();
            promises.append_acknowledged("n2", 3, [(10, 3)]);
            let configs = vec![VoterSet { node_ids: vec![1, 2] }];
            let member = |id: u64| Member { node_id: id, name: format!("n{id}"), ..Default::default() };
            let membership = Membership { configs, members: vec![member(1), member(2)] };
            let entry = Entry { payload: Some(Payload::Membership(membership)), ..entry(3, index) };
            promises.append_received("n2", &append(LEADER, vec![entry.clone()], None));
            promises.append_received("n3", &append(LEADER, vec![entry], None));
            promises.take_violations().len()
        };
        assert_eq!((joined(11), joined(10 + LAG), joined(11 + LAG)), (0, 0, 1));
    }
}
