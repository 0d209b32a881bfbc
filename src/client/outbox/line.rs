//! The lines of an outbox: `CRC32 JSON`, one for each change.

use serde::{Deserialize, Serialize};

use super::{Fate, Kept, Recipient, To};
use crate::types::{ConversationId, RequestId};

/// A change to the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(super) enum Line {
    /// A message was kept.
    Kept {
        id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        username: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        conversation: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<String>,
        body: String,
    },
    /// The room that it is for was found.
    Addressed { id: String, conversation: String },
    /// It has left.
    Struck { id: String },
    /// It was refused.
    Refused { id: String, why: String },
    /// It cannot be repeated any more.
    TooOld { id: String },
    /// It waits again, as a new message.
    Renewed { id: String, fresh: String },
}

impl Line {
    pub(super) fn kept(id: RequestId, to: &To, body: &str) -> Self {
        let (username, conversation, room) = match to {
            To::Known(Recipient::Username(name)) => (Some(name.clone()), None, None),
            To::Known(Recipient::Conversation(id)) => (None, Some(id.to_string()), None),
            To::RoomTitled(title) => (None, None, Some(title.clone())),
        };
        Self::Kept { id: id.to_string(), username, conversation, room, body: body.to_owned() }
    }

    /// The lines that make a message what it is now.
    pub(super) fn of(kept: &Kept) -> Vec<Self> {
        let id = kept.id.to_string();
        let mut lines = vec![Self::kept(kept.id, &kept.to, &kept.body)];
        match &kept.fate {
            Fate::Waiting => {}
            Fate::Refused(why) => lines.push(Self::Refused { id, why: why.clone() }),
            Fate::TooOld => lines.push(Self::TooOld { id }),
        }
        lines
    }

    /// As in the file, its end included.
    pub(super) fn written(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
    }

    fn read(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        let (sum, json) = text.split_once(' ')?;
        let is_whole = u32::from_str_radix(sum, 16).ok()? == crc32fast::hash(json.as_bytes());
        is_whole.then(|| serde_json::from_str(json).ok())?
    }
}

fn room_of(id: &str) -> Option<Recipient> {
    id.parse::<ConversationId>().ok().map(Recipient::Conversation)
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) entries: Vec<Kept>,
    /// Where the last whole line ends.
    pub(super) whole_bytes: usize,
}

impl Reading {
    /// Reads a file; refuses it by the number of the first line that is not as written.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, usize> {
        let mut reading = Self::default();
        for (at, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            // Its append was interrupted before anyone was told that it is kept.
            let Some(whole) = line.strip_suffix(b"\n") else { break };
            let read = Line::read(whole).filter(|line| reading.take(line.clone()));
            read.ok_or(at + 1)?;
            reading.whole_bytes += line.len();
        }
        Ok(reading)
    }

    /// Applies a change; says whether it makes sense.
    pub(super) fn take(&mut self, line: Line) -> bool {
        self.try_take(line).is_some()
    }

    fn try_take(&mut self, line: Line) -> Option<()> {
        match line {
            Line::Kept { id, username, conversation, room, body } => {
                let to = match (username, conversation, room) {
                    (Some(name), None, None) => To::Known(Recipient::Username(name)),
                    (None, Some(id), None) => To::Known(room_of(&id)?),
                    (None, None, Some(title)) => To::RoomTitled(title),
                    _ => return None,
                };
                self.entries.push(Kept { id: id.parse().ok()?, to, body, fate: Fate::Waiting });
            }
            Line::Addressed { id, conversation } => {
                let (room, kept) = (room_of(&conversation)?, self.entry(&id)?);
                // Two programs may have asked at the same time: the first answer holds.
                if let To::RoomTitled(_) = kept.to {
                    kept.to = To::Known(room);
                }
            }
            Line::Struck { id } => {
                let at = self.find(&id)?;
                self.entries.remove(at);
            }
            Line::Refused { id, why } => self.entry(&id)?.fate = Fate::Refused(why),
            Line::TooOld { id } => self.entry(&id)?.fate = Fate::TooOld,
            Line::Renewed { id, fresh } => {
                let fresh = fresh.parse().ok()?;
                let kept = self.entry(&id)?;
                (kept.id, kept.fate) = (fresh, Fate::Waiting);
            }
        }
        Some(())
    }

    fn find(&self, id: &str) -> Option<usize> {
        let id: RequestId = id.parse().ok()?;
        self.entries.iter().position(|kept| kept.id == id)
    }

    fn entry(&mut self, id: &str) -> Option<&mut Kept> {
        let at = self.find(id)?;
        self.entries.get_mut(at)
    }

    /// Whether a file of at least `worth` bytes holds mostly what has left.
    pub(super) fn is_mostly_gone(&self, worth: usize) -> bool {
        let live: usize = self.entries.iter().map(|kept| kept.body.len() + 128).sum();
        self.whole_bytes >= worth && live * 2 < self.whole_bytes
    }
}
