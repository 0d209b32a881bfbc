//! Calls to a cluster: finds the leader or any node, and repeats a call until it is answered, refused or out of time.
//!
//! [`View`] decides who leads, [`discovery`] asks the nodes, [`Effort`] keeps the deadline of one operation. This file
//! joins them with the channels.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tonic::{Request, Status, metadata::AsciiMetadataValue, transport::Channel};

use super::{
    Settings, discovery,
    effort::{ATTEMPT, Effort, Kind},
    view::View,
};
use crate::{
    types::{Clock, Entropy, RequestId},
    wire::{Address, Dialer, Fault, Profile, Reason, cluster::GetMembershipResponse, metadata},
};

/// Most channels kept open. At the limit, those to addresses outside the membership are dropped.
pub const CHANNELS: usize = 128;
/// Age at which the known membership is refreshed in the background.
const REFRESH: Duration = Duration::from_secs(30);

/// Redirects followed in a row without a pause. Nodes that disagree about the leader could redirect a client for ever.
const REDIRECTS: u32 = 3;

/// A cluster, reached through some of its addresses. Cheap to clone; clones share channels and what they have learned.
///
/// # Invariants
/// - It belongs to the first cluster that answers. Nodes of another cluster, even at the same addresses, are ignored.
/// - The lock on the learned state is never held across an await, so a slow node delays no other task.
/// - Of the tasks that look for a leader, one at a time asks all nodes; the others wait for its result.
/// - An operation ends at its deadline, whatever the nodes do.
///
/// Creating one makes no call:
///
/// ```
/// use std::time::Duration;
///
/// use quorate::{
///     client::{Cluster, Settings},
///     wire::Dialer,
/// };
///
/// let seeds = vec!["10.0.0.1:7400".parse()?, "10.0.0.2:7400".parse()?];
/// let cluster = Cluster::new(seeds, Dialer::tcp(), Settings::new(Duration::from_secs(10)));
/// assert_eq!(cluster.addresses().len(), 2);
/// assert_eq!(cluster.id(), "", "no node has answered yet");
/// assert!(cluster.request_id() != cluster.request_id(), "one for each write");
/// # Ok::<(), quorate::wire::InvalidAddress>(())
/// ```
///
/// Calls that have no method of their own go through [`Cluster::on_leader`] or [`Cluster::on_any`]:
///
/// ```no_run
/// # async fn example(cluster: quorate::client::Cluster) -> Result<(), quorate::wire::Fault> {
/// use quorate::wire::admin::{TransferLeadershipRequest, admin_service_client::AdminServiceClient};
///
/// let membership = cluster.membership().await?;
/// println!("{} nodes, term {}", membership.nodes.len(), membership.term);
/// let call = |channel| async move {
///     let request = TransferLeadershipRequest { to_name: "n2".into() };
///     AdminServiceClient::new(channel).transfer_leadership(request).await
/// };
/// cluster.for_slow_calls().on_leader(call).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
    /// Longest time for one attempt at first.
    attempt: Duration,
    /// Longest time for one operation.
    timeout: Duration,
}

struct Shared {
    dialer: Dialer,
    settings: Settings,
    known: Mutex<Known>,
    /// Held by the task that asks all nodes. Other tasks wait for its result instead of asking too.
    discovering: tokio::sync::Mutex<()>,
}

/// What the clones of a [`Cluster`] have learned. Locked for moments only, never across an await.
struct Known {
    view: View,
    channels: BTreeMap<Address, Channel>,
    /// The node that served the last read.
    favourite: Option<Address>,
    /// Rounds of asking all nodes. A task that sees it grow while it waits uses the result of that round.
    discoveries: u64,
    /// Why nodes take no part, as the last round told.
    untrusted: BTreeSet<String>,
    /// When a node last answered such a round.
    discovered: Option<Instant>,
    /// The refusal of a node that could be reached but was too busy to answer the last round.
    refusal: Option<Fault>,
}

impl Cluster {
    /// A cluster that is found through `seeds`, the addresses of some of its nodes. One of them must answer. Makes no
    /// call.
    pub fn new(seeds: Vec<Address>, dialer: Dialer, settings: Settings) -> Self {
        let view = View::new(seeds);
        let known = Known {
            view,
            channels: BTreeMap::new(),
            favourite: None,
            discoveries: 0,
            untrusted: BTreeSet::new(),
            discovered: None,
            refusal: None,
        };
        let timeout = settings.timeout;
        let shared = Shared { dialer, settings, known: Mutex::new(known), discovering: tokio::sync::Mutex::default() };
        Self { shared: Arc::new(shared), attempt: ATTEMPT, timeout }
    }

    /// The same cluster, where one attempt may take as long as the whole operation. For calls that are slow by nature,
    /// such as an operator's, where giving up on a slow node would only start the work over.
    #[must_use]
    pub fn for_slow_calls(&self) -> Self {
        Self { shared: self.shared.clone(), attempt: self.timeout, timeout: self.timeout }
    }

    /// The same cluster with another timeout for each operation and short attempts. For one of several operations that
    /// share a deadline.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { shared: self.shared.clone(), attempt: ATTEMPT, timeout }
    }

    /// Asks all nodes at once for the membership and returns the best answer: one that knows a leader, in the newest
    /// term. Takes less than a second if any node answers.
    ///
    /// # Errors
    /// UNREACHABLE at the deadline if no node answers.
    pub async fn membership(&self) -> Result<GetMembershipResponse, Fault> {
        let mut effort = self.effort(Kind::Read);
        loop {
            let answers = self.ask_all(effort.remaining()).await;
            if let Some(best) = answers.into_iter().next() {
                return Ok(best);
            }
            effort.note(self.no_answer_fault());
            effort.pause().await?;
        }
    }

    /// Asks the node at `address`, and no other, once for its view of the membership.
    pub async fn membership_of(&self, address: &Address) -> Result<GetMembershipResponse, Fault> {
        let timeout = self.attempt.min(self.timeout);
        discovery::ask(address, self.channel(address), timeout).await
    }

    /// Sends an operator's command to the leader. Finds the leader, follows redirects, and finds the next leader when
    /// this one is gone or silent, until the deadline.
    ///
    /// `call` runs once for each attempt. The command must be safe to repeat: the server checks how far it is done
    /// already.
    ///
    /// # Errors
    /// The refusal, if the leader refuses. At the deadline the last fault, or TIMEOUT if the call may have taken
    /// effect.
    pub async fn on_leader<T, F, Fut>(&self, call: F) -> Result<T, Fault>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        self.call_leader(Kind::Command, |channel, _| call(channel)).await
    }

    /// Like [`Cluster::on_leader`], for a call that changes nothing.
    pub async fn read_leader<T, F, Fut>(&self, call: F) -> Result<T, Fault>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        self.call_leader(Kind::Read, |channel, _| call(channel)).await
    }

    /// Like [`Cluster::on_leader`], for a call of any kind. `call` is given the timeout of the attempt. A write must
    /// bear the same request_id in all attempts.
    pub(super) async fn call_leader<T, F, Fut>(&self, kind: Kind, call: F) -> Result<T, Fault>
    where
        F: Fn(Channel, Duration) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        self.refresh_if_old();
        let mut effort = self.effort(kind);
        let mut hops = 0;
        loop {
            let Some(address) = self.leader(&mut effort).await else {
                effort.pause().await?;
                continue;
            };
            let calling = call(self.channel(&address), effort.attempt_timeout());
            match effort.attempt(&address, calling).await {
                Ok(answer) => {
                    self.known().view.leader_served(&address);
                    return Ok(answer);
                }
                Err(fault) if !may_succeed_elsewhere(&fault) => return Err(fault),
                Err(fault) => {
                    let redirected = self.known().view.leader_failed(&address, &fault);
                    hops = if redirected { hops + 1 } else { 0 };
                    if !redirected || hops > REDIRECTS || effort.remaining().is_zero() {
                        effort.pause().await?;
                    }
                }
            }
        }
    }

    /// Sends a read to any node: the one that served last, then the others in random order, until the deadline.
    pub async fn on_any<T, F, Fut>(&self, call: F) -> Result<T, Fault>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        self.call_any(|channel, _| call(channel)).await.map(|(answer, _)| answer)
    }

    /// Like [`Cluster::on_any`]. `call` is given the timeout of the attempt; the result names the node that served.
    pub(super) async fn call_any<T, F, Fut>(&self, call: F) -> Result<(T, Address), Fault>
    where
        F: Fn(Channel, Duration) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        let mut effort = self.effort(Kind::Read);
        if self.known().discovered.is_none() {
            self.discover(effort.remaining()).await;
        }
        self.refresh_if_old();
        let mut tried = BTreeSet::new();
        loop {
            let Some(address) = self.untried(&tried) else {
                tried.clear();
                effort.pause().await?;
                self.discover(effort.remaining()).await;
                continue;
            };
            let calling = call(self.channel(&address), effort.attempt_timeout());
            match effort.attempt(&address, calling).await {
                Ok(answer) => {
                    self.known().favourite = Some(address.clone());
                    return Ok((answer, address));
                }
                Err(fault) if !may_succeed_elsewhere(&fault) => return Err(fault),
                Err(fault) => {
                    self.forget_favourite();
                    // The rate limit counts the account on every node, so another node would refuse it too.
                    if fault.reason == Reason::RateLimited || effort.remaining().is_zero() {
                        effort.pause().await?;
                    }
                    tried.insert(address);
                }
            }
        }
    }

    /// The channel to the node at `address`, shared by all calls.
    pub fn channel(&self, address: &Address) -> Channel {
        let mut known = self.known();
        if let Some(channel) = known.channels.get(address) {
            return channel.clone();
        }
        if known.channels.len() >= CHANNELS {
            let current: BTreeSet<Address> = known.view.addresses().into_iter().collect();
            known.channels.retain(|address, _| current.contains(address));
        }
        let channel = self.shared.dialer.channel(address, Profile::Client);
        if known.channels.len() < CHANNELS {
            known.channels.insert(address.clone(), channel.clone());
        }
        channel
    }

    /// Refreshes the membership in the background once it is older than [`REFRESH`]. Nodes may join and leave while no
    /// call fails.
    pub(super) fn refresh_if_old(&self) {
        let mut known = self.known();
        if known.discovered.is_none_or(|when| when.elapsed() < REFRESH) {
            return;
        }
        known.discovered = Some(Instant::now());
        drop(known);
        let cluster = self.clone();
        tokio::spawn(async move { cluster.discover(discovery::TIMEOUT).await });
    }

    /// A new request_id, for one write and all its attempts.
    pub fn request_id(&self) -> RequestId {
        RequestId::new(self.shared.settings.clock.now_ms(), self.shared.settings.entropy.bytes())
    }

    /// All known addresses: the members, then the other seeds.
    pub fn addresses(&self) -> Vec<Address> {
        self.known().view.addresses()
    }

    /// The cluster's id; empty before any node has answered.
    pub fn id(&self) -> String {
        self.known().view.cluster_id().to_owned()
    }

    /// A request that names this cluster. A node of another cluster that has taken over the address refuses it.
    pub(super) fn request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        if let Ok(id) = self.known().view.cluster_id().parse::<AsciiMetadataValue>()
            && !id.is_empty()
        {
            request.metadata_mut().insert(metadata::CLUSTER, id);
        }
        request
    }

    /// The clock from the settings.
    pub fn clock(&self) -> &Clock {
        &self.shared.settings.clock
    }

    pub(super) fn entropy(&self) -> &Entropy {
        &self.shared.settings.entropy
    }

    /// Forgets the node that served the last read, so the next read goes to any node.
    pub(super) fn forget_favourite(&self) {
        self.known().favourite = None;
    }

    /// The leader, asked for if it is not known. Records in `effort` why there is none.
    async fn leader(&self, effort: &mut Effort) -> Option<Address> {
        if let Some(address) = self.known().view.leader() {
            return Some(address);
        }
        let answered = self.discover(effort.remaining()).await;
        let leader = self.known().view.leader();
        if leader.is_none() {
            let fault = match answered {
                Some(0) => self.no_answer_fault(),
                _ => Fault::new(Reason::NoLeader, self.no_leader())
                    .next("`chat-admin status` shows what the cluster lacks"),
            };
            effort.note(fault);
        }
        leader
    }

    /// Why there may be no leader.
    fn no_leader(&self) -> String {
        let untrusted = self.known().untrusted.iter().cloned().collect::<Vec<_>>().join("; ");
        match untrusted.is_empty() {
            true => "no leader is known: an election is under way, or too few nodes run".to_owned(),
            false => format!("no leader is known: {untrusted}"),
        }
    }

    /// Asks all nodes and returns how many answered. Returns `None` if another task did so while this one waited.
    async fn discover(&self, remaining: Duration) -> Option<usize> {
        let before = self.known().discoveries;
        let _turn = self.shared.discovering.lock().await;
        if self.known().discoveries != before {
            return None;
        }
        Some(self.ask_all(remaining).await.len())
    }

    async fn ask_all(&self, remaining: Duration) -> Vec<GetMembershipResponse> {
        let addresses = self.addresses();
        let nodes = addresses.into_iter().map(|address| (address.clone(), self.channel(&address))).collect();
        let timeout = discovery::TIMEOUT.min(remaining);
        let (mut answers, refusal) = discovery::ask_all(nodes, timeout).await;
        let mut known = self.known();
        // A round that the deadline cut short proves nothing, so it does not erase an earlier refusal.
        if refusal.is_some() || !answers.is_empty() || timeout == discovery::TIMEOUT {
            known.refusal = refusal;
        }
        answers.retain(|answer| known.view.is_ours(&answer.cluster_id) || answer.answered_by_id == 0);
        if let Some(best) = answers.first() {
            known.view.learn_membership(best);
        }
        // The best answer is learned first for the leader and once more at the end, so that its list of nodes stays.
        for answer in answers.iter().rev() {
            known.view.learn_membership(answer);
        }
        known.discoveries += 1;
        known.untrusted = untrusted(&answers);
        if !answers.is_empty() {
            known.discovered = Some(Instant::now());
        }
        answers
    }

    /// The favourite, or else a random node that is not in `tried`.
    fn untried(&self, tried: &BTreeSet<Address>) -> Option<Address> {
        let known = self.known();
        let favourite = known.favourite.clone().filter(|address| !tried.contains(address));
        favourite.or_else(|| {
            let mut left: Vec<Address> = known.view.addresses();
            left.retain(|address| !tried.contains(address));
            let pick = usize::from(u16::from_be_bytes(self.shared.settings.entropy.bytes()));
            (!left.is_empty()).then(|| left.swap_remove(pick % left.len()))
        })
    }

    /// The fault to report when no node has answered.
    fn no_answer_fault(&self) -> Fault {
        if let Some(refusal) = self.known().refusal.clone() {
            return refusal.next("repeat it later, or ask other nodes");
        }
        let addresses: Vec<String> = self.addresses().iter().map(ToString::to_string).collect();
        Fault::new(Reason::Unreachable, format!("no node answers at {}", addresses.join(", ")))
            .next("check the addresses, and that the nodes run")
    }

    fn effort(&self, kind: Kind) -> Effort {
        Effort::new(kind, self.timeout, self.attempt, &self.shared.settings.entropy)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // A panic in another task leaves at worst an older view, which the next call corrects.
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the same call may succeed later or on another node.
fn may_succeed_elsewhere(fault: &Fault) -> bool {
    fault.reason.is_transient() || fault.reason == Reason::WrongCluster
}

/// The reasons of the nodes whose disks are not trusted, in the words of a node that knows.
fn untrusted(answers: &[GetMembershipResponse]) -> BTreeSet<String> {
    let nodes = answers.iter().flat_map(|answer| &answer.nodes);
    let untrusted = nodes.filter(|node| matches!(node.condition.as_str(), "verifying" | "rolled back"));
    untrusted.map(|node| node.condition_reason.clone()).filter(|reason| !reason.is_empty()).collect()
}
