//! Reads: how fresh, and from where.
//!
//! A linearizable read asks the leader up to which index everything acknowledged so far reaches (ReadIndex, section 6.4
//! of Ongaro's dissertation), waits until this node has applied that far, and reads its own state. Any node serves it.
//! The leader confirms itself with a quorum round each time: a frozen or cut-off leader can never answer with old state.
//! Reads that arrive during one round share the next.

use std::time::Duration;

use openraft::ReadPolicy;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tonic::{Request, transport::Channel};

use super::leadership::Leadership;
use crate::{
    fault_injection::{self, Bug},
    raft::{
        Raft, StateMeta,
        network::{Identity, stamp},
    },
    storage::{self, Blocking, StateSlot, StateView, kv::Read},
    types::{Consistency, NodeId, limits},
    wire::{
        Address, Dialer, Fault, Profile, Reason,
        raft::{ReadIndexRequest, raft_service_client::RaftServiceClient},
    },
};

/// One ReadIndex round at another node takes no longer; then the leader is looked for anew.
const ROUND: Duration = Duration::from_millis(1_500);
/// Between two attempts while no leader is known.
const PAUSE: Duration = Duration::from_millis(25);

type Answer = Result<u64, Fault>;

/// Serves reads of one member. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    rounds: mpsc::Sender<oneshot::Sender<Answer>>,
    applied: watch::Receiver<u64>,
    slot: StateSlot,
    blocking: Blocking,
    leadership: Leadership,
}

impl Reader {
    /// Starts the task that asks for read indexes.
    pub fn start(
        raft: Raft,
        identity: Identity,
        dialer: Dialer,
        leadership: Leadership,
        applied: watch::Receiver<u64>,
        slot: StateSlot,
        blocking: Blocking,
    ) -> Self {
        let (rounds, waiting) = mpsc::channel(limits::PROPOSAL_QUEUE);
        let asker = Asker { raft, identity, dialer, leadership: leadership.clone(), channel: None };
        tokio::spawn(asker.run(waiting));
        Self { rounds, applied, slot, blocking, leadership }
    }

    /// Runs `read` on a view at least as fresh as asked, off the async runtime.
    pub async fn query<T: Send + 'static>(
        &self,
        consistency: Consistency,
        timeout: Duration,
        read: impl FnOnce(&dyn Read) -> storage::Result<T> + Send + 'static,
    ) -> Result<(T, u64), Fault> {
        let deadline = Instant::now() + timeout;
        match consistency {
            Consistency::Linearizable if fault_injection::enabled(Bug::StaleRead) => {}
            Consistency::AtLeast(_) if fault_injection::enabled(Bug::OwnWritesUnseen) => {}
            Consistency::Linearizable => {
                let index = self.read_index(deadline).await?;
                self.wait_applied(index, deadline).await?;
            }
            Consistency::AtLeast(index) => self.wait_applied(index, deadline).await?,
            Consistency::Stale => {}
        }
        let slot = self.slot.clone();
        let work = move || -> storage::Result<(T, u64)> {
            let view = slot.current().view()?;
            let index = applied_index(&view)?;
            Ok((read(&view)?, index))
        };
        self.blocking.run(work).await.map_err(|error| broken(&error))
    }

    /// The index that a linearizable read begun now must reflect.
    pub async fn read_index(&self, deadline: Instant) -> Result<u64, Fault> {
        loop {
            let (reply, answer) = oneshot::channel();
            self.rounds.try_send(reply).map_err(|_| {
                Fault::new(Reason::Overloaded, "too many reads are waiting").retry_after(Duration::from_millis(100))
            })?;
            let fault = match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(Ok(index))) => return Ok(index),
                Ok(Ok(Err(fault))) => fault,
                Ok(Err(_)) => return Err(Fault::new(Reason::ShuttingDown, "this node is stopping")),
                Err(_) => return Err(self.unanswered()),
            };
            if Instant::now() + PAUSE >= deadline || !fault.reason.is_transient() {
                return Err(fault);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn wait_applied(&self, index: u64, deadline: Instant) -> Result<(), Fault> {
        let mut applied = self.applied.clone();
        let reached = applied.wait_for(|applied| *applied >= index);
        match tokio::time::timeout_at(deadline, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Fault::new(Reason::ShuttingDown, "this node is stopping")),
            Err(_) => {
                let now = *self.applied.borrow();
                let message = format!("this node has applied up to {now} and did not reach {index} in time");
                Err(Fault::new(Reason::Timeout, message).next("repeat the read, here or on another node"))
            }
        }
    }

    fn unanswered(&self) -> Fault {
        match (self.leadership.leader(), self.leadership.is_leader()) {
            (None, _) => self.leadership.not_leader(),
            (_, true) => self.leadership.no_quorum(),
            _ => Fault::new(Reason::Timeout, "the leader did not confirm the read in time")
                .next("repeat the read, here or on another node"),
        }
    }
}

/// The index that a view reflects.
pub fn applied_index(view: &StateView) -> storage::Result<u64> {
    Ok(StateMeta::read(view)?.applied.map_or(0, |id| id.index()))
}

fn broken(error: &storage::StorageError) -> Fault {
    tracing::error!(%error, "the state could not be read");
    Fault::new(Reason::Quarantined, format!("this node's state could not be read: {error}")).next("ask another node")
}

/// Asks for read indexes, one round at a time; all who wait when a round begins share it.
struct Asker {
    raft: Raft,
    identity: Identity,
    dialer: Dialer,
    leadership: Leadership,
    channel: Option<(NodeId, Address, Channel)>,
}

impl Asker {
    async fn run(mut self, mut waiting: mpsc::Receiver<oneshot::Sender<Answer>>) {
        while let Some(first) = waiting.recv().await {
            let mut replies = vec![first];
            while let Ok(next) = waiting.try_recv() {
                replies.push(next);
            }
            replies.retain(|reply| !reply.is_closed());
            if replies.is_empty() {
                continue;
            }
            let answer = self.ask().await;
            for reply in replies {
                let _ = reply.send(answer.clone());
            }
        }
    }

    async fn ask(&mut self) -> Answer {
        if self.leadership.is_leader() {
            return self.ask_here().await;
        }
        let hint = self.leadership.hint();
        let Ok(address) = hint.leader_address.parse::<Address>() else { return Err(self.leadership.not_leader()) };
        let mut client = RaftServiceClient::new(self.channel_to(hint.leader_id, address));
        let mut request = Request::new(ReadIndexRequest {});
        stamp(&mut request, &self.identity, hint.leader_id);
        match tokio::time::timeout(ROUND, client.read_index(request)).await {
            Ok(Ok(response)) => {
                let read = response.into_inner().read_log_id;
                read.map(|id| id.index).ok_or_else(|| Fault::new(Reason::Internal, "the leader named no index"))
            }
            Ok(Err(status)) => Err(Fault::from_status(&status)),
            Err(_) => Err(Fault::new(Reason::Timeout, "the leader did not confirm the read in time")),
        }
    }

    async fn ask_here(&self) -> Answer {
        if fault_injection::enabled(Bug::UnconfirmedLeader) {
            return Ok(self.leadership.metrics().last_applied.map_or(0, |id| id.index()));
        }
        let round = tokio::time::timeout(ROUND, self.raft.get_read_log_id(ReadPolicy::ReadIndex)).await;
        match round {
            Ok(Ok((read, _))) => Ok(read.index()),
            Ok(Err(_)) if self.leadership.is_leader() => Err(self.leadership.no_quorum()),
            Ok(Err(_)) => Err(self.leadership.not_leader()),
            Err(_) => Err(self.leadership.no_quorum()),
        }
    }

    fn channel_to(&mut self, id: NodeId, address: Address) -> Channel {
        match &self.channel {
            Some((known, at, channel)) if *known == id && *at == address => channel.clone(),
            _ => {
                let channel = self.dialer.channel(&address, Profile::Peer);
                self.channel = Some((id, address, channel.clone()));
                channel
            }
        }
    }
}
