//! The outbox: messages on disk until the cluster has acknowledged them, in one file for each account and cluster.
//!
//! A message is written and synced, with its request_id, before the first attempt to send it. It is struck off once its
//! fate is certain. After a crash in between, the message is sent again under the same request_id, which takes effect
//! once (P4).
//!
//! The file is a log of changes, one line each ([`mod@line`]). It is appended to, and rewritten without the old lines
//! once they are most of it.
//!
//! # Invariants
//! - [`Outbox::keep`] returns only after the line is synced. From then on the message is in the outbox until it is
//!   struck off, and reading the outbox shows it.
//! - A message is struck off when it is acknowledged, or when the user gives it up. If its request_id is too old to
//!   repeat, the user decides: the outbox neither repeats it under another id nor forgets it.
//! - The title of a room is looked up once. The room found is on disk before the first attempt to send there, so a
//!   retry cannot go to another room that has taken over the title.
//! - A damaged line is an error that names it; it is never skipped. Only an unfinished last line is: its append was
//!   interrupted before `keep` returned.
//! - Several programs may use one outbox at once. A lock file serialises their changes; a rewrite replaces the file by
//!   `rename`, so readers need no lock.

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

/// Most messages in one outbox.
pub const OUTBOX_MESSAGES: usize = 1_000;
/// Size in bytes below which a file is not worth rewriting.
const WORTH_REWRITING: usize = 64 * 1024;

/// The recipient of a message in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// A known conversation.
    Known(Recipient),
    /// The room with this title. Only the cluster can tell which one that is.
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
    /// The request_id of all attempts to send it.
    pub id: RequestId,
    /// The recipient.
    pub to: To,
    /// The text.
    pub body: String,
    /// What has become of it so far.
    pub fate: Fate,
}

/// What became of a message so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Not sent yet, or not known to be sent.
    Waiting,
    /// The service refused it for good, for this reason. The user renews or drops it.
    Refused(String),
    /// Its request_id is older than the service remembers, so it may have been sent or not. The user renews or drops
    /// it.
    TooOld,
}

/// How an attempt to deliver ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// Acknowledged, by this attempt or an earlier one. The message is struck off.
    Sent(SendMessageResponse),
    /// Not decided. The message stays and may be tried again.
    Waiting(Fault),
    /// Refused for good. The message stays until the user renews or drops it.
    Refused(Fault),
    /// Too old to tell. The message stays until the user renews or drops it.
    TooOld(Fault),
}

/// Why a change or a read of the outbox failed.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The file could not be read or written.
    #[error("cannot use the outbox {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// A line is not as it was written: its checksum or its content is wrong.
    #[error("the outbox {} is damaged at line {line}: set the file aside, and send again what it still shows", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// The outbox holds [`OUTBOX_MESSAGES`] messages.
    #[error("the outbox is full ({OUTBOX_MESSAGES} messages): deliver or drop some first")]
    Full,
    /// The text is longer than a message may be.
    #[error("a message is at most {} bytes", limits::BODY_BYTES)]
    TooLong,
    /// The outbox holds no such message.
    #[error("no message {0} is in the outbox")]
    Absent(RequestId),
}

/// An outbox on disk. It holds no state but the path: each method reads the file. Methods block while the disk syncs.
///
/// ```
/// use quorate::{
///     client::{Fate, Outbox, Recipient},
///     types::RequestId,
/// };
///
/// let folder = std::env::temp_dir().join(format!("quorate-doc-{}", std::process::id()));
/// let outbox = Outbox::at(folder.join("alice.outbox"));
/// let id = RequestId::new(1_700_000_000_000, [7; 10]); // `cluster.request_id()` in a program
/// outbox.keep(id, &Recipient::Username("bob".into()), "hello")?;
/// assert_eq!(outbox.entries()?[0].fate, Fate::Waiting);
///
/// // With a session, `outbox.deliver(&session, &entry).await` sends it. Without one, the user may give it up.
/// outbox.strike(id)?;
/// assert!(!outbox.is_waiting()?);
/// # std::fs::remove_dir_all(folder).unwrap();
/// # Ok::<(), quorate::client::OutboxError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Outbox {
    path: PathBuf,
}

impl Outbox {
    /// The outbox in this file. Does not touch the file yet.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The messages, in the order in which they were kept.
    pub fn entries(&self) -> Result<Vec<Kept>, OutboxError> {
        Ok(self.read()?.entries)
    }

    /// Whether any message waits to be sent.
    pub fn is_waiting(&self) -> Result<bool, OutboxError> {
        Ok(self.entries()?.iter().any(|kept| kept.fate == Fate::Waiting))
    }

    /// Adds a message. It is on disk when this returns.
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

    /// Strikes a message off, because it was acknowledged or the user gave it up.
    pub fn strike(&self, id: RequestId) -> Result<(), OutboxError> {
        self.change_of(id, Line::Struck { id: id.to_string() })
    }

    /// Makes a refused or too old message wait again, as a new message with the request_id `fresh`. The user decides
    /// this.
    pub fn renew(&self, id: RequestId, fresh: RequestId) -> Result<(), OutboxError> {
        self.change_of(id, Line::Renewed { id: id.to_string(), fresh: fresh.to_string() })
    }

    /// Tries once, within the timeout of `session`, to send a message, and records what became of it.
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

    /// Records the room that a message is for. Returns the room that was recorded first, which another program may have
    /// done.
    fn address(&self, id: RequestId, room: ConversationId) -> Result<Recipient, OutboxError> {
        self.change_of(id, Line::Addressed { id: id.to_string(), conversation: room.to_string() })?;
        let recorded = self.entries()?.into_iter().find(|kept| kept.id == id).map(|kept| kept.to);
        match recorded {
            Some(To::Known(to)) => Ok(to),
            // Another program has delivered it meanwhile.
            _ => Err(OutboxError::Absent(id)),
        }
    }

    /// Appends `line`, which changes the message `id`.
    fn change_of(&self, id: RequestId, line: Line) -> Result<(), OutboxError> {
        self.change(|entries| match entries.iter().any(|kept| kept.id == id) {
            true => Ok(line),
            false => Err(OutboxError::Absent(id)),
        })
    }

    /// Appends the line that `change` makes of the current entries, under the lock.
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

    /// Takes the lock. The operating system releases it when the file is closed, even if this process is killed.
    fn lock(&self) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.directory())?;
        let lock = owners_own().create(true).truncate(false).open(self.path.with_extension("lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    /// Appends after the last whole line and cuts off what an interrupted append may have left.
    fn append(&self, line: &Line, whole_bytes: usize) -> io::Result<()> {
        let is_new = !self.path.exists();
        let mut file = owners_own().create(true).append(true).open(&self.path)?;
        file.set_len(whole_bytes as u64)?;
        file.write_all(line.written().as_bytes())?;
        file.sync_all()?;
        if is_new { self.sync_directory() } else { Ok(()) }
    }

    /// Writes the current entries to a new file and puts it in place of the old one.
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

    /// Makes a new or renamed file survive a power cut.
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

/// Whether a send that ended with `fault` may have taken effect or may succeed later, so that it must keep its
/// request_id.
///
/// A session that has ended and an internal fault say nothing about an earlier attempt.
fn is_undecided(fault: &Fault) -> bool {
    let other = matches!(fault.reason, Reason::SessionInvalid | Reason::WrongCluster | Reason::Internal);
    fault.reason.is_transient() || outcome_is_unknown(fault) || other
}

/// Options for a file that only its owner may read: messages are private.
fn owners_own() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}
