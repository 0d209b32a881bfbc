//! The identity of a node: a record in its data directory that says which member of which cluster the node is.
//!
//! The record is written once, when the node is initialised, restored or adopted. Later only three fields change:
//! `address` and `listen` follow a completed move, `removed` is set when the cluster removes the node.
//!
//! Invariant: an identity on disk implies that log and state exist beside it. Code that creates a member therefore
//! opens the stores first and writes the identity last. Writers of a running node hold `Inner::identity_file`.

use bytes::Bytes;

use crate::{
    config::NodeConfig,
    raft::types::Member,
    storage::{DataDir, Result},
    types::{Entropy, NodeId},
    wire::{Address, store},
};

const FILE: &str = "identity";

/// The id of the first node of a cluster. Later ids are allocated through the log.
pub const FIRST_NODE_ID: NodeId = 1;

pub use store::Identity;

/// A new id for a data directory: 16 random bytes.
pub fn new_directory_id(entropy: &Entropy) -> Bytes {
    Bytes::copy_from_slice(&entropy.bytes::<16>())
}

/// Reads the identity in `dir`; `None` for a node that belongs to no cluster yet.
pub fn read(dir: &DataDir) -> Result<Option<Identity>> {
    dir.read_record(FILE)
}

/// Replaces the identity in `dir`, durably and atomically.
pub fn write(dir: &DataDir, identity: &Identity) -> Result<()> {
    dir.write_record(FILE, identity)
}

/// Records that the cluster removed this node, so that it never starts again from this data.
pub fn mark_removed(dir: &DataDir) -> Result<()> {
    match read(dir)? {
        Some(identity) if !identity.removed => write(dir, &Identity { removed: true, ..identity }),
        _ => Ok(()),
    }
}

/// The node as the membership lists it.
pub fn as_member(identity: &Identity) -> Member {
    Member { name: identity.name.clone(), address: identity.address.clone(), zone: identity.zone.clone() }
}

/// Returns `known` updated for a node that runs with `config` and that the membership lists at `address`.
///
/// The listen address changes only together with the dialled address. Before a move is completed both stay as they
/// were; afterwards both are new, so a plain `chat-node run` listens where the cluster dials.
pub fn with_address(known: Identity, address: &str, config: &NodeConfig) -> Identity {
    let listen = match &config.listen {
        Some(listen) if move_completed(&known, address, listen, config) => listen.to_string(),
        _ => known.listen,
    };
    Identity { address: address.to_owned(), listen, ..known }
}

/// Whether `address` is new and is where this node runs now.
fn move_completed(known: &Identity, address: &str, listen: &Address, config: &NodeConfig) -> bool {
    let advertised = config.advertise.as_ref().is_some_and(|advertise| advertise.as_str() == address);
    // The cluster may use another host name than the node itself, but it dials the same port.
    let same_port = || address.parse().is_ok_and(|at: Address| at.port() == listen.port());
    address != known.address && (advertised || same_port())
}

/// The recorded listen address, if its port differs from the port that the cluster dials and no flag explains why.
pub fn unexplained_listen_address(known: &Identity, config: &NodeConfig) -> Option<Address> {
    if config.listen.is_some() || config.advertise.is_some() {
        return None;
    }
    let (listen, dialled): (Address, Address) = (known.listen.parse().ok()?, known.address.parse().ok()?);
    (listen.port() != dialled.port()).then_some(listen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Identity {
        Identity { address: "10.0.0.4:7404".into(), listen: "0.0.0.0:7404".into(), ..Default::default() }
    }

    fn started(listen: Option<&str>, advertise: Option<&str>) -> NodeConfig {
        let address = |text: &str| text.parse().unwrap();
        let (listen, advertise) = (listen.map(address), advertise.or(listen).map(address));
        NodeConfig { listen, advertise, ..NodeConfig::defaults("d") }
    }

    fn listen_after(address: &str, config: &NodeConfig) -> String {
        let followed = with_address(known(), address, config);
        assert_eq!(followed.address, address);
        followed.listen
    }

    #[test]
    fn where_a_node_listens_is_written_down_when_its_move_is_completed_and_not_before() {
        let moved = started(Some("10.0.0.4:8408"), None);
        assert_eq!(listen_after("10.0.0.4:7404", &moved), "0.0.0.0:7404", "the cluster dials the old port");
        assert_eq!(listen_after("10.0.0.4:8408", &moved), "10.0.0.4:8408");
        assert_eq!(listen_after("n4.example.org:8408", &moved), "10.0.0.4:8408", "the same port by another name");
        assert_eq!(listen_after("10.0.0.9:9999", &moved), "0.0.0.0:7404", "moved to a place that is not this one");
        assert_eq!(listen_after("10.0.0.4:8408", &started(None, None)), "0.0.0.0:7404", "no flag, no news");
    }

    #[test]
    fn without_a_move_a_flag_is_for_this_start_alone() {
        let forwarded = started(Some("0.0.0.0:9000"), Some("10.0.0.4:7404"));
        assert_eq!(listen_after("10.0.0.4:7404", &forwarded), "0.0.0.0:7404");
    }

    #[test]
    fn two_ports_that_nobody_gave_are_told_of() {
        let apart = Identity { listen: "10.0.0.4:7000".into(), ..known() };
        let told =
            |known: &Identity, config| unexplained_listen_address(known, &config).map(|address| address.to_string());
        assert_eq!(told(&apart, started(None, None)).as_deref(), Some("10.0.0.4:7000"));
        assert_eq!(told(&apart, started(Some("10.0.0.4:7000"), Some("10.0.0.4:7404"))), None, "it is meant");
        assert_eq!(told(&apart, started(None, Some("10.0.0.4:7404"))), None, "it is meant");
        assert_eq!(told(&known(), started(None, None)), None);
    }
}
