//! Who this node is: a record in its data directory, written once when it is initialised or adopted.

use crate::{
    config::NodeConfig,
    storage::{DataDir, Result},
    wire::{Address, store},
};

const FILE: &str = "identity";

pub use store::Identity;

/// The identity in this directory; none for a node that belongs to no cluster yet.
pub fn read(dir: &DataDir) -> Result<Option<Identity>> {
    dir.read_record(FILE)
}

/// Writes it, durably and as a whole.
pub fn write(dir: &DataDir, identity: &Identity) -> Result<()> {
    dir.write_record(FILE, identity)
}

/// Marks that the node was removed from its cluster: it must never start again from this data.
pub fn mark_removed(dir: &DataDir) -> Result<()> {
    match read(dir)? {
        Some(identity) if !identity.removed => write(dir, &Identity { removed: true, ..identity }),
        _ => Ok(()),
    }
}

/// How consensus names this node to its peers.
pub fn for_peers(identity: &Identity) -> crate::raft::Identity {
    crate::raft::Identity { cluster_id: identity.cluster_id.clone(), epoch: identity.epoch, node_id: identity.node_id }
}

/// The record of a node that the membership has at `address`, once it runs with `config`. Where it listens goes with
/// where it is dialled: a move that is not completed leaves both as they were, and one that is takes both along, so that
/// a plain `chat-node run` listens where the cluster dials.
pub fn following(known: Identity, address: &str, config: &NodeConfig) -> Identity {
    let listen = match &config.listen {
        Some(listen) if arrived(&known, address, listen, config) => listen.to_string(),
        _ => known.listen,
    };
    Identity { address: address.to_owned(), listen, ..known }
}

fn arrived(known: &Identity, address: &str, listen: &Address, config: &NodeConfig) -> bool {
    let advertised = config.advertise.as_ref().is_some_and(|advertise| advertise.as_str() == address);
    // Whoever calls it by another name than the node does itself still dials this port.
    let same_port = || address.parse().is_ok_and(|at: Address| at.port() == listen.port());
    address != known.address && (advertised || same_port())
}

/// Where the record has the node listen, if that is another port than the cluster dials and nothing that the operator
/// gave says that it is meant.
pub fn listens_elsewhere(known: &Identity, config: &NodeConfig) -> Option<Address> {
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
        let followed = following(known(), address, config);
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
        let told = |known: &Identity, config| listens_elsewhere(known, &config).map(|address| address.to_string());
        assert_eq!(told(&apart, started(None, None)).as_deref(), Some("10.0.0.4:7000"));
        assert_eq!(told(&apart, started(Some("10.0.0.4:7000"), Some("10.0.0.4:7404"))), None, "it is meant");
        assert_eq!(told(&apart, started(None, Some("10.0.0.4:7404"))), None, "it is meant");
        assert_eq!(told(&known(), started(None, None)), None);
    }
}
