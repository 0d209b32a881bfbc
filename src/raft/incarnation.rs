//! What a node says of itself with every call and answer between peers: which start of which process it is, and with what it
//! started.

use std::{fmt, str::FromStr};

use super::types::{CommittedLeaderId, LogId};

/// One start of one process. The number grows with every start on one disk, so a disk that has gone back in time starts
/// with a number that was used before; the random part tells two such starts apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Incarnation {
    /// Counts the starts on this disk, from 1.
    pub start: u64,
    /// Drawn at the start.
    pub random: u64,
}

/// Whether a node may vote and acknowledge: see [`OwnDisk`](super::OwnDisk).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// Its disk is trusted.
    #[default]
    Trusted,
    /// It answers no call of consensus.
    Verifying,
    /// It acknowledges, and votes for nobody.
    CatchingUp,
}

/// What goes with every call and every answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Announcement {
    /// Which start of which process it is.
    pub incarnation: Incarnation,
    /// The start at which the others last vouched for this disk; 0: never. Promises of earlier starts count no more.
    pub recovered: u64,
    /// Whether it may vote and acknowledge.
    pub stage: Stage,
    /// The term of its vote when it started.
    pub term: u64,
    /// The end of its log when it started.
    pub last_log_id: Option<LogId>,
}

impl fmt::Display for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { incarnation: Incarnation { start, random }, recovered, stage, term, last_log_id } = self;
        write!(f, "{start}.{random}.{recovered}.{}.{term}", *stage as u8)?;
        match last_log_id {
            Some(id) => write!(f, ".{}.{}", id.committed_leader_id().term, id.index()),
            None => Ok(()),
        }
    }
}

/// A header that is not an announcement.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAnAnnouncement;

impl FromStr for Announcement {
    type Err = NotAnAnnouncement;

    fn from_str(text: &str) -> Result<Self, NotAnAnnouncement> {
        let numbers: Result<Vec<u64>, _> = text.split('.').map(str::parse).collect();
        let (head, last_log_id) = match numbers.as_deref() {
            Ok([head @ .., term, index]) if head.len() == 5 => {
                (head.to_vec(), Some(LogId::new(CommittedLeaderId::new(*term), *index)))
            }
            Ok(head) if head.len() == 5 => (head.to_vec(), None),
            _ => return Err(NotAnAnnouncement),
        };
        let stage = match head[3] {
            0 => Stage::Trusted,
            1 => Stage::Verifying,
            2 => Stage::CatchingUp,
            _ => return Err(NotAnAnnouncement),
        };
        let incarnation = Incarnation { start: head[0], random: head[1] };
        Ok(Self { incarnation, recovered: head[2], stage, term: head[4], last_log_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_reads_back_and_nonsense_does_not() {
        for last_log_id in [None, Some(LogId::new(CommittedLeaderId::new(3), 17))] {
            let said = Announcement {
                incarnation: Incarnation { start: 4, random: u64::MAX },
                recovered: 2,
                stage: Stage::CatchingUp,
                term: 9,
                last_log_id,
            };
            assert_eq!(said.to_string().parse(), Ok(said));
        }
        for text in
            ["", "1", "1.2.3.4.5", "1.2.3.0.5.6", "1.2.3.0.5.6.7.8", "a.b.c.0.e", "1.2.3.0.99999999999999999999"]
        {
            assert_eq!(text.parse::<Announcement>(), Err(NotAnAnnouncement), "{text}");
        }
    }
}
