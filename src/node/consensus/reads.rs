//! Reads of this node's state, as fresh as the caller demands.
//!
//! A linearizable read asks the leader for the index up to which everything acknowledged so far reaches (ReadIndex,
//! section 6.4 of Ongaro's dissertation), waits until this node has applied that far, and reads its own state. So any
//! node serves it. The leader confirms itself by a quorum round each time: a leader that is frozen or cut off can never
//! answer with old state. Reads that arrive during one round share the next. There are no leases.

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
    raft::{PeerIdentity, Raft, StateMeta},
    storage::{self, Blocking, StateSlot, StateView, kv::Read},
    types::{Consistency, NodeId, limits},
    wire::{
        Address, Dialer, Fault, Profile, Reason,
        raft::{ReadIndexRequest, raft_service_client::RaftServiceClient},
    },
};

/// Timeout of one ReadIndex round; the next round looks for the leader again.
const ROUND_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Pause between two attempts while no leader is known.
const RETRY_PAUSE: Duration = Duration::from_millis(25);

/// The read index of a round.
type Answer = Result<u64, Fault>;

/// Serves the reads of one member. Cheap to clone; the task ends with the last clone.
///
/// # Invariants
///
/// - A read joins only a round that begins after it arrived: a round under way may have fixed its index before a write
///   that this read must see.
/// - `applied` grows only after the commit of the entry, so a view opened after the wait shows at least that index.
/// - At most [`limits::PROPOSAL_QUEUE`] reads wait for a round; beyond that a read fails with OVERLOADED.
/// - No state is kept between rounds except a connection. A crash or a change of leader loses nothing: the caller asks
///   again.
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
        identity: PeerIdentity,
        dialer: Dialer,
        leadership: Leadership,
        applied: watch::Receiver<u64>,
        slot: StateSlot,
        blocking: Blocking,
    ) -> Self {
        let (rounds, waiting) = mpsc::channel(limits::PROPOSAL_QUEUE);
        let task = ReadIndexTask { raft, identity, dialer, leadership: leadership.clone(), channel: None };
        tokio::spawn(task.run(waiting));
        Self { rounds, applied, slot, blocking, leadership }
    }

    /// Runs `read` on a view at least as fresh as `consistency` demands, off the async runtime. Returns the result and the
    /// index that the view reflects.
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
        self.blocking.run(work).await.map_err(|error| unreadable_state(&error))
    }

    /// The index that a linearizable read that begins now must reflect.
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
                Err(_) => return Err(self.round_timed_out()),
            };
            if Instant::now() + RETRY_PAUSE >= deadline || !fault.reason.is_transient() {
                return Err(fault);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Waits until this node has applied the entry at `index`.
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

    /// The fault of a read whose round has no answer at its deadline, by who leads.
    fn round_timed_out(&self) -> Fault {
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

/// The fault of a node whose state cannot be read.
pub fn unreadable_state(error: &storage::StorageError) -> Fault {
    tracing::error!(%error, "the state could not be read");
    Fault::new(Reason::Quarantined, format!("this node's state could not be read: {error}")).next("ask another node")
}

/// Asks for read indexes, one round at a time. All reads that wait when a round begins share it.
struct ReadIndexTask {
    raft: Raft,
    identity: PeerIdentity,
    dialer: Dialer,
    leadership: Leadership,
    /// The connection to the leader that was asked last.
    channel: Option<(NodeId, Address, Channel)>,
}

impl ReadIndexTask {
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

    /// One round: at this node if it leads, else at the leader.
    async fn ask(&mut self) -> Answer {
        if self.leadership.is_leader() {
            return self.ask_here().await;
        }
        let hint = self.leadership.hint();
        let Ok(address) = hint.leader_address.parse::<Address>() else { return Err(self.leadership.not_leader()) };
        let mut client = RaftServiceClient::new(self.channel_to(hint.leader_id, address));
        let mut request = Request::new(ReadIndexRequest {});
        self.identity.stamp(&mut request, hint.leader_id);
        match tokio::time::timeout(ROUND_TIMEOUT, client.read_index(request)).await {
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
        let round = tokio::time::timeout(ROUND_TIMEOUT, self.raft.get_read_log_id(ReadPolicy::ReadIndex)).await;
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
