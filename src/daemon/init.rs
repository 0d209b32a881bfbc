//! `chat-node init` and `chat-node restore`: a new cluster of one voter.
//!
//! Both need an empty data directory and leave a node that has not been started yet.

use std::path::Path;

use super::failure::start_failure;
use crate::{
    cli::{Output, Result, node::founder},
    config::NodeConfig,
    node::{Identity, Node, Settings},
    wire::json,
};

/// Makes an empty cluster.
pub async fn init(config: NodeConfig, out: &mut Output) -> Result<()> {
    founder(&config)?;
    let dir = config.data_dir.clone();
    let identity = Node::init(Settings::production(config)).await.map_err(|error| start_failure(error, &dir))?;
    print_identity(out, &identity, &dir)
}

/// Makes a cluster that holds the state of the backup at `from`. It has a cluster id of its own.
pub async fn restore(config: NodeConfig, from: &Path, out: &mut Output) -> Result<()> {
    founder(&config)?;
    let dir = config.data_dir.clone();
    let restoring = Node::restore(Settings::production(config), from);
    let identity = restoring.await.map_err(|error| start_failure(error, &dir))?;
    print_identity(out, &identity, &dir)
}

fn print_identity(out: &mut Output, identity: &Identity, dir: &Path) -> Result<()> {
    if out.is_json() {
        return out.line(json::to_string(identity));
    }
    out.line(format!("cluster {}", identity.cluster_id))?;
    out.line(format!("node    {} (id {}) at {}", identity.name, identity.node_id, identity.address))?;
    out.line(format!("start it: chat-node run --data-dir {}", dir.display()))
}
