//! The cluster as one thing to call: finds the leader or any node, repeats what may be repeated.

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

/// Channels kept open at most: addresses that left the membership give way.
pub const CHANNELS: usize = 128;
/// How old the known membership may grow before it is asked for again in the background.
const REFRESH: Duration = Duration::from_secs(30);

/// Redirects followed in a row without a pause: nodes that are not of one mind could pass a client round for ever.
const REDIRECTS: u32 = 3;

/// A cluster, known by some of its addresses. Cheap to clone; clones share channels and knowledge.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
    attempt: Duration,
    timeout: Duration,
}

struct Shared {
    dialer: Dialer,
    settings: Settings,
    known: Mutex<Known>,
    /// Held by whoever is asking all nodes: the others wait for its findings rather than ask as well.
    discovering: tokio::sync::Mutex<()>,
}

struct Known {
    view: View,
    channels: BTreeMap<Address, Channel>,
    /// The node that served the last read.
    favourite: Option<Address>,
    discoveries: u64,
    discovered: Option<Instant>,
    /// Why a node that could be reached did not answer, the last time.
    refusal: Option<Fault>,
}

impl Cluster {
    /// A cluster to be found through `seeds`: some of its nodes, of which one must answer. Dials nothing yet.
    pub fn new(seeds: Vec<Address>, dialer: Dialer, settings: Settings) -> Self {
        let view = View::new(seeds);
        let known =
            Known { view, channels: BTreeMap::new(), favourite: None, discoveries: 0, discovered: None, refusal: None };
        let timeout = settings.timeout;
        let shared = Shared { dialer, settings, known: Mutex::new(known), discovering: tokio::sync::Mutex::default() };
        Self { shared: Arc::new(shared), attempt: ATTEMPT, timeout }
    }

    /// The same cluster, with attempts that may take as long as the whole operation: for calls that are slow by
    /// nature, such as an operator's, where a frozen node is better waited for than left.
    #[must_use]
    pub fn patient(&self) -> Self {
        Self { shared: self.shared.clone(), attempt: self.timeout, timeout: self.timeout }
    }

    /// The same cluster, with `timeout` as the deadline of each operation, and attempts as short as a user's: for one
    /// of several operations that share a deadline.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self { shared: self.shared.clone(), attempt: ATTEMPT, timeout }
    }

    /// The membership, from whichever node answers: all are asked at once, and an answer that knows a leader in the
    /// newest term is preferred. Answers within a second if any node does; UNREACHABLE at the deadline if none does.
    pub async fn membership(&self) -> Result<GetMembershipResponse, Fault> {
        let mut effort = self.effort(Kind::Read);
        loop {
            let answers = self.ask_all(effort.remaining()).await;
            if let Some(best) = answers.into_iter().next() {
                return Ok(best);
            }
            effort.note(self.nobody_answers());
            effort.pause().await?;
        }
    }

    /// What the node at `address` alone says, asked once.
    pub async fn membership_of(&self, address: &Address) -> Result<GetMembershipResponse, Fault> {
        let timeout = self.attempt.min(self.timeout);
        discovery::ask(address, self.channel(address), timeout).await
    }

    /// Gives the leader an operator's command: finds it, follows redirects, finds the next one when it is gone or
    /// silent, until the deadline. `call` is run once for each attempt and must be one that looks first at what is there
    /// already.
    ///
    /// Answers with the refusal if there is one; at the deadline with the last fault, or with TIMEOUT if the call may
    /// have taken effect.
    pub async fn on_leader<T, F, Fut>(&self, call: F) -> Result<T, Fault>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        self.leading(Kind::Command, |channel, _| call(channel)).await
    }

    /// As [`Cluster::on_leader`], for a call that changes nothing.
    pub async fn read_leader<T, F, Fut>(&self, call: F) -> Result<T, Fault>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        self.leading(Kind::Read, |channel, _| call(channel)).await
    }

    /// As [`Cluster::on_leader`], for a call of any kind, which is told how long the attempt may take. A write must bear
    /// the same request_id in all attempts.
    pub(super) async fn leading<T, F, Fut>(&self, kind: Kind, call: F) -> Result<T, Fault>
    where
        F: Fn(Channel, Duration) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        self.freshen();
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
                Err(fault) if !is_worth_another_try(&fault) => return Err(fault),
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

    /// Calls any node: the one that served last, then the others in turn, until the deadline. For reads.
    pub async fn on_any<T, F, Fut>(&self, call: F) -> Result<T, Fault>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        self.anywhere(|channel, _| call(channel)).await.map(|(answer, _)| answer)
    }

    /// As [`Cluster::on_any`]; `call` is told how long the attempt may take, and the caller which node served.
    pub(super) async fn anywhere<T, F, Fut>(&self, call: F) -> Result<(T, Address), Fault>
    where
        F: Fn(Channel, Duration) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        let mut effort = self.effort(Kind::Read);
        if self.known().discovered.is_none() {
            self.discover(effort.remaining()).await;
        }
        self.freshen();
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
                Err(fault) if !is_worth_another_try(&fault) => return Err(fault),
                Err(fault) => {
                    self.roam();
                    // Another node would not serve a limited account sooner.
                    if fault.reason == Reason::RateLimited || effort.remaining().is_zero() {
                        effort.pause().await?;
                    }
                    tried.insert(address);
                }
            }
        }
    }

    /// A channel to the node at `address`: one for each address, shared by all calls.
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

    /// Asks for the membership in the background if what is known has grown old: nodes may come and go while nothing
    /// fails.
    pub(super) fn freshen(&self) {
        let mut known = self.known();
        if known.discovered.is_none_or(|when| when.elapsed() < REFRESH) {
            return;
        }
        known.discovered = Some(Instant::now());
        drop(known);
        let cluster = self.clone();
        tokio::spawn(async move { cluster.discover(discovery::TIMEOUT).await });
    }

    /// A new request id, for one write and all its attempts.
    pub fn request_id(&self) -> RequestId {
        RequestId::new(self.shared.settings.clock.now_ms(), self.shared.settings.entropy.bytes())
    }

    /// Every address known: members first, then the seeds.
    pub fn addresses(&self) -> Vec<Address> {
        self.known().view.addresses()
    }

    /// The cluster's id; empty before any node has told it.
    pub fn id(&self) -> String {
        self.known().view.cluster_id().to_owned()
    }

    /// A request to a node of this cluster: one of another cluster, that stands where ours stood, refuses it.
    pub(super) fn request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        if let Ok(id) = self.known().view.cluster_id().parse::<AsciiMetadataValue>()
            && !id.is_empty()
        {
            request.metadata_mut().insert(metadata::CLUSTER, id);
        }
        request
    }

    /// The clock it was given.
    pub fn clock(&self) -> &Clock {
        &self.shared.settings.clock
    }

    pub(super) fn entropy(&self) -> &Entropy {
        &self.shared.settings.entropy
    }

    /// Leaves the node that served the last read: the next one goes to any.
    pub(super) fn roam(&self) {
        self.known().favourite = None;
    }

    async fn leader(&self, effort: &mut Effort) -> Option<Address> {
        if let Some(address) = self.known().view.leader() {
            return Some(address);
        }
        let answered = self.discover(effort.remaining()).await;
        let leader = self.known().view.leader();
        if leader.is_none() {
            let fault = match answered {
                Some(0) => self.nobody_answers(),
                _ => Fault::new(Reason::NoLeader, "no leader is known: an election is under way, or too few nodes run")
                    .next("`chat-admin status` shows what the cluster lacks"),
            };
            effort.note(fault);
        }
        leader
    }

    /// Asks all nodes, unless another task has just done so: then its findings are good. Answers with how many spoke.
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
        // That nobody spoke before the deadline cut a round short takes nothing back.
        if refusal.is_some() || !answers.is_empty() || timeout == discovery::TIMEOUT {
            known.refusal = refusal;
        }
        answers.retain(|answer| known.view.is_ours(&answer.cluster_id) || answer.answered_by_id == 0);
        if let Some(best) = answers.first() {
            known.view.learn_membership(best);
        }
        // The best comes last as well, so that its word about the nodes stands.
        for answer in answers.iter().rev() {
            known.view.learn_membership(answer);
        }
        known.discoveries += 1;
        if !answers.is_empty() {
            known.discovered = Some(Instant::now());
        }
        answers
    }

    /// The favourite, or a random one of those not in `tried`.
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

    fn nobody_answers(&self) -> Fault {
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
        // A panic elsewhere leaves at worst an older view, which calls put right.
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the same call may succeed later, or on another node.
fn is_worth_another_try(fault: &Fault) -> bool {
    fault.reason.is_transient() || fault.reason == Reason::WrongCluster
}
