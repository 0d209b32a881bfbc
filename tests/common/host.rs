//! The machine of one node: its port, its data directory and its runtime.
//!
//! Invariants: the port is bound for as long as the host exists, so no other process can take it while the node is
//! down. All tasks of a node run on its own runtime, so shutting that down kills the node.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use quorate::{
    config::{Argon2, NodeConfig, Rates, SnapshotPolicy},
    node::{Exit, Node, Settings, StartError},
    server::{incoming, listen, peer_routes, serve},
    types::{Address, Clock, NodeName, Zone},
};
use tempfile::TempDir;
use tokio::{
    net::TcpSocket,
    runtime::Runtime,
    sync::{oneshot, watch},
    task::JoinHandle,
};

use super::{Endpoint, Network};

pub struct Host {
    pub number: usize,
    pub address: Address,
    pub config: NodeConfig,
    /// How far this machine's clock is ahead, in milliseconds.
    pub skew: Arc<AtomicI64>,
    dir: TempDir,
    /// Bound and never listening: it keeps the port for this host while its node is down.
    _port: TcpSocket,
    running: Option<Running>,
}

struct Running {
    node: Node,
    stop: oneshot::Sender<()>,
    exit: watch::Receiver<Option<Exit>>,
    ended: JoinHandle<()>,
    runtime: Runtime,
}

impl Host {
    pub fn new(number: usize, zone: &str, snapshot: SnapshotPolicy, network: &Network) -> Self {
        let port = TcpSocket::new_v4().expect("a socket");
        port.set_reuseaddr(true).expect("a port that can be bound again");
        port.bind("127.0.0.1:0".parse().expect("loopback")).expect("a free port");
        let address: Address = port.local_addr().expect("its address").to_string().parse().expect("an address");
        network.register(address.as_str(), Endpoint::Node(number));
        let dir = TempDir::new().expect("a directory");
        let defaults = NodeConfig::defaults(dir.path().join("data"));
        let config = NodeConfig {
            name: Some(NodeName::new(&format!("n{number}")).expect("a name")),
            listen: Some(address.clone()),
            advertise: Some(address.clone()),
            zone: (!zone.is_empty()).then(|| Zone::new(zone).expect("a zone")),
            heartbeat: Duration::from_millis(50),
            election_timeout_min: Duration::from_millis(250),
            election_timeout_max: Duration::from_millis(500),
            argon2: Argon2::insecure_for_tests(),
            // These tests put load on the cluster. The limit on wrong passwords stays.
            rates: Rates { writes: None, requests: None, ..Rates::DEFAULT },
            snapshot,
            ..defaults
        };
        Self { number, address, config, skew: Arc::default(), dir, _port: port, running: None }
    }

    fn settings(&self, network: &Network) -> Settings {
        let (system, skew) = (Clock::system(), self.skew.clone());
        let clock = Clock::new(move || system.now_ms().saturating_add_signed(skew.load(Ordering::Relaxed)));
        let dialer = network.dialer(Endpoint::Node(self.number));
        Settings { dialer, clock, ..Settings::production(self.config.clone()) }
    }

    fn runtime(&self) -> Runtime {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).max_blocking_threads(8).enable_all();
        builder.thread_name(format!("n{}", self.number)).build().expect("a runtime")
    }

    /// `chat-node init`.
    pub async fn init(&self, network: &Network) -> Result<(), StartError> {
        let (runtime, settings) = (self.runtime(), self.settings(network));
        let made = runtime.spawn(async move { Node::init(settings).await.map(|_| ()) }).await.expect("no panic");
        end(runtime).await;
        made
    }

    /// `chat-node run`.
    pub async fn start(&mut self, network: &Network) -> Result<(), StartError> {
        assert!(self.running.is_none(), "n{} runs already", self.number);
        let (runtime, settings, address) = (self.runtime(), self.settings(network), self.address.clone());
        let started = runtime.spawn(async move {
            let listener = listen(&address).await.expect("the port that was kept");
            let node = Node::start(settings).await?;
            let (stop, stopping) = oneshot::channel::<()>();
            let (left, exit) = watch::channel(None);
            let running = node.clone();
            let ended = tokio::spawn(async move {
                let (stop, stopped) = oneshot::channel::<()>();
                let served = running.clone();
                let serving = tokio::spawn(async move {
                    let config = served.settings().config.clone();
                    let shutdown = async {
                        let _ = stopped.await;
                    };
                    serve(served.clone(), &config, incoming(listener), peer_routes(&served), shutdown).await
                });
                tokio::select! {
                    _ = stopping => {}
                    exit = running.exited() => {
                        left.send_replace(Some(exit));
                    }
                }
                running.stop().await;
                let _ = stop.send(());
                let _ = serving.await;
            });
            Ok::<_, StartError>((node, stop, exit, ended))
        });
        match started.await.expect("no panic") {
            Ok((node, stop, exit, ended)) => {
                self.running = Some(Running { node, stop, exit, ended, runtime });
                Ok(())
            }
            Err(error) => {
                end(runtime).await;
                Err(error)
            }
        }
    }

    /// Kills the node at whatever it is doing. What it has written stays.
    pub async fn kill(&mut self) {
        if let Some(Running { node, runtime, .. }) = self.running.take() {
            drop(node);
            end(runtime).await;
        }
    }

    /// Stops the node as SIGTERM does.
    pub async fn stop(&mut self) {
        if let Some(Running { node, stop, ended, runtime, .. }) = self.running.take() {
            drop(node);
            let _ = stop.send(());
            let _ = ended.await;
            end(runtime).await;
        }
    }

    pub fn node(&self) -> Option<Node> {
        self.running.as_ref().map(|running| running.node.clone())
    }

    /// Shows why the node stopped by itself, once it has.
    pub fn exit(&self) -> Option<watch::Receiver<Option<Exit>>> {
        self.running.as_ref().map(|running| running.exit.clone())
    }

    pub fn data_dir(&self) -> &std::path::Path {
        &self.config.data_dir
    }

    /// Deletes the data, as if the disk had been replaced by an empty one.
    pub fn wipe(&mut self) {
        assert!(self.running.is_none(), "n{} runs", self.number);
        std::fs::remove_dir_all(self.data_dir()).expect("the directory can be removed");
    }
}

/// Shuts a runtime down. tokio panics if an async task drops a runtime, so a blocking thread does it.
async fn end(runtime: Runtime) {
    let ending = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(10)));
    ending.await.expect("no panic");
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(Running { node, runtime, .. }) = self.running.take() {
            drop(node);
            runtime.shutdown_background();
        }
    }
}
