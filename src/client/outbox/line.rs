//! The file format of an outbox: one line `CRC32 JSON` for each change.
//!
//! # Invariants
//! - The checksum is the CRC-32 (IEEE) of the JSON, in 8 hexadecimal digits. JSON escapes line breaks, so a line ends
//!   at its only newline.
//! - Replaying the lines from the first on gives the entries. A line that does not fit the entries before it (such as
//!   one that strikes off an unknown message) is damage.
//! - Bytes after the last newline are an unfinished append and count for nothing.
//! - A `kind`, once released, keeps its meaning: older programs may share the file.

use serde::{Deserialize, Serialize};

use super::{Fate, Kept, Recipient, To};
use crate::types::{ConversationId, RequestId};

/// A change to the outbox. The names of variants and fields are those of the JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(super) enum Line {
    /// A message was added. Exactly one of `username`, `conversation` and `room` (a title) is set.
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
    /// The room with the message's title was found.
    Addressed { id: String, conversation: String },
    /// The message was acknowledged or given up.
    Struck { id: String },
    /// The service refused it for good.
    Refused { id: String, why: String },
    /// Its request_id is too old to repeat.
    TooOld { id: String },
    /// It waits again, under a new request_id.
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

    /// The fewest lines that describe a message as it is now.
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

    /// The line as it stands in the file, with its newline.
    pub(super) fn written(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
    }

    /// Parses a line without its newline; `None` if it is damaged.
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

/// The content of a file.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The messages, in the order in which they were kept.
    pub(super) entries: Vec<Kept>,
    /// Length in bytes up to the end of the last whole line.
    pub(super) whole_bytes: usize,
}

impl Reading {
    /// Reads a file.
    ///
    /// # Errors
    /// The number, counted from 1, of the first damaged line.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, usize> {
        let mut reading = Self::default();
        for (at, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            // Its append was interrupted before the caller was told that the message is kept.
            let Some(whole) = line.strip_suffix(b"\n") else { break };
            let read = Line::read(whole).filter(|line| reading.take(line.clone()));
            read.ok_or(at + 1)?;
            reading.whole_bytes += line.len();
        }
        Ok(reading)
    }

    /// Applies a change. Returns false if it does not fit the entries.
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
                // Two programs may have looked the room up at the same time. The first answer counts.
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

    /// Whether the file has at least `worth` bytes and more than half of them describe messages that are gone.
    pub(super) fn is_mostly_gone(&self, worth: usize) -> bool {
        // 128 bytes: about what a line holds besides the body.
        let live: usize = self.entries.iter().map(|kept| kept.body.len() + 128).sum();
        self.whole_bytes >= worth && live * 2 < self.whole_bytes
    }
}
