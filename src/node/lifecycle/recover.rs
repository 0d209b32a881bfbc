//! Rebuilds a cluster that has lost its quorum for good, from the data of one survivor.
//!
//! The survivor becomes the only voter of a cluster with the same id and the next *epoch*. Peers refuse members of
//! another epoch, both ways, so a node that was left behind can neither elect, replicate nor vote. Such nodes come back
//! as new nodes, with new ids.
//!
//! # What becomes of the log
//!
//! - **Entries that are not known to be committed are kept.** A leader acknowledges a write as soon as a majority has it
//!   on disk, and followers hear of that later. So such an entry may have been acknowledged. If it was not, its client
//!   got an unknown outcome, and taking effect is one of the outcomes that it must expect.
//! - **The new membership is one more entry**, at the end, in a term above every term that the node has seen. As in any
//!   Raft log the last membership counts, so earlier joint configurations count no more, finished or not. The first
//!   election of the sole voter commits everything up to it. Nothing is rewritten: the log stays one history, from which
//!   nodes that are added later become identical.
//!
//! # Crashes
//!
//! The epoch is written first. If the recovery is interrupted after that, the node has a new epoch but the old
//! membership: no peer speaks to it, and it has no quorum of its own. The same command finishes the recovery.
//!
//! # What an attack may have left
//!
//! Older versions believed any term that a peer named. A vote in such a term is reset. A log that ends in one is refused,
//! because the terms of a log never go back. Everything is decided before the first write, and verified after the last
//! one, so a recovery never leaves a directory worse than it found it.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{StartError, leftovers::refuse_leftovers};
use crate::{
    machine::query::{Missing, Summary, missing, summary},
    node::{Identity, Settings, consensus::Stores, disk_record, identity},
    raft::{
        LogStore, StateMeta, claims, replay,
        types::{EntryPayload, LogId, Member, Membership, Vote},
    },
    storage::{DataDir, StateBatch, StorageError},
    types::NodeId,
    wire::{
        Address, Dialer, Profile,
        cluster::{GetMembershipRequest, cluster_service_client::ClusterServiceClient},
    },
};

/// Conversations that a comparison names, at most.
const NAMED: usize = 20;
/// How long another member may take to answer whether the cluster still works.
const ASK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// What one data directory holds, including its whole log.
#[derive(Debug, Clone)]
pub struct Survivor {
    /// The directory.
    pub dir: PathBuf,
    /// The node that it belongs to.
    pub identity: Identity,
    /// Term and index of the last entry of its log.
    pub last: (u64, u64),
    /// Entries at the end of its log that it did not know to be committed. They are kept.
    pub unsure: u64,
    /// Its chat state with the whole log applied.
    pub holdings: Summary,
    /// The members that it knows, itself among them.
    pub members: Vec<(NodeId, Member)>,
}

/// Another survivor, compared with the one to recover from.
#[derive(Debug, Clone)]
pub struct Compared {
    /// What it holds.
    pub other: Survivor,
    /// What it has and the one to recover from lacks: the recovery loses this.
    pub lost: Missing,
    /// What the one to recover from has and this one lacks.
    pub gained: Missing,
}

/// A recovery that was prepared and can be carried out.
///
/// It keeps the data directory to recover from open and locked, so that the survivor which the operator saw is the one
/// that is recovered. The compared directories are only read. Nothing is written before [`Recovery::carry_out`].
pub struct Recovery {
    settings: Settings,
    dir: DataDir,
    stores: Stores,
    highest_term: u64,
    /// The survivor to recover from.
    pub survivor: Survivor,
    /// The other survivors that were named.
    pub compared: Vec<Compared>,
}

impl Recovery {
    /// Opens the data directory of `settings` and those of `compare`; changes nothing.
    ///
    /// # Errors
    /// Fails if a directory is in use, damaged or of another cluster, or if the cluster still has a quorum.
    pub async fn open(settings: Settings, compare: &[PathBuf]) -> Result<Self, StartError> {
        let (blocking, paths) = (settings.blocking, compare.to_vec());
        let dialer = settings.dialer.clone();
        let recovery = blocking.run(move || Self::open_all(settings, &paths)).await?;
        let survivors = std::iter::once(&recovery.survivor).chain(recovery.compared.iter().map(|c| &c.other));
        for survivor in survivors {
            refuse_if_alive(&dialer, survivor).await?;
        }
        Ok(recovery)
    }

    /// Opens and compares the directories. Those to compare are closed again.
    fn open_all(settings: Settings, compare: &[PathBuf]) -> Result<Self, StartError> {
        let own = Opened::open(&settings, &settings.config.data_dir)?;
        let mut highest_term = own.term()?;
        let mut compared = Vec::new();
        for path in compare {
            let other = Opened::open(&settings, path)?;
            let (ours, theirs) = (&own.survivor.identity, &other.survivor.identity);
            if ours.cluster_id != theirs.cluster_id {
                let message = format!("{} belongs to another cluster, {}", path.display(), theirs.cluster_id);
                return Err(StartError::Unusable(message));
            }
            highest_term = highest_term.max(other.term()?);
            let lost = missing(&own.state, &other.state, NAMED)?;
            let gained = missing(&other.state, &own.state, NAMED)?;
            compared.push(Compared { lost, gained, other: other.survivor.clone() });
            other.stores.log.close()?;
        }
        let Opened { dir, stores, survivor, .. } = own;
        Ok(Self { settings, dir, stores, highest_term, survivor, compared })
    }

    /// The survivor with the newest log, as Raft compares logs: by the last term, then by the last index. The one to
    /// recover from wins a tie.
    pub fn recommended(&self) -> &Survivor {
        let others = self.compared.iter().map(|compared| &compared.other);
        others.fold(&self.survivor, |best, other| if newer(other, best) { other } else { best })
    }

    /// Makes the survivor the only voter of its cluster, in a new epoch. The result is durable when this returns.
    pub async fn carry_out(self) -> Result<Identity, StartError> {
        let blocking = self.settings.blocking;
        blocking.run(move || self.carry_out_blocking()).await
    }

    /// Writes the new epoch first, then the membership entry: see the module's section on crashes. The epoch is above that
    /// of every survivor that was named, so that two recoveries from different survivors cannot share one.
    fn carry_out_blocking(self) -> Result<Identity, StartError> {
        let Self { settings, dir, stores, highest_term, survivor, compared } = self;
        let damaged = |error: io::Error| broken(&dir, &error);
        // Everything that can be refused is refused before the first write.
        let epochs = compared.iter().map(|compared| compared.other.identity.epoch);
        let epoch = epochs.fold(survivor.identity.epoch, u64::max).checked_add(1);
        let epoch = epoch.ok_or_else(|| unusable(&survivor.dir, "there is no epoch after its own"))?;
        let identity = Identity { epoch, removed: false, ..survivor.identity };
        let member = identity::as_member(&identity);
        let applied = StateMeta::read(&stores.slot.current().view()?)?.applied;
        let log = LogStore::new(stores.log.clone());
        let at = log.next_id(applied, highest_term).map_err(damaged)?;
        identity::write(&dir, &identity)?;
        log.append_sole_voter(identity.node_id, &member, applied, at).map_err(damaged)?;
        if !identity.directory_id.is_empty() {
            stores.label_as(&identity)?;
            // The operator has judged the data: whatever the directory went through, the cluster goes on from it.
            disk_record::create(&dir, &identity)?;
        }
        stores.log.close()?;
        drop(stores);
        verify(&settings, &dir, &identity, at)?;
        Ok(identity)
    }
}

/// Opens the directory again, as the node will, and compares what was written with what was meant. Applies the whole log to
/// a batch that is never committed.
fn verify(settings: &Settings, dir: &DataDir, identity: &Identity, at: LogId) -> Result<(), StartError> {
    let damaged = |error: io::Error| broken(dir, &error);
    let differs = |what: &str| damaged(io::Error::other(format!("after the recovery {what} reads back as another")));
    if identity::read(dir)?.as_ref() != Some(identity) {
        return Err(differs("the identity"));
    }
    let stores = Stores::open(dir, settings, identity)?;
    let log = LogStore::new(stores.log.clone());
    let term = |id: &LogId| id.committed_leader_id().term;
    if log.vote().map_err(damaged)? != Some(Vote::new(term(&at), identity.node_id)) {
        return Err(differs("the vote"));
    }
    let mut state = stores.slot.current().begin()?;
    let mut before = StateMeta::read(&state)?.applied;
    let mut last = None;
    let applied = log.each_after(before, |entry| {
        if before.is_some_and(|before| term(&before) > term(&entry.log_id)) {
            let index = entry.log_id.index();
            return Err(StorageError::damaged(
                format!("log entry {index}"),
                "its term is before that of the entry before it",
            ));
        }
        before = Some(entry.log_id);
        replay(&mut state, &entry)?;
        last = Some(entry);
        Ok(())
    });
    applied.map_err(damaged)?;
    let alone = |payload: &EntryPayload| match payload {
        EntryPayload::Membership(membership) => membership.voter_ids().eq([identity.node_id]),
        _ => false,
    };
    if !last.is_some_and(|entry| entry.log_id == at && alone(&entry.payload)) {
        return Err(differs("the last entry"));
    }
    Ok(stores.log.close()?)
}

fn unusable(dir: &Path, why: &str) -> StartError {
    StartError::Unusable(format!("{}: {why}", dir.display()))
}

fn newer(one: &Survivor, other: &Survivor) -> bool {
    (one.identity.epoch, one.last) > (other.identity.epoch, other.last)
}

fn broken(dir: &DataDir, error: &io::Error) -> StartError {
    StartError::Storage(StorageError::damaged(dir.path("").display().to_string(), error))
}

/// One open directory, with its log applied to a batch that is never committed.
struct Opened {
    state: StateBatch,
    stores: Stores,
    dir: DataDir,
    survivor: Survivor,
    /// The clock when it was opened, in Unix milliseconds.
    now_ms: u64,
}

impl Opened {
    fn open(settings: &Settings, path: &Path) -> Result<Self, StartError> {
        let unusable = |why: &str| unusable(path, why);
        let dir = DataDir::open(path)?;
        let Some(identity) = identity::read(&dir)? else {
            refuse_leftovers(&dir, settings)?;
            return Err(unusable("it holds no node's identity, so there is nothing to recover"));
        };
        let stores = Stores::open_to_recover(&dir, settings, &identity)?;
        let log = LogStore::new(stores.log.clone());
        let damaged = |error: io::Error| broken(&dir, &error);
        let mut state = stores.slot.current().begin()?;
        let StateMeta { applied, membership } = StateMeta::read(&state)?;
        let mut membership = membership.membership().clone();
        let mut last = applied;
        log.each_after(applied, |entry| {
            if let EntryPayload::Membership(newer) = &entry.payload {
                membership = newer.clone();
            }
            last = Some(entry.log_id);
            replay(&mut state, &entry)
        })
        .map_err(damaged)?;
        let Some(last) = last else {
            return Err(unusable("this node was adopted, but has never received anything: it holds nothing"));
        };
        let highest = claims::highest_term(settings.clock.now_ms(), 0);
        if last.committed_leader_id().term > highest {
            return Err(unusable(&format!(
                "its log ends in term {}, which no cluster can have reached: a peer has forged it. Use another survivor or a \
                 backup",
                last.committed_leader_id().term
            )));
        }
        let committed = log.committed().map_err(damaged)?.max(applied).map_or(0, |id| id.index());
        let survivor = Survivor {
            dir: path.to_owned(),
            identity,
            last: (last.committed_leader_id().term, last.index()),
            unsure: last.index().saturating_sub(committed),
            holdings: summary(&state)?,
            members: members(&membership),
        };
        let now_ms = settings.clock.now_ms();
        Ok(Self { state, stores, dir, survivor, now_ms })
    }

    /// The highest term that this node has seen, in its vote or in its log.
    ///
    /// A vote that no cluster can have reached does not count: a peer has forged it. A vote binds only among the members of
    /// one epoch, and the new epoch has no other member, so it may be reset.
    fn term(&self) -> Result<u64, StartError> {
        let vote = LogStore::new(self.stores.log.clone()).vote().map_err(|error| broken(&self.dir, &error))?;
        let logged = self.survivor.last.0;
        let possible = vote.filter(|vote| claims::check_term(vote, self.now_ms, logged).is_ok());
        if let Some(forged) = vote.filter(|_| possible.is_none()) {
            tracing::warn!(dir = %self.survivor.dir.display(), vote = %forged, "a vote that no cluster can have reached is ignored");
        }
        Ok(possible.map_or(0, |vote| vote.leader_id().term).max(logged))
    }
}

fn members(membership: &Membership) -> Vec<(NodeId, Member)> {
    membership.nodes().map(|(id, member)| (*id, member.clone())).collect()
}

/// Refuses to recover a cluster that still has a quorum, in any epoch: the node must rejoin it instead.
async fn refuse_if_alive(dialer: &Dialer, survivor: &Survivor) -> Result<(), StartError> {
    let own = &survivor.identity;
    let others = survivor.members.iter().filter(|(id, _)| *id != own.node_id);
    let asked = others.map(|(_, member)| async move {
        let address = member.address.parse::<Address>().ok()?;
        let mut client = ClusterServiceClient::new(dialer.channel(&address, Profile::Client));
        let answer =
            tokio::time::timeout(ASK_TIMEOUT, client.get_membership(GetMembershipRequest {})).await.ok()?.ok()?;
        Some((member.address.clone(), answer.into_inner()))
    });
    for (address, answer) in futures::future::join_all(asked).await.into_iter().flatten() {
        if answer.cluster_id == own.cluster_id && answer.has_quorum && answer.leader_id != 0 {
            let leader = answer.nodes.iter().find(|node| node.node_id == answer.leader_id);
            let leader = leader.map_or_else(|| format!("node id {}", answer.leader_id), |node| node.name.clone());
            return Err(StartError::Lives { cluster_id: answer.cluster_id, leader, address });
        }
    }
    Ok(())
}
