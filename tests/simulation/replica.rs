//! `chat-node run` on a simulated machine: the real product from its disks to its port, and checks of what it reports.
//!
//! Only the seams of [`Settings`] are simulated. What `main` does around it (arguments, signals, exit codes) is left to
//! `tests/processes`.

use std::{rc::Rc, sync::Arc, time::Duration};

use quorate::{
    config::{Argon2, NodeConfig},
    node::{Exit, Node, Settings, StartError},
    server,
    storage::{Blocking, DataDir, archive},
    types::{Consistency, NodeName},
};
use tokio::{sync::oneshot, time::sleep};
use turmoil::net::TcpListener;

use crate::{
    network::{PORT, incoming},
    peer_recorder::PeerRecorder,
    world::{State, World, address, leads},
};

/// The machine whose node founds the cluster.
pub const FOUNDER: &str = "n1";

/// Interval between two digests of a node's whole state.
const DIGEST_MS: u64 = 2_000;
/// Interval at which a node is asked for its report.
const REPORT_EVERY: Duration = Duration::from_millis(20);

/// Software of a machine's host: turmoil calls it at the first start and after each restart.
///
/// Runs a process from its start to its end, and records how it ended. A process that fails although its disk had no
/// fault is a violation.
pub async fn run(world: Rc<World>, name: String) {
    let machine = world.machine(&name);
    *machine.state.borrow_mut() = State::Running;
    *machine.report.borrow_mut() = None;
    let mut ended = run_process(&world, &name).await;
    // A process that was still stopping when the faults ended was not seen as down, so it starts again here.
    while ended == State::Down && world.workload_stopped.get() {
        ended = run_process(&world, &name).await;
    }
    tracing::info!(target: "simulation", name, ?ended, "process ended");
    *machine.report.borrow_mut() = None;
    if let State::Failed(why) = &ended
        && machine.disks().is_powered()
        && machine.disk_problem().is_none()
        && !machine.has_bit_rot()
    {
        world.violation(format!("{name} failed without a disk fault: {why}"));
    }
    *machine.state.borrow_mut() = ended;
}

async fn run_process(world: &Rc<World>, name: &str) -> State {
    let config = config(world, name);
    let settings = Settings {
        config: config.clone(),
        clock: world.clock(name),
        entropy: world.entropy(name),
        dialer: world.connections.dialer(),
        blocking: Blocking::Inline,
        trust_this_disk: false,
    };
    // After bit rot a promise may well be lost. The node itself must notice that, so nothing is checked here.
    if !world.machine(name).has_bit_rot() {
        world.promises.check_disk(name, &world.machine(name).disks());
    }
    // Bound before the node starts, because its peers may dial at once.
    let listener = match TcpListener::bind(("0.0.0.0", PORT)).await {
        Ok(listener) => listener,
        Err(error) => return State::Failed(format!("cannot bind the port: {error}")),
    };
    let dir = DataDir::on(Arc::new(world.machine(name).disks()));
    let node = match start(world, settings, dir, name).await {
        Ok(node) => node,
        Err(StartError::Removed { .. }) => return State::Removed,
        Err(error) => return State::Failed(error.to_string()),
    };
    let (stop, stopping) = oneshot::channel::<()>();
    let shutdown = async { drop(stopping.await) };
    let peers = server::peer_routes_by(PeerRecorder::new(node.peer_service(), world.promises.clone(), name), &node);
    let serving = server::serve(node.clone(), &config, incoming(listener), peers, shutdown);
    let stopped = async {
        // As in production the node stops first: it transfers leadership while its server still answers.
        world.machine(name).stop.notified().await;
        node.stop().await;
        let _ = stop.send(());
        std::future::pending::<()>().await;
    };
    // Biased, so that the order of branches costs no random draw. A node that ends by itself ends the process;
    // observing and stopping only go along.
    tokio::select! {
        biased;
        exit = node.exited() => match exit {
            Exit::Removed => State::Removed,
            other => State::Failed(other.to_string()),
        },
        served = serving => match served {
            Ok(()) => State::Down,
            Err(error) => State::Failed(error.to_string()),
        },
        () = stopped => State::Down,
        () = observe(world, name, &node) => State::Down,
    }
}

/// Starts the node. The founder creates the cluster at its very first start, and never again: a second founding, after
/// its disk was replaced, would make a second cluster.
async fn start(world: &World, settings: Settings, dir: DataDir, name: &str) -> Result<Node, StartError> {
    if name == FOUNDER && !world.is_founded.replace(true) {
        Node::init_on(settings.clone(), dir.clone()).await?;
    }
    Node::start_on(settings, dir).await
}

/// A configuration like that of production, except for password hashing: argon2 at full cost would dominate the run.
fn config(world: &World, name: &str) -> NodeConfig {
    NodeConfig {
        name: NodeName::new(name).ok(),
        listen: Some(address(name)),
        advertise: Some(address(name)),
        snapshot: world.snapshots,
        argon2: Argon2::insecure_for_tests(),
        ..NodeConfig::defaults("/simulated")
    }
}

/// Records the node's reports about itself, and checks each against what it and others reported or promised before.
/// Never returns: the caller drops it when the process ends.
async fn observe(world: &World, name: &str, node: &Node) {
    let (mut applied, mut promised_term, mut digests) = (0, 0, 0);
    loop {
        let report = node.membership();
        if leads(&report) {
            world.record_leader(name, report.term, report.leader_id);
        }
        if report.answered_by_id == 0 {
            // Not a member yet, or no longer one: its report says nothing.
            sleep(REPORT_EVERY).await;
            continue;
        }
        if report.applied_index < applied {
            world.violation(format!("the applied index of {name} fell from {applied} to {}", report.applied_index));
        }
        if report.term < promised_term {
            world.violation(format!("{name} reports term {} after it promised term {promised_term}", report.term));
        }
        world.record_id(name, report.answered_by_id);
        // Read after the report: a promise that it makes in between shows in the next report only.
        (applied, promised_term) = (report.applied_index, world.promises.term(name));
        *world.machine(name).report.borrow_mut() = Some(report);
        // All nodes do this at the same moments, so that they are often at the same index.
        let interval = world.elapsed_ms() / DIGEST_MS;
        if interval > digests {
            digests = interval;
            record_digest(world, name, node).await;
        }
        sleep(REPORT_EVERY).await;
    }
}

async fn record_digest(world: &World, name: &str, node: &Node) {
    let answer = node.query(Consistency::Stale, Duration::from_secs(1), |state| archive::digest(state)).await;
    // A node that cannot read its state ends by itself, and is judged by that.
    if let Ok((digest, index)) = answer {
        world.record_digest(name, index, digest);
    }
}
