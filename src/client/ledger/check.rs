//! Holds what replicas, readers and subscribers show against the ledger.

use std::collections::{BTreeMap, HashMap};

use super::{Attempt, Entry, Erasure, Event, Findings, Kind, Ledger, Outcome, Timelines};
use crate::types::ConversationId;

/// Checks one run. Replicas first: the first one checked is what the others, the reads and the streams are compared
/// with.
pub struct Checker<'a> {
    ledger: &'a Ledger,
    by_body: HashMap<&'a str, usize>,
    /// Acknowledged attempts by their place.
    promised: HashMap<(ConversationId, u64), usize>,
    reference: Option<(String, Timelines)>,
    findings: Findings,
}

impl<'a> Checker<'a> {
    /// A check of what `ledger` holds.
    pub fn new(ledger: &'a Ledger) -> Self {
        let attempts = || ledger.attempts().iter().enumerate();
        let place = |(number, attempt): (usize, &'a Attempt)| match attempt.outcome {
            Outcome::Acknowledged { seq, .. } => Some(((attempt.conversation, seq), number)),
            _ => None,
        };
        Self {
            by_body: attempts().map(|(number, attempt)| (attempt.body.as_str(), number)).collect(),
            promised: attempts().filter_map(place).collect(),
            ledger,
            reference: None,
            findings: Findings::default(),
        }
    }

    /// Checks what one replica holds.
    pub fn replica(&mut self, name: &str, timelines: Timelines) {
        let mut seen = vec![0_u32; self.ledger.attempts().len()];
        for (&conversation, &base) in self.ledger.bases() {
            let entries = timelines.get(&conversation).map_or(&[][..], Vec::as_slice);
            self.shape(name, conversation, base, entries);
            for entry in entries {
                self.entry(name, conversation, entry, &mut seen);
            }
        }
        for (attempt, times) in self.ledger.attempts().iter().zip(&seen) {
            if let (Outcome::Acknowledged { seq, .. }, 0) = (&attempt.outcome, times) {
                self.findings.add(Kind::Missing, || {
                    format!("{name} lacks {}/{seq}, acknowledged as {}", attempt.conversation, attempt.id)
                });
            }
        }
        match &self.reference {
            None => self.reference = Some((name.to_owned(), timelines)),
            Some((first, reference)) => {
                if let Some(what) = difference(first, reference, name, &timelines) {
                    self.findings.add(Kind::ReplicasDiffer, || what);
                }
            }
        }
    }

    /// Sequence numbers dense from `base` but for places of notices, cursors strictly increasing.
    fn shape(&mut self, name: &str, conversation: ConversationId, base: u64, entries: &[Entry]) {
        let (mut seq, mut cursor) = (base, 0);
        for entry in entries {
            while seq + 1 < entry.seq && self.ledger.notices.contains(&(conversation, seq + 1)) {
                seq += 1;
            }
            if entry.seq != seq + 1 {
                let after = seq;
                self.findings.add(Kind::Gap, || format!("{name}: {conversation}/{} follows {after}", entry.seq));
            }
            if entry.cursor <= cursor {
                let before = cursor;
                self.findings.add(Kind::CursorOrder, || {
                    format!("{name}: {conversation}/{} has cursor {} after {before}", entry.seq, entry.cursor)
                });
            }
            (seq, cursor) = (entry.seq, entry.cursor);
        }
    }

    /// What stands at one place: something sent, once, where it was promised.
    fn entry(&mut self, name: &str, conversation: ConversationId, entry: &Entry, seen: &mut [u32]) {
        let place = format!("{name}: {conversation}/{}", entry.seq);
        if let Some(number) = self.deleted(conversation, entry) {
            seen[number] += 1;
            return;
        }
        let sent = self.by_body.get(entry.body.as_str()).copied();
        let Some(number) = sent.filter(|number| self.ledger.attempts()[*number].conversation == conversation) else {
            match self.promised.get(&(conversation, entry.seq)) {
                Some(&promised) => {
                    // Found, in a way: it counts as changed, not as missing too.
                    seen[promised] += 1;
                    self.findings.add(Kind::Changed, || format!("{place} is not what was acknowledged"));
                }
                None => self.findings.add(Kind::Invented, || format!("{place} was never sent there")),
            }
            return;
        };
        seen[number] += 1;
        let attempt = &self.ledger.attempts()[number];
        if seen[number] > 1 {
            self.findings.add(Kind::Duplicated, || format!("{place} is {} once more", attempt.id));
            return;
        }
        if let Erasure::Done(_) = attempt.erasure {
            self.findings.add(Kind::Undeleted, || format!("{place} was deleted for everyone"));
        }
        match attempt.outcome {
            Outcome::Acknowledged { seq, cursor, .. } if (seq, cursor) != (entry.seq, entry.cursor) => {
                self.findings.add(Kind::Misplaced, || {
                    format!("{place} (cursor {}) was acknowledged at {seq} (cursor {cursor})", entry.cursor)
                });
            }
            Outcome::Refused { reason, .. } => {
                self.findings.add(Kind::RefusedButThere, || format!("{place} was refused as {}", reason.as_str()));
            }
            _ => {}
        }
    }

    /// The message that was here, if what is left of it is what deleting it leaves.
    fn deleted(&self, conversation: ConversationId, entry: &Entry) -> Option<usize> {
        let number = *self.promised.get(&(conversation, entry.seq)).filter(|_| entry.body.is_empty())?;
        let attempt = &self.ledger.attempts()[number];
        let here = matches!(attempt.outcome, Outcome::Acknowledged { cursor, .. } if cursor == entry.cursor);
        (here && attempt.erasure != Erasure::None).then_some(number)
    }

    /// Whether what was shown earlier is what is held now: it may have been deleted since.
    fn agrees(&self, conversation: ConversationId, held: &Entry, shown: &Entry) -> bool {
        let deleted = || self.deleted(conversation, held).map(|number| &self.ledger.attempts()[number].body);
        held == shown
            || ((held.seq, held.cursor) == (shown.seq, shown.cursor)
                && deleted().is_some_and(|body| *body == shown.body))
    }

    /// Checks what a subscriber was told from each conversation's base on, in the order in which it came.
    pub fn stream(&mut self, name: &str, told: &[(ConversationId, Entry)]) {
        self.stream_of(name, told, |_| true);
    }

    /// The same for a subscriber who is shown all of some conversations, and parts of others that it joins and leaves.
    pub fn stream_of(&mut self, name: &str, told: &[(ConversationId, Entry)], whole: impl Fn(ConversationId) -> bool) {
        // Taken out for as long as findings are added.
        let Some((first, reference)) = self.reference.take() else { return };
        self.stream_against(&reference, name, told, whole);
        self.reference = Some((first, reference));
    }

    fn stream_against(
        &mut self,
        reference: &Timelines,
        name: &str,
        told: &[(ConversationId, Entry)],
        whole: impl Fn(ConversationId) -> bool,
    ) {
        let (mut next, mut cursor): (BTreeMap<ConversationId, usize>, u64) = (BTreeMap::new(), 0);
        for (conversation, entry) in told {
            let place = || format!("{name}: {conversation}/{}", entry.seq);
            let timeline = reference.get(conversation).map_or(&[][..], Vec::as_slice);
            let next = next.entry(*conversation).or_default();
            if entry.cursor <= cursor {
                self.findings.add(Kind::StreamRepeated, || format!("{} came after cursor {cursor}", place()));
                continue;
            }
            cursor = entry.cursor;
            match timeline[*next..].binary_search_by_key(&entry.seq, |held| held.seq).ok() {
                None => self.findings.add(Kind::StreamDiffers, || format!("{} is in no timeline there", place())),
                Some(skipped) => {
                    if skipped > 0 && whole(*conversation) {
                        self.findings.add(Kind::StreamGap, || format!("{} came {skipped} too early", place()));
                    }
                    *next += skipped;
                    if !self.agrees(*conversation, &timeline[*next], entry) {
                        self.findings.add(Kind::StreamDiffers, || format!("{} is not what is held", place()));
                    }
                    *next += 1;
                }
            }
        }
        for (conversation, timeline) in reference.iter().filter(|(conversation, _)| whole(**conversation)) {
            let told = next.get(conversation).copied().unwrap_or(0);
            if told < timeline.len() {
                self.findings.add(Kind::StreamGap, || {
                    format!("{name}: {conversation} ended {} messages too early", timeline.len() - told)
                });
            }
        }
    }

    /// Checks the order in real time, of writes and of reads, and ends.
    pub fn finish(mut self) -> Findings {
        let places = self.places();
        let mut floors: BTreeMap<ConversationId, u64> = self.ledger.bases().clone();
        let mut begun = vec![(0_u64, 0); self.ledger.reads.len()];
        let mut seen: BTreeMap<(usize, ConversationId), u64> = BTreeMap::new();
        for (place, event) in self.ledger.events.iter().enumerate() {
            match *event {
                Event::Invoked(number) => self.order(number, &places, &floors),
                Event::Acknowledged(number) => {
                    let attempt = &self.ledger.attempts[number];
                    if let Outcome::Acknowledged { seq, .. } = attempt.outcome {
                        raise(&mut floors, attempt.conversation, seq);
                    }
                }
                Event::ReadBegan(number) => {
                    let read = &self.ledger.reads[number];
                    begun[number] = (read.owed.unwrap_or_else(|| floor(&floors, read.conversation)), place);
                }
                Event::ReadEnded(number) => {
                    let read = &self.ledger.reads[number];
                    let last = seen.entry((read.reader, read.conversation)).or_default();
                    *last = self.read(number, begun[number], *last);
                    raise(&mut floors, read.conversation, *last);
                }
            }
        }
        self.contradictions();
        self.findings
    }

    fn contradictions(&mut self) {
        for (number, outcome) in &self.ledger.contradictions {
            let attempt = &self.ledger.attempts()[*number];
            self.findings
                .add(Kind::TwoOutcomes, || format!("{} ended as {:?} and as {outcome:?}", attempt.id, attempt.outcome));
        }
    }

    /// An attempt stands behind everything that was known when it was begun.
    fn order(&mut self, number: usize, places: &[Option<u64>], floors: &BTreeMap<ConversationId, u64>) {
        let attempt = &self.ledger.attempts[number];
        let floor = floor(floors, attempt.conversation);
        if let Some(seq) = places[number].filter(|seq| *seq <= floor) {
            self.findings.add(Kind::Reordered, || {
                format!("{}/{seq} was begun when {floor} was known already", attempt.conversation)
            });
        }
    }

    /// Judges a read that began at a place in the order of events: not before what was owed to it then, not before what
    /// its reader saw `last`. Answers with the last that the reader has seen now.
    fn read(&mut self, number: usize, (floor, began): (u64, usize), last: u64) -> u64 {
        let read = &self.ledger.reads[number];
        let (reader, conversation, whence) = (read.reader, read.conversation, &read.whence);
        let base = self.ledger.bases().get(&conversation).copied().unwrap_or(0);
        let shown = read.entries.last().map_or(base, |entry| entry.seq);
        if shown < last {
            self.findings.add(Kind::ReadWentBack, || {
                format!("reader {reader}, {whence}: {conversation} ended at {shown}, after it had ended at {last}")
            });
        } else if shown < floor {
            self.findings.add(Kind::StaleRead, || {
                format!("reader {reader}, {whence}: {conversation} ended at {shown}, when {floor} was known already")
            });
        }
        for entry in &read.entries {
            let promised = self.promised.get(&(conversation, entry.seq)).map(|number| &self.ledger.attempts()[*number]);
            let deleted = promised.is_some_and(|held| matches!(held.erasure, Erasure::Done(at) if at <= began));
            // A read that owes only what its session has seen may be older than a deletion by somebody else.
            if deleted && read.owed.is_none() && !entry.body.is_empty() {
                self.findings.add(Kind::Undeleted, || {
                    format!("reader {reader}, {whence}: {conversation}/{} was deleted for everyone before", entry.seq)
                });
            }
        }
        if let Some((name, reference)) = &self.reference {
            let timeline = reference.get(&conversation).map_or(&[][..], Vec::as_slice);
            let held = |entry: &Entry| {
                let place = timeline.binary_search_by_key(&entry.seq, |held| held.seq);
                place.is_ok_and(|place| self.agrees(conversation, &timeline[place], entry))
            };
            if let Some(entry) = read.entries.iter().find(|entry| !held(entry)) {
                self.findings.add(Kind::ReadDiffers, || {
                    format!("reader {reader}, {whence}: {conversation}/{} is not what {name} holds", entry.seq)
                });
            }
        }
        last.max(shown)
    }

    /// Where each attempt stands: as acknowledged, or where the reference has it.
    fn places(&self) -> Vec<Option<u64>> {
        let place = |attempt: &Attempt| match attempt.outcome {
            Outcome::Acknowledged { seq, .. } => Some(seq),
            _ => None,
        };
        let mut places: Vec<Option<u64>> = self.ledger.attempts().iter().map(place).collect();
        for entry in self.reference.iter().flat_map(|(_, timelines)| timelines.values().flatten()) {
            if let Some(&number) = self.by_body.get(entry.body.as_str()) {
                places[number].get_or_insert(entry.seq);
            }
        }
        places
    }
}

fn floor(floors: &BTreeMap<ConversationId, u64>, conversation: ConversationId) -> u64 {
    floors.get(&conversation).copied().unwrap_or(0)
}

fn raise(floors: &mut BTreeMap<ConversationId, u64>, conversation: ConversationId, seq: u64) {
    let floor = floors.entry(conversation).or_default();
    *floor = seq.max(*floor);
}

/// The first place where two replicas differ.
fn difference(first: &str, reference: &Timelines, name: &str, timelines: &Timelines) -> Option<String> {
    for (conversation, held) in reference {
        let others = timelines.get(conversation).map_or(&[][..], Vec::as_slice);
        if held == others {
            continue;
        }
        let at = held.iter().zip(others).position(|(one, other)| one != other);
        return Some(match at {
            Some(at) => format!("{conversation}/{} on {name} is not what {first} holds", others[at].seq),
            None => format!("{conversation} has {} messages on {first} and {} on {name}", held.len(), others.len()),
        });
    }
    let unknown = timelines.keys().find(|conversation| !reference.contains_key(conversation))?;
    Some(format!("{first} does not hold {unknown}, {name} does"))
}
