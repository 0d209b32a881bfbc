//! `chat-node run` on a simulated machine: the product from its disks to its port.

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
    net::{PORT, incoming},
    tap::Tap,
    world::{State, World, address},
};

/// The machine on which the cluster is founded.
pub const FOUNDER: &str = "n1";

/// Between two looks at a node's state as a whole.
const HASH_MS: u64 = 2_000;

/// Runs from the start of the process to its end.
pub async fn run(world: Rc<World>, name: String) {
    let machine = world.machine(&name);
    *machine.state.borrow_mut() = State::Running;
    *machine.said.borrow_mut() = None;
    let mut ended = live(&world, &name).await;
    // Whoever was on its way down when the faults ended is started again, as all others were.
    while ended == State::Down && world.calm.get() {
        ended = live(&world, &name).await;
    }
    tracing::info!(target: "simulation", name, ?ended, "process ended");
    *machine.said.borrow_mut() = None;
    if let State::Failed(why) = &ended
        && machine.disks().is_powered()
        && machine.ailment().is_none()
        && !machine.is_rotten()
    {
        world.violation(format!("{name} failed although its disk did not: {why}"));
    }
    *machine.state.borrow_mut() = ended;
}

async fn live(world: &Rc<World>, name: &str) -> State {
    let config = config(world, name);
    let settings = Settings {
        config: config.clone(),
        clock: world.clock(name),
        entropy: world.entropy(name),
        dialer: world.wires.dialer(),
        blocking: Blocking::Inline,
    };
    // What rot has taken is for the node itself to notice.
    if !world.machine(name).is_rotten() {
        world.promises.check_disk(name, &world.machine(name).disks());
    }
    let listener = match TcpListener::bind(("0.0.0.0", PORT)).await {
        Ok(listener) => listener,
        Err(error) => return State::Failed(format!("no port: {error}")),
    };
    let dir = DataDir::on(Arc::new(world.machine(name).disks()));
    let node = match start(world, settings, dir, name).await {
        Ok(node) => node,
        Err(StartError::Removed { .. }) => return State::Removed,
        Err(error) => return State::Failed(error.to_string()),
    };
    let (stop, stopping) = oneshot::channel::<()>();
    let shutdown = async { drop(stopping.await) };
    let peers = server::peer_routes_by(Tap::new(node.peer_service(), world.promises.clone(), name), &node);
    let serving = server::serve(node.clone(), &config, incoming(listener), peers, shutdown);
    let stopped = async {
        world.machine(name).stop.notified().await;
        node.stop().await;
        let _ = stop.send(());
        std::future::pending::<()>().await;
    };
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

async fn start(world: &World, settings: Settings, dir: DataDir, name: &str) -> Result<Node, StartError> {
    if name == FOUNDER && !world.founded.replace(true) {
        Node::init_on(settings.clone(), dir.clone()).await?;
    }
    Node::start_on(settings, dir).await
}

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

/// Notes what the node says of itself, and holds it against what it and others have said.
async fn observe(world: &World, name: &str, node: &Node) {
    let (mut applied, mut promised, mut hashed) = (0, 0, 0);
    loop {
        let said = node.membership();
        if said.leader_id != 0 && said.leader_id == said.answered_by_id {
            world.note_leader(name, said.term, said.leader_id);
        }
        if said.answered_by_id == 0 {
            // Not a member yet, or no longer: it has nothing to say.
            sleep(Duration::from_millis(20)).await;
            continue;
        }
        if said.applied_index < applied {
            world.violation(format!("{name} went back from index {applied} to {}", said.applied_index));
        }
        if said.term < promised {
            world.violation(format!("{name} is in term {} after it had promised term {promised}", said.term));
        }
        world.note_id(name, said.answered_by_id);
        // What it promises from here on, it may tell of at the next look.
        (applied, promised) = (said.applied_index, world.promises.term(name));
        *world.machine(name).said.borrow_mut() = Some(said);
        // All at the same moments: so they are at the same index often.
        let turn = world.elapsed_ms() / HASH_MS;
        if turn > hashed {
            hashed = turn;
            hash(world, name, node).await;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn hash(world: &World, name: &str, node: &Node) {
    let hashed = node.query(Consistency::Stale, Duration::from_secs(1), |state| archive::digest(state)).await;
    // A node that cannot read its state says so by itself.
    if let Ok((digest, index)) = hashed {
        world.note_digest(name, index, digest);
    }
}
