//! A running cluster, and what a test may do to it: kill, stop, restart, cut off, look.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use quorate::{
    client,
    node::{self, Exit, Node, Settings, StartError},
    types::Address,
    wire::{
        Profile,
        admin::{GetStateDigestRequest, admin_service_client::AdminServiceClient},
        cluster::{GetMembershipResponse, Role},
        store::Inspection,
    },
};
use tonic::transport::Channel;

use super::{Endpoint, Network, User, eventually, host::Host};

/// A cluster in this process. Tests name nodes by number, from 1; node 3 has the name `n3`.
///
/// Invariant: a host that is being worked on (started, killed, stopped) is taken out of `hosts` meanwhile, so no lock
/// is held across an await. A second call to the same host panics instead of waiting.
pub struct Cluster {
    pub network: Network,
    hosts: Mutex<Vec<Host>>,
}

impl Cluster {
    pub(super) fn new(network: Network, hosts: Vec<Host>) -> Self {
        Self { network, hosts: Mutex::new(hosts) }
    }

    fn hosts(&self) -> MutexGuard<'_, Vec<Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a host out, works on it, and puts it back.
    async fn with_host<T>(&self, number: usize, work: impl AsyncFnOnce(&mut Host, &Network) -> T) -> T {
        let at = self.hosts().iter().position(|host| host.number == number);
        let mut host = self.hosts().remove(at.unwrap_or_else(|| panic!("n{number} is busy or unknown")));
        let result = work(&mut host, &self.network).await;
        self.hosts().push(host);
        result
    }

    fn host<T>(&self, number: usize, look: impl FnOnce(&Host) -> T) -> T {
        let hosts = self.hosts();
        look(hosts.iter().find(|host| host.number == number).unwrap_or_else(|| panic!("n{number} is busy or unknown")))
    }

    /// The node, if it runs.
    pub fn node(&self, number: usize) -> Option<Node> {
        self.hosts().iter().find(|host| host.number == number).and_then(Host::node)
    }

    pub fn address(&self, number: usize) -> Address {
        self.host(number, |host| host.address.clone())
    }

    pub fn zone(&self, number: usize) -> String {
        self.host(number, |host| host.config.zone.as_ref().map(ToString::to_string).unwrap_or_default())
    }

    pub fn data_dir(&self, number: usize) -> std::path::PathBuf {
        self.host(number, |host| host.data_dir().to_owned())
    }

    fn running(&self) -> BTreeMap<usize, Node> {
        self.hosts().iter().filter_map(|host| Some((host.number, host.node()?))).collect()
    }

    /// Kills nodes, all at once, at whatever they are doing.
    pub async fn kill(&self, numbers: impl IntoIterator<Item = usize>) {
        let kills = numbers.into_iter().map(|n| self.with_host(n, async |host, _| host.kill().await));
        futures::future::join_all(kills).await;
    }

    /// Stops a node as SIGTERM does.
    pub async fn stop(&self, number: usize) {
        self.with_host(number, async |host, _| host.stop().await).await;
    }

    /// Starts a node on its data directory.
    pub async fn restart(&self, number: usize) -> Result<(), StartError> {
        self.with_host(number, async |host, network| host.start(network).await).await
    }

    /// Starts nodes on their data directories; panics if one does not start.
    pub async fn restart_all(&self, numbers: impl IntoIterator<Item = usize>) {
        for number in numbers {
            self.restart(number).await.unwrap_or_else(|error| panic!("n{number} does not start: {error}"));
        }
    }

    /// `chat-node init` on a node's directory.
    pub async fn init(&self, number: usize) -> Result<(), StartError> {
        self.with_host(number, async |host, network| host.init(network).await).await
    }

    /// Tries to start a second node on the data directory of a running one.
    pub async fn start_beside(&self, number: usize) -> Result<(), StartError> {
        let config = self.host(number, |host| host.config.clone());
        Node::start(Settings::production(config)).await.map(drop)
    }

    /// Inspects the data directory of a stopped node.
    pub async fn inspect(&self, number: usize) -> Inspection {
        let config = self.host(number, |host| host.config.clone());
        node::inspect(Settings::production(config)).await.expect("the directory of a node")
    }

    /// Deletes the data directory of a stopped node.
    pub async fn wipe(&self, number: usize) {
        self.with_host(number, async |host, _| host.wipe()).await;
    }

    /// Sets a node's clock ahead by `ms` milliseconds, or back if negative.
    pub fn skew(&self, number: usize, ms: i64) {
        self.host(number, |host| host.skew.store(ms, Ordering::Relaxed));
    }

    /// Waits until a node stops by itself. Returns why.
    pub async fn exited(&self, number: usize) -> Exit {
        let mut exit = self.host(number, Host::exit).expect("the node was started");
        eventually(&format!("n{number} stops by itself\n{}", self.status()), async || {
            exit.borrow_and_update().clone().ok_or_else(|| self.status())
        })
        .await
    }

    /// Cuts all links between two groups, both ways.
    pub fn partition(&self, some: &[usize], others: &[usize]) {
        for (a, b) in some.iter().flat_map(|a| others.iter().map(move |b| (*a, *b))) {
            self.network.cut(Endpoint::Node(a), Endpoint::Node(b));
        }
    }

    /// Cuts a node off from all other nodes. Clients still reach it.
    pub fn isolate(&self, number: usize) {
        let others = self.others(&[number]);
        self.partition(&[number], &others);
    }

    /// Cuts a node off from all other nodes and from clients, as if the machine were frozen.
    pub fn isolate_from_all(&self, number: usize) {
        self.isolate(number);
        self.network.cut(Endpoint::Node(number), Endpoint::Clients);
    }

    /// Restores all links.
    pub fn heal(&self) {
        self.network.heal();
    }

    /// The numbers of all nodes except these.
    pub fn others(&self, than: &[usize]) -> Vec<usize> {
        let mut others: Vec<usize> = self.hosts().iter().map(|host| host.number).collect();
        others.retain(|number| !than.contains(number));
        others.sort_unstable();
        others
    }

    /// A node's view of the membership; empty if it does not run.
    pub fn membership(&self, number: usize) -> GetMembershipResponse {
        self.node(number).map(|node| node.membership()).unwrap_or_default()
    }

    /// The node that leads with a quorum, in the newest term.
    pub fn leader(&self) -> Option<usize> {
        let views = self.running().into_iter().map(|(number, node)| (number, node.membership()));
        let leading = views.filter(|(_, view)| view.leader_id != 0 && view.leader_id == view.answered_by_id);
        leading.filter(|(_, view)| view.has_quorum).max_by_key(|(_, view)| view.term).map(|(number, _)| number)
    }

    /// Waits until a node leads with a quorum.
    pub async fn wait_for_leader(&self) -> usize {
        eventually("a leader", async || self.leader().ok_or_else(|| self.status())).await
    }

    /// Waits until one of `among` leads with a quorum.
    pub async fn wait_for_leader_among(&self, among: &[usize]) -> usize {
        eventually("a leader", async || {
            self.leader().filter(|leader| among.contains(leader)).ok_or_else(|| self.status())
        })
        .await
    }

    /// The leader and the other voters. Waits for a leader.
    pub async fn roles(&self) -> (usize, Vec<usize>) {
        let leader = self.wait_for_leader().await;
        let voters = self.voters(leader).into_iter().filter(|voter| *voter != leader).collect();
        (leader, voters)
    }

    /// The voters in the view of the node `asked`.
    pub fn voters(&self, asked: usize) -> Vec<usize> {
        let nodes = self.membership(asked).nodes;
        let voters = nodes.iter().filter(|node| node.role() == Role::Voter);
        voters.filter_map(|node| node.name.strip_prefix('n')?.parse().ok()).collect()
    }

    /// Waits until all running members agree on a membership of this many voters, and no change is under way.
    pub async fn wait_for_voters(&self, count: usize) {
        eventually(&format!("a uniform membership of {count} voters everywhere"), async || {
            let leader = self.leader().ok_or_else(|| self.status())?;
            let wanted = self.membership(leader);
            let members: Vec<_> = self.running().into_values().map(|node| node.membership()).collect();
            let listed = |view: &GetMembershipResponse| wanted.nodes.iter().any(|n| n.node_id == view.answered_by_id);
            let agree = members.iter().filter(|view| listed(view)).all(|view| view.etag == wanted.etag);
            let voters = wanted.nodes.iter().filter(|node| node.role() == Role::Voter).count();
            if agree && !wanted.joint && voters == count { Ok(()) } else { Err(self.status()) }
        })
        .await;
    }

    /// A client that knows all addresses.
    pub fn client(&self) -> client::Cluster {
        self.client_with(Duration::from_secs(20))
    }

    /// A client that knows all addresses and gives up after `timeout`.
    pub fn client_with(&self, timeout: Duration) -> client::Cluster {
        let seeds = self.hosts().iter().map(|host| host.address.clone()).collect();
        client::Cluster::new(seeds, self.network.dialer(Endpoint::Clients), client::Settings::new(timeout))
    }

    /// A channel to one node.
    pub fn channel(&self, number: usize) -> Channel {
        self.network.dialer(Endpoint::Clients).channel(&self.address(number), Profile::Client)
    }

    /// Creates an account and signs it in.
    pub async fn user(&self, name: &str) -> User {
        User::register(&self.client(), name).await
    }

    /// Creates accounts with these names and signs them in.
    pub async fn accounts<const N: usize>(&self, names: [&str; N]) -> [User; N] {
        let users = futures::future::join_all(names.map(|name| self.user(name))).await;
        users.try_into().unwrap_or_else(|_| panic!("one user for each name"))
    }

    /// Waits until all running members are at one log index; panics unless their digests are equal (P8).
    pub async fn assert_replicas_agree(&self) {
        let digests = eventually("all replicas at one index", async || {
            let leader = self.leader().ok_or_else(|| self.status())?;
            let ids: Vec<u64> = self.membership(leader).nodes.iter().map(|node| node.node_id).collect();
            let at_least_index = self.membership(leader).commit_index;
            let running = self.running().into_iter();
            let members = running.filter(|(_, node)| ids.contains(&node.membership().answered_by_id));
            let asked = members.map(|(number, _)| async move {
                let mut admin = AdminServiceClient::new(self.channel(number));
                let call = admin.get_state_digest(GetStateDigestRequest { at_least_index, exact_index: 0 });
                let answer =
                    tokio::time::timeout(Duration::from_secs(10), call).await.map_err(|_| "silent".to_owned())?;
                let answer = answer.map_err(|status| status.to_string())?.into_inner();
                Ok::<_, String>((number, answer.index, answer.digest))
            });
            let answers = futures::future::try_join_all(asked).await.map_err(|error| error + "\n" + &self.status())?;
            let level = answers.iter().all(|(_, index, _)| *index == answers[0].1);
            if level && !answers.is_empty() { Ok(answers) } else { Err(self.status()) }
        })
        .await;
        let equal = digests.iter().all(|(_, _, digest)| *digest == digests[0].2);
        assert!(equal, "replicas at one index differ (P8): {digests:?}\n{}", self.status());
    }

    /// Each running node's view of the cluster, printed when a test fails.
    pub fn status(&self) -> String {
        let mut table = String::from("node leader quorum term commit applied etag joint voters\n");
        for (number, node) in self.running() {
            let view = node.membership();
            let names = |role: Role| {
                let nodes = view.nodes.iter().filter(|node| node.role() == role);
                nodes.map(|node| format!("{}#{}", node.name, node.node_id)).collect::<Vec<_>>().join(" ")
            };
            let (voters, learners) = (names(Role::Voter), names(Role::Learner));
            let _ = writeln!(
                table,
                "n{number}#{} {} {} {} {} {} {} {} [{voters}] learners [{learners}]",
                view.answered_by_id,
                view.leader_id,
                view.has_quorum,
                view.term,
                view.commit_index,
                view.applied_index,
                view.etag,
                view.joint
            );
        }
        table
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the cluster when the test failed:\n{}", self.status());
        }
    }
}
