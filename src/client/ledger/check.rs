//! Compares what replicas, reads and subscribers showed with the ledger.

use std::collections::{BTreeMap, HashMap};

use super::{Attempt, Entry, Erasure, Event, Findings, Kind, Ledger, Outcome, Timelines};
use crate::types::ConversationId;

/// Checks one run. Give it the replicas first: it compares the other replicas, the streams and the reads with the first
/// replica.
///
/// ```
/// use std::time::Duration;
///
/// use quorate::{
///     client::ledger::{Checker, Entry, Kind, Ledger, Timelines},
///     types::{ConversationId, RequestId},
/// };
///
/// let room = ConversationId(1);
/// let mut ledger = Ledger::default();
/// ledger.open(room, 0);
/// let number = ledger.invoke(Duration::ZERO, RequestId::new(1, [0; 10]), room, "hello".into());
/// ledger.acknowledge(Duration::from_millis(5), number, 1, 20);
///
/// let mut checker = Checker::new(&ledger);
/// checker.replica("n1", Timelines::from([(room, vec![Entry { seq: 1, cursor: 20, body: "hello".into() }])]));
/// checker.replica("n2", Timelines::from([(room, vec![])]));
/// let findings = checker.finish();
/// assert_eq!(findings.count(Kind::Missing), 1, "n2 has lost an acknowledged message");
/// ```
pub struct Checker<'a> {
    ledger: &'a Ledger,
    /// Attempts by their text.
    by_body: HashMap<&'a str, usize>,
    /// Acknowledged attempts by the place they were promised.
    promised: HashMap<(ConversationId, u64), usize>,
    /// The first replica: its name and what it holds.
    reference: Option<(String, Timelines)>,
    findings: Findings,
}

impl<'a> Checker<'a> {
    /// A checker for `ledger`, which must be complete.
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

    /// Checks that sequence numbers have no gaps from `base` on, except at notices, and that cursors increase strictly.
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

    /// Checks one place: it holds something that was sent, once, where it was promised.
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
                    // It counts as changed, and not as missing as well.
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

    /// The attempt whose message was deleted here: the place is as acknowledged, and the text is empty.
    fn deleted(&self, conversation: ConversationId, entry: &Entry) -> Option<usize> {
        let number = *self.promised.get(&(conversation, entry.seq)).filter(|_| entry.body.is_empty())?;
        let attempt = &self.ledger.attempts()[number];
        let here = matches!(attempt.outcome, Outcome::Acknowledged { cursor, .. } if cursor == entry.cursor);
        (here && attempt.erasure != Erasure::None).then_some(number)
    }

    /// Whether `shown`, seen earlier, fits `held`, the final state: the message may have been deleted in between.
    fn agrees(&self, conversation: ConversationId, held: &Entry, shown: &Entry) -> bool {
        let deleted = || self.deleted(conversation, held).map(|number| &self.ledger.attempts()[number].body);
        held == shown
            || ((held.seq, held.cursor) == (shown.seq, shown.cursor)
                && deleted().is_some_and(|body| *body == shown.body))
    }

    /// Checks what a subscriber received behind each conversation's base, in the order in which it came.
    pub fn stream(&mut self, name: &str, received: &[(ConversationId, Entry)]) {
        self.stream_of(name, received, |_| true);
    }

    /// Like [`Checker::stream`], for a subscriber that is shown some conversations in `whole`, and parts of others that
    /// it joins and leaves.
    pub fn stream_of(
        &mut self,
        name: &str,
        received: &[(ConversationId, Entry)],
        whole: impl Fn(ConversationId) -> bool,
    ) {
        // Taken out while findings are added, which borrows `self`.
        let Some((first, reference)) = self.reference.take() else { return };
        self.stream_against(&reference, name, received, whole);
        self.reference = Some((first, reference));
    }

    fn stream_against(
        &mut self,
        reference: &Timelines,
        name: &str,
        received: &[(ConversationId, Entry)],
        whole: impl Fn(ConversationId) -> bool,
    ) {
        let (mut next, mut cursor): (BTreeMap<ConversationId, usize>, u64) = (BTreeMap::new(), 0);
        for (conversation, entry) in received {
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
                        self.findings
                            .add(Kind::StreamDiffers, || format!("{} is not what the first replica holds", place()));
                    }
                    *next += 1;
                }
            }
        }
        for (conversation, timeline) in reference.iter().filter(|(conversation, _)| whole(**conversation)) {
            let seen = next.get(conversation).copied().unwrap_or(0);
            if seen < timeline.len() {
                self.findings.add(Kind::StreamGap, || {
                    format!("{name}: {conversation} ended {} messages too early", timeline.len() - seen)
                });
            }
        }
    }

    /// Checks the real-time order of writes and reads, and returns all findings.
    ///
    /// Walks the events once. `floors` is, for each conversation, the last place known to be taken: acknowledged, or
    /// shown by a read. A write that begins later must take a later place; a linearizable read that begins later must
    /// show that place.
    pub fn finish(mut self) -> Findings {
        let places = self.places();
        let mut floors: BTreeMap<ConversationId, u64> = self.ledger.bases().clone();
        // For each read: the place that it must show, and the position of its begin in the events.
        let mut begun = vec![(0_u64, 0); self.ledger.reads.len()];
        // For each reader and conversation: the last place shown to it.
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
                    begun[number] = (read.must_show.unwrap_or_else(|| floor(&floors, read.conversation)), place);
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

    /// Checks that an attempt stands behind everything that was known when it began.
    fn order(&mut self, number: usize, places: &[Option<u64>], floors: &BTreeMap<ConversationId, u64>) {
        let attempt = &self.ledger.attempts[number];
        let floor = floor(floors, attempt.conversation);
        if let Some(seq) = places[number].filter(|seq| *seq <= floor) {
            self.findings.add(Kind::Reordered, || {
                format!("{}/{seq} was begun when {floor} was known already", attempt.conversation)
            });
        }
    }

    /// Checks a read that began at position `began` of the events: it must not end before `floor`, nor before `last`,
    /// the last place shown to its reader. Returns the last place that the reader has seen now.
    fn read(&mut self, number: usize, (floor, began): (u64, usize), last: u64) -> u64 {
        let read = &self.ledger.reads[number];
        let (reader, conversation, origin) = (read.reader, read.conversation, &read.origin);
        let base = self.ledger.bases().get(&conversation).copied().unwrap_or(0);
        let shown = read.entries.last().map_or(base, |entry| entry.seq);
        if shown < last {
            self.findings.add(Kind::ReadWentBack, || {
                format!("reader {reader}, {origin}: {conversation} ended at {shown}, after it had ended at {last}")
            });
        } else if shown < floor {
            self.findings.add(Kind::StaleRead, || {
                format!("reader {reader}, {origin}: {conversation} ended at {shown}, when {floor} was known already")
            });
        }
        for entry in &read.entries {
            let promised = self.promised.get(&(conversation, entry.seq)).map(|number| &self.ledger.attempts()[*number]);
            let deleted = promised.is_some_and(|held| matches!(held.erasure, Erasure::Done(at) if at <= began));
            // A read that only follows its own session may be older than a deletion by another account.
            if deleted && read.must_show.is_none() && !entry.body.is_empty() {
                self.findings.add(Kind::Undeleted, || {
                    format!("reader {reader}, {origin}: {conversation}/{} was deleted for everyone before", entry.seq)
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
                    format!("reader {reader}, {origin}: {conversation}/{} is not what {name} holds", entry.seq)
                });
            }
        }
        last.max(shown)
    }

    /// The place of each attempt: as acknowledged, or else where the first replica has it.
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

/// Describes the first place where two replicas differ.
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
