//! Whether the disk of this node is trusted, and what it tells and hears about disks with every call between peers.
//!
//! A disk that may have gone back in time has forgotten votes and acknowledgements. Its node is in one of two stages until
//! it is trusted again; `docs/adr/0050` argues why nothing acknowledged is lost meanwhile:
//!
//! | stage | calls of consensus | votes | ends when |
//! |---|---|---|---|
//! | verifying | refused, with `VERIFYING` | none | a leader vouches: a fresh entry, the barrier, was committed without this node |
//! | catching up | answered, from the barrier's term on | none | everything up to the barrier is durable here |

use std::sync::Arc;

use tokio::sync::watch;
use tonic::{
    Status,
    metadata::{MetadataMap, MetadataValue},
};

use super::{
    PeerMemory,
    incarnation::{Announcement, Incarnation, Stage},
    peer_memory::Evidence,
    types::LogId,
};
use crate::{
    fault_injection::{self, Bug},
    types::NodeId,
    wire::{Fault, Reason, metadata},
};

/// The state of this node's own disk, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnState {
    /// What the others are told.
    pub said: Announcement,
    /// Why the disk is not trusted.
    pub why: String,
    /// Voters that have not been heard since the start: for messages.
    pub unheard: Vec<String>,
    /// What must be durable here before the disk is trusted.
    pub barrier: Option<LogId>,
    /// An operator has taken the responsibility for this run of the process: what the others remember counts no more.
    pub trusted_by_operator: bool,
}

/// The trust in this node's own disk. Cheap to clone; all clones are the same.
///
/// Invariant: `barrier` is set exactly while catching up.
#[derive(Debug, Clone)]
pub struct OwnDisk {
    name: Arc<str>,
    state: Arc<watch::Sender<OwnState>>,
}

impl OwnDisk {
    /// The disk of the node called `name`, which starts with `said`; suspicious for the reason `why`.
    pub fn new(name: &str, said: Announcement, why: Option<String>, trusted_by_operator: bool) -> Self {
        let stage = if why.is_some() { Stage::Verifying } else { Stage::Trusted };
        let (said, why) = (Announcement { stage, ..said }, why.unwrap_or_default());
        let state = OwnState { said, why, unheard: Vec::new(), barrier: None, trusted_by_operator };
        Self { name: name.into(), state: Arc::new(watch::Sender::new(state)) }
    }

    /// The state now.
    pub fn state(&self) -> OwnState {
        self.state.borrow().clone()
    }

    /// Changes with the state.
    pub fn changes(&self) -> watch::Receiver<OwnState> {
        self.state.subscribe()
    }

    /// The stage now.
    pub fn stage(&self) -> Stage {
        self.state.borrow().said.stage
    }

    /// Takes the trust away, on the word of a peer. Ignores evidence about another start.
    pub fn accuse(&self, evidence: &Evidence) {
        self.state.send_if_modified(|state| {
            let (start, verifying) = (state.said.incarnation.start, state.said.stage == Stage::Verifying);
            if evidence.about != state.said.incarnation || (verifying && evidence.known_start < start) {
                return false;
            }
            // Another number, above all that is remembered: so that promises before it can be told from those after it.
            state.said.incarnation.start = evidence.known_start.max(start) + 1;
            if state.trusted_by_operator {
                state.said.recovered = state.said.incarnation.start;
                tracing::warn!(why = evidence.why, "this node's disk went back in time, and is trusted all the same");
                return true;
            }
            if !verifying {
                tracing::error!(why = evidence.why, "this node's disk went back in time: it votes for nobody");
                state.why = format!("it went back in time: {}", evidence.why);
            }
            (state.said.stage, state.barrier) = (Stage::Verifying, None);
            true
        });
    }

    /// A leader that remembers this node's start `known_start` has committed `barrier` without this node.
    pub fn vouched(&self, barrier: LogId, known_start: u64) {
        self.state.send_if_modified(|state| {
            if state.said.stage != Stage::Verifying {
                return false;
            }
            // Another number: promises and evidence of before are about the old one.
            let start = known_start.max(state.said.incarnation.start) + 1;
            (state.said.incarnation.start, state.said.recovered) = (start, start);
            (state.said.stage, state.barrier) = (Stage::CatchingUp, Some(barrier));
            true
        });
    }

    /// Trusts the disk again, unless something has changed since `seen`. Returns whether it does.
    pub fn trust(&self, seen: &OwnState) -> bool {
        self.state.send_if_modified(|state| {
            if state.said != seen.said {
                return false;
            }
            (state.said.stage, state.barrier) = (Stage::Trusted, None);
            state.why.clear();
            true
        })
    }

    /// Notes which voters gave no answer.
    pub fn set_unheard(&self, unheard: Vec<String>) {
        self.state.send_if_modified(|state| std::mem::replace(&mut state.unheard, unheard.clone()) != unheard);
    }

    /// Whether this node may answer a leader of `term`.
    pub fn may_follow(&self, term: u64) -> Result<(), Fault> {
        let state = self.state.borrow();
        let late = state.barrier.is_some_and(|barrier| term < barrier.committed_leader_id().term);
        if bars(state.said.stage != Stage::Trusted && (late || state.said.stage == Stage::Verifying)) {
            Err(self.refusal(&state))
        } else {
            Ok(())
        }
    }

    /// Whether this node may answer calls of consensus at all.
    pub fn may_answer(&self) -> Result<(), Fault> {
        let state = self.state.borrow();
        if bars(state.said.stage == Stage::Verifying) { Err(self.refusal(&state)) } else { Ok(()) }
    }

    /// Whether this node may vote, and stand for election.
    pub fn may_vote(&self) -> Result<(), Fault> {
        let state = self.state.borrow();
        if bars(state.said.stage != Stage::Trusted) { Err(self.refusal(&state)) } else { Ok(()) }
    }

    /// Why this node takes no part now.
    pub fn refusal_now(&self) -> Option<Fault> {
        let state = self.state.borrow();
        (state.said.stage != Stage::Trusted).then(|| self.refusal(&state))
    }

    fn refusal(&self, state: &OwnState) -> Fault {
        let (name, why) = (&self.name, &state.why);
        let until = match (state.said.stage, state.unheard.as_slice()) {
            (Stage::CatchingUp, _) => "it has caught up with what it may have forgotten".to_owned(),
            (_, []) => "the others elect a leader that vouches for it".to_owned(),
            (_, unheard) => format!("{} is heard", unheard.join(" or ")),
        };
        Fault::new(Reason::Verifying, format!("{name}'s disk cannot be trusted until {until}: {why}")).next(format!(
            "start the other nodes; if they are gone for good, or fewer than three vote: `chat-node run --trust-this-disk` on {name}"
        ))
    }
}

/// Whether a node takes no part that is `untrusted`.
fn bars(untrusted: bool) -> bool {
    untrusted && !fault_injection::enabled(Bug::TrustTheCopy)
}

/// What this node tells and hears about disks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DiskChecks {
    /// Its own disk.
    pub own: OwnDisk,
    /// The promises of the others.
    pub peers: PeerMemory,
}

impl DiskChecks {
    /// Writes what this node says of itself, and what it holds against `other`, into a call or an answer.
    pub fn stamp(&self, headers: &mut MetadataMap, other: NodeId) {
        if let Ok(said) = MetadataValue::try_from(self.own.state.borrow().said.to_string()) {
            headers.insert(metadata::INCARNATION, said);
        }
        if let Some(evidence) = self.peers.evidence(other) {
            write_evidence(headers, &evidence);
        }
    }

    /// Hears a call of the peer `from`. A peer whose disk went back in time is refused, and told why.
    pub fn hear_call(&self, from: NodeId, headers: &MetadataMap) -> Result<(), Status> {
        self.hear(from, headers).map_err(|evidence| {
            let mut status = Status::from(Fault::new(Reason::RolledBack, evidence.why.clone()));
            write_evidence(status.metadata_mut(), &evidence);
            status
        })
    }

    /// Hears an answer of the peer at the address of `from`.
    pub fn hear_answer(&self, from: NodeId, headers: &MetadataMap) -> Result<(), Evidence> {
        if let Some(said) = read_announcement(headers) {
            self.peers.note_heard(from, said.incarnation);
        }
        self.hear(from, headers)
    }

    fn hear(&self, from: NodeId, headers: &MetadataMap) -> Result<(), Evidence> {
        if let Some(evidence) = read_evidence(headers) {
            self.own.accuse(&evidence);
        }
        // An older program says nothing of itself.
        read_announcement(headers).map_or(Ok(()), |said| self.peers.meet(from, &said))
    }
}

fn read_announcement(headers: &MetadataMap) -> Option<Announcement> {
    headers.get(metadata::INCARNATION)?.to_str().ok()?.parse().ok()
}

/// The words may be in any language: hexadecimal keeps them within what a header may hold.
fn write_evidence(headers: &mut MetadataMap, evidence: &Evidence) {
    let Incarnation { start, random } = evidence.about;
    let words: String = evidence.why.bytes().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("{start}.{random}.{}.{words}", evidence.known_start);
    if let Ok(value) = MetadataValue::try_from(text) {
        headers.insert(metadata::EVIDENCE, value);
    }
}

fn read_evidence(headers: &MetadataMap) -> Option<Evidence> {
    let text = headers.get(metadata::EVIDENCE)?.to_str().ok()?;
    let mut parts = text.splitn(4, '.');
    let mut number = || parts.next()?.parse().ok();
    let (start, random, known_start) = (number()?, number()?, number()?);
    let words = parts.next()?.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
    let why = String::from_utf8_lossy(&words.collect::<Option<Vec<u8>>>()?).into_owned();
    Some(Evidence { about: Incarnation { start, random }, known_start, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_reads_back() {
        let about = Incarnation { start: 3, random: 77 };
        let evidence = Evidence { about, known_start: 9, why: "größer als 5: ☃".into() };
        let mut headers = MetadataMap::new();
        write_evidence(&mut headers, &evidence);
        assert_eq!(read_evidence(&headers), Some(evidence));
    }
}
