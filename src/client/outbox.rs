//! Messages that must not be lost before a node has taken them: one file for each account and cluster.
//!
//! A message is kept, with its request_id, on a synced disk before the first attempt to send it, and struck off once
//! its fate is certain. A crash in between repeats the attempt under the same request_id, which takes effect once (P4).
//!
//! # Invariants
//! - [`Outbox::keep`] answers only after the line is synced; what it answered for is never dropped without being told.
//! - A message leaves by being acknowledged, or by the user's word. A request_id too old to repeat is kept for the user
//!   to decide on: it is neither repeated under another id nor forgotten.
//! - What a room's title means is asked once, and what was found is on disk before the first attempt to send there.
//! - A line that is not as written is an error that names it, never skipped. Only an unfinished last line, for which
//!   nobody was answered, is.
//! - Several programs may use one outbox: changes queue up at a lock.

mod line;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use line::{Line, Reading};

use super::{Recipient, Session, outcome_is_unknown};
use crate::{
    types::{ConversationId, RequestId, limits},
    wire::{Fault, Reason, chat::SendMessageResponse},
};

/// Messages kept at most.
pub const OUTBOX_MESSAGES: usize = 1_000;
/// Bytes of a file below which it is not worth rewriting without what has left.
const WORTH_REWRITING: usize = 64 * 1024;

/// To whom a message goes, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// To a conversation.
    Known(Recipient),
    /// To a room of this title: which one that is, only the cluster can say.
    RoomTitled(String),
}

impl From<&Recipient> for To {
    fn from(to: &Recipient) -> Self {
        Self::Known(to.clone())
    }
}

/// A message in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Names the send, in all its attempts.
    pub id: RequestId,
    /// To whom.
    pub to: To,
    /// What.
    pub body: String,
    /// What is known of it.
    pub fate: Fate,
}

/// What became of a message so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// To be sent, again if need be.
    Waiting,
    /// The service refused it for this reason, for certain. The user renews or drops it.
    Refused(String),
    /// Its request_id is older than the service remembers: it may have been delivered, or not. The user decides.
    TooOld,
}

/// How an attempt to deliver ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// Acknowledged, now or by an earlier attempt.
    Sent(SendMessageResponse),
    /// Not decided: it stays, and may be tried again.
    Waiting(Fault),
    /// Refused for certain: it stays until the user renews or drops it.
    Refused(Fault),
    /// Too old to say: it stays until the user renews or drops it.
    TooOld(Fault),
}

/// Why the outbox could not be used.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The file could not be read or written.
    #[error("cannot use the outbox {}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A line is not as it was written.
    #[error("the outbox {} is damaged at line {line}: set the file aside, and send again what it still shows", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// It holds as many messages as it may.
    #[error("the outbox is full ({OUTBOX_MESSAGES} messages): deliver or drop some first")]
    Full,
    /// The body is longer than any message may be.
    #[error("a message is at most {} bytes", limits::BODY_BYTES)]
    TooLong,
    /// No such message is in it.
    #[error("no message {0} is in the outbox")]
    Absent(RequestId),
}

/// An outbox on disk. Its methods block for as long as the disk takes to sync.
#[derive(Debug, Clone)]
pub struct Outbox {
    path: PathBuf,
}

impl Outbox {
    /// The outbox in this file. Touches nothing yet.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// What is in it, in the order in which it was kept.
    pub fn entries(&self) -> Result<Vec<Kept>, OutboxError> {
        Ok(self.read()?.entries)
    }

    /// Whether something in it waits to be sent.
    pub fn is_waiting(&self) -> Result<bool, OutboxError> {
        Ok(self.entries()?.iter().any(|kept| kept.fate == Fate::Waiting))
    }

    /// Keeps a message. It is on disk when this returns.
    pub fn keep(&self, id: RequestId, to: impl Into<To>, body: &str) -> Result<(), OutboxError> {
        if body.len() > limits::BODY_BYTES {
            return Err(OutboxError::TooLong);
        }
        self.change(|entries| {
            if entries.len() >= OUTBOX_MESSAGES {
                return Err(OutboxError::Full);
            }
            Ok(Line::kept(id, &to.into(), body))
        })
    }

    /// Strikes a message off: it was acknowledged, or the user gave it up.
    pub fn strike(&self, id: RequestId) -> Result<(), OutboxError> {
        self.change_of(id, Line::Struck { id: id.to_string() })
    }

    /// Has a message that was refused or is too old sent after all, as a new one under `fresh`: by the user's word.
    pub fn renew(&self, id: RequestId, fresh: RequestId) -> Result<(), OutboxError> {
        self.change_of(id, Line::Renewed { id: id.to_string(), fresh: fresh.to_string() })
    }

    /// Tries once, within the timeout of `session`, to deliver a message, and records what became of it.
    pub async fn deliver(&self, session: &Session, kept: &Kept) -> Result<Delivery, OutboxError> {
        let to = match &kept.to {
            To::Known(to) => Ok(to.clone()),
            To::RoomTitled(title) => match session.room_titled(title).await {
                Ok(room) => Ok(self.address(kept.id, room)?),
                Err(fault) => Err(fault),
            },
        };
        let sent = match to {
            Ok(to) => session.send_as(kept.id, &to, &kept.body).await,
            Err(fault) => Err(fault),
        };
        let id = kept.id.to_string();
        let fault = match sent {
            Ok(answer) => {
                match self.strike(kept.id) {
                    // Another program delivered it at the same time.
                    Ok(()) | Err(OutboxError::Absent(_)) => return Ok(Delivery::Sent(answer)),
                    Err(error) => return Err(error),
                }
            }
            Err(fault) => fault,
        };
        let (line, delivery) = match fault.reason {
            _ if is_undecided(&fault) => return Ok(Delivery::Waiting(fault)),
            Reason::RequestTooOld => (Line::TooOld { id }, Delivery::TooOld(fault)),
            _ => (Line::Refused { id, why: fault.message.clone() }, Delivery::Refused(fault)),
        };
        self.change_of(kept.id, line)?;
        Ok(delivery)
    }

    /// Records which room a message is for; answers with the one recorded first.
    fn address(&self, id: RequestId, room: ConversationId) -> Result<Recipient, OutboxError> {
        self.change_of(id, Line::Addressed { id: id.to_string(), conversation: room.to_string() })?;
        let recorded = self.entries()?.into_iter().find(|kept| kept.id == id).map(|kept| kept.to);
        match recorded {
            Some(To::Known(to)) => Ok(to),
            // Another program has delivered it meanwhile.
            _ => Err(OutboxError::Absent(id)),
        }
    }

    fn change_of(&self, id: RequestId, line: Line) -> Result<(), OutboxError> {
        self.change(|entries| match entries.iter().any(|kept| kept.id == id) {
            true => Ok(line),
            false => Err(OutboxError::Absent(id)),
        })
    }

    fn change(&self, change: impl FnOnce(&[Kept]) -> Result<Line, OutboxError>) -> Result<(), OutboxError> {
        let _lock = self.lock().map_err(|error| self.io(error))?;
        let mut reading = self.read()?;
        let line = change(&reading.entries)?;
        reading.take(line.clone());
        let written = if reading.entries.is_empty() || reading.is_mostly_gone(WORTH_REWRITING) {
            self.rewrite(&reading.entries)
        } else {
            self.append(&line, reading.whole_bytes)
        };
        written.map_err(|error| self.io(error))
    }

    fn read(&self) -> Result<Reading, OutboxError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(self.io(error)),
        };
        Reading::of(&bytes).map_err(|line| OutboxError::Damaged { path: self.path.clone(), line })
    }

    fn lock(&self) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.directory())?;
        let lock = owners_own().create(true).truncate(false).open(self.path.with_extension("lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    /// Appends after the last whole line, over what an interrupted append may have left.
    fn append(&self, line: &Line, whole_bytes: usize) -> io::Result<()> {
        let is_new = !self.path.exists();
        let mut file = owners_own().create(true).append(true).open(&self.path)?;
        file.set_len(whole_bytes as u64)?;
        file.write_all(line.written().as_bytes())?;
        file.sync_all()?;
        if is_new { self.sync_directory() } else { Ok(()) }
    }

    /// Writes what is left to a new file and puts it in place of the old one.
    fn rewrite(&self, entries: &[Kept]) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        let mut file = owners_own().create(true).truncate(true).open(&fresh)?;
        for line in entries.iter().flat_map(Line::of) {
            file.write_all(line.written().as_bytes())?;
        }
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        self.sync_directory()
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(self.directory())?.sync_all()
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    fn io(&self, error: io::Error) -> OutboxError {
        OutboxError::Io { path: self.path.clone(), error }
    }
}

/// Whether a send that ended with `fault` may still take effect, or may yet be taken: it must keep its request_id.
///
/// A session that ended, or a fault in the service, says nothing about an earlier attempt.
fn is_undecided(fault: &Fault) -> bool {
    let other = matches!(fault.reason, Reason::SessionInvalid | Reason::WrongCluster | Reason::Internal);
    fault.reason.is_transient() || outcome_is_unknown(fault) || other
}

fn owners_own() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}
