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

use std::{
    io,
    path::{Path, PathBuf},
};

use super::StartError;
use crate::{
    machine::query::{Missing, Summary, missing, summary},
    node::{Identity, Settings, consensus::Stores, disk_record, identity},
    raft::{
        LogStore, StateMeta, replay,
        types::{EntryPayload, Member, Membership},
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
        let epochs = self.compared.iter().map(|compared| compared.other.identity.epoch);
        let epoch = epochs.fold(self.survivor.identity.epoch, u64::max) + 1;
        let identity = Identity { epoch, removed: false, ..self.survivor.identity };
        identity::write(&self.dir, &identity)?;
        let applied = StateMeta::read(&self.stores.slot.current().view()?)?.applied;
        let log = LogStore::new(self.stores.log.clone());
        let at = log.append_sole_voter(identity.node_id, &identity::as_member(&identity), applied, self.highest_term);
        at.map_err(|error| broken(&self.dir, &error))?;
        if !identity.directory_id.is_empty() {
            self.stores.label_as(&identity)?;
            // The operator has judged the data: whatever the directory went through, it is what the cluster goes on from.
            disk_record::create(&self.dir, &identity)?;
        }
        self.stores.log.close()?;
        Ok(identity)
    }
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
}

impl Opened {
    fn open(settings: &Settings, path: &Path) -> Result<Self, StartError> {
        let unusable = |why: &str| StartError::Unusable(format!("{}: {why}", path.display()));
        let dir = DataDir::open(path)?;
        let Some(identity) = identity::read(&dir)? else {
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
        let committed = log.committed().map_err(damaged)?.max(applied).map_or(0, |id| id.index());
        let survivor = Survivor {
            dir: path.to_owned(),
            identity,
            last: (last.committed_leader_id().term, last.index()),
            unsure: last.index().saturating_sub(committed),
            holdings: summary(&state)?,
            members: members(&membership),
        };
        Ok(Self { state, stores, dir, survivor })
    }

    /// The highest term that this node has seen, in its vote or in its log.
    fn term(&self) -> Result<u64, StartError> {
        let vote = LogStore::new(self.stores.log.clone()).vote().map_err(|error| broken(&self.dir, &error))?;
        Ok(vote.map_or(0, |vote| vote.leader_id().term).max(self.survivor.last.0))
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
