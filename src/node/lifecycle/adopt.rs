//! How an empty node becomes a member.
//!
//! An adoption opens fresh stores, writes the identity, then starts consensus under it. It runs in a task of its own: a
//! gRPC call is dropped when its connection breaks, and an identity on disk without a running member would strand the
//! node. The same adoption given again waits for the first one and returns its result; if the first one failed half way,
//! it continues from there. Any other adoption is refused.

use std::{
    fmt::Display,
    sync::{Mutex, PoisonError},
};

use crate::{
    node::{
        Identity, Node,
        consensus::{Elections, Stores},
        disk_record, identity,
    },
    storage::Result as Stored,
    types::{NodeName, Zone},
    wire::{Address, Fault, Reason, raft::AdoptRequest},
};

/// The identity that this node is about to take, while an adoption is under way.
///
/// Set and cleared under `Inner::identity_file`, so there is at most one. `inspect` reads it without that lock, so that a
/// node in adoption answers who it will be.
#[derive(Default)]
pub struct PendingAdoption(Mutex<Option<Identity>>);

impl PendingAdoption {
    fn set(&self, identity: Option<Identity>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    /// The identity, if an adoption is under way.
    pub fn identity(&self) -> Option<Identity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Node {
    /// Gives this empty node its identity and starts consensus. Repeating the same adoption is harmless.
    pub async fn adopt(&self, request: AdoptRequest) -> Result<(), Fault> {
        let identity = self.checked_identity(request)?;
        let node = self.clone();
        let adopting = tokio::spawn(async move { node.become_member(identity).await });
        adopting.await.unwrap_or_else(|error| Err(failed(&error)))
    }

    /// Takes the identity and starts consensus, unless that is done already. One adoption runs at a time.
    async fn become_member(&self, identity: Identity) -> Result<(), Fault> {
        let _one_at_a_time = self.inner.identity_file.lock().await;
        match self.replica() {
            Ok(replica) => return same_or_taken(&replica.identity, &identity),
            Err(fault) if fault.reason != Reason::NotMember => return Err(fault),
            Err(_) => self.may_adopt(&identity)?,
        }
        self.inner.pending_adoption.set(Some(identity.clone()));
        let taken = self.take_identity(identity).await;
        self.inner.pending_adoption.set(None);
        taken
    }

    /// Refuses an adoption while the node stops, or under another name than the one it was started with.
    fn may_adopt(&self, identity: &Identity) -> Result<(), Fault> {
        if self.is_stopping() {
            return Err(Fault::new(Reason::Unreachable, "this node is stopping").next("start it again, then add it"));
        }
        let Some(own) = &self.settings().config.name else { return Ok(()) };
        if own.folded() == identity.name.to_ascii_lowercase() {
            return Ok(());
        }
        let message = format!("this node was started with --name {own}, not {}", identity.name);
        Err(Fault::new(Reason::Unsafe, message)
            .next(format!("add it as {own}, or start it again as {}", identity.name)))
    }

    /// Opens the stores, writes the identity and starts consensus. If an earlier adoption wrote the same identity and
    /// failed afterwards, it opens the existing stores and continues.
    async fn take_identity(&self, identity: Identity) -> Result<(), Fault> {
        let blocking = self.settings().blocking;
        let dir = self.inner.dir.clone();
        let on_disk = blocking.run(move || identity::read(&dir)).await.map_err(|error| failed(&error))?;
        if let Some(known) = &on_disk {
            same_or_taken(known, &identity)?;
        }
        let directory_id = on_disk.as_ref().map_or(identity.directory_id, |known| known.directory_id.clone());
        let identity = Identity { directory_id, ..identity };
        let (dir, settings, record) = (self.inner.dir.clone(), self.settings().clone(), identity.clone());
        let open = move || -> Stored<(Stores, disk_record::Start)> {
            // The stores first: an identity on disk implies that they exist.
            let stores = match on_disk {
                Some(_) => Stores::open(&dir, &settings, &record)?,
                None => Stores::create(&dir, &settings, &record)?,
            };
            // A repeated adoption begins on files that have never promised anything.
            disk_record::create(&dir, &record)?;
            identity::write(&dir, &record)?;
            let start = disk_record::begin(&dir, &settings, &record)?;
            Ok((stores, start))
        };
        let (stores, start) = blocking.run(open).await.map_err(|error| failed(&error))?;
        tracing::info!(cluster = identity.cluster_id, node = identity.node_id, name = identity.name, "adopted");
        self.begin(identity, stores, start, Elections::AtOnce).await.map_err(|error| failed(&error))
    }

    fn checked_identity(&self, request: AdoptRequest) -> Result<Identity, Fault> {
        let request = checked_adoption(request)?;
        Ok(Identity {
            cluster_id: request.cluster_id,
            epoch: request.epoch,
            node_id: request.node_id,
            name: request.name,
            address: request.address,
            zone: request.zone,
            removed: false,
            create_time_ms: self.clock().now_ms(),
            listen: self.settings().config.listen.as_ref().map(ToString::to_string).unwrap_or_default(),
            directory_id: identity::new_directory_id(self.entropy()),
        })
    }
}

/// Refuses a request whose fields cannot be part of an identity.
pub fn checked_adoption(request: AdoptRequest) -> Result<AdoptRequest, Fault> {
    let invalid = |field: &str, error: &dyn Display| Fault::invalid(field, error.to_string());
    NodeName::new(&request.name).map_err(|e| invalid("name", &e))?;
    request.address.parse::<Address>().map_err(|e| invalid("address", &e))?;
    if !request.zone.is_empty() {
        Zone::new(&request.zone).map_err(|e| invalid("zone", &e))?;
    }
    if request.node_id == 0 || request.cluster_id.is_empty() {
        return Err(Fault::invalid("node_id", "an adoption must name the cluster and a node id"));
    }
    Ok(request)
}

/// Whether the node already is what an adoption wants; a fault if it is another member.
fn same_or_taken(known: &Identity, wanted: &Identity) -> Result<(), Fault> {
    let is = |identity: &Identity| (identity.cluster_id.clone(), identity.epoch, identity.node_id);
    if is(known) == is(wanted) {
        return Ok(());
    }
    let message = format!("this node is {} (id {}) of cluster {} already", known.name, known.node_id, known.cluster_id);
    Err(Fault::new(Reason::Unsafe, message).next("start a node with an empty data directory and add that one"))
}

fn failed(error: &dyn Display) -> Fault {
    Fault::new(Reason::Internal, format!("this node could not be adopted: {error}"))
        .next("fix the cause that its log names, then repeat the command: it continues where it stopped")
}

#[cfg(test)]
mod tests {
    use std::{future::Future, task::Poll};

    use super::*;
    use crate::{
        config::NodeConfig,
        node::Settings,
        wire::raft::{InspectRequest, InspectResponse},
    };

    fn adoption(node_id: u64) -> AdoptRequest {
        AdoptRequest {
            cluster_id: "c".into(),
            epoch: 1,
            node_id,
            name: "n2".into(),
            address: "127.0.0.1:2".into(),
            zone: String::new(),
        }
    }

    async fn empty_node(folder: &tempfile::TempDir) -> Node {
        Node::start(Settings::production(NodeConfig::defaults(folder.path().join("data")))).await.unwrap()
    }

    async fn looks(node: &Node) -> InspectResponse {
        node.inspect(InspectRequest { dial: Vec::new() }).await.unwrap()
    }

    /// Asks for an adoption, and goes away before there is an answer.
    async fn ask_and_leave(node: &Node, node_id: u64) {
        let mut adopting = Box::pin(node.adopt(adoption(node_id)));
        std::future::poll_fn(|context| {
            assert!(adopting.as_mut().poll(context).is_pending(), "it takes a while");
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn an_adoption_whose_caller_has_left_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let node = empty_node(&folder).await;
        let mut changes = node.membership_changes();
        ask_and_leave(&node, 7).await;
        let member = tokio::time::timeout(std::time::Duration::from_secs(20), changes.changed()).await;
        member.expect("consensus begins").unwrap();
        let found = looks(&node).await;
        assert!(found.pristine && found.node_id == 7, "the same command goes on: {found:?}");
        node.adopt(adoption(7)).await.expect("the same again");
        let fault = node.adopt(adoption(8)).await.expect_err("it is taken");
        assert_eq!(fault.reason, Reason::Unsafe, "{fault:?}");
        node.stop().await;
    }

    #[tokio::test]
    async fn the_same_adoption_again_waits_for_the_first_and_another_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let node = empty_node(&folder).await;
        ask_and_leave(&node, 7).await;
        let (same, other) = tokio::join!(node.adopt(adoption(7)), node.adopt(adoption(8)));
        same.expect("the same");
        assert_eq!(other.expect_err("it is taken").reason, Reason::Unsafe);
        assert!(node.replica().is_ok(), "an answer means that consensus has begun");
        node.stop().await;
    }

    #[tokio::test]
    async fn an_adoption_that_failed_after_the_identity_was_written_goes_on_when_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let node = empty_node(&folder).await;
        let (dir, identity) = (node.inner.dir.clone(), node.checked_identity(adoption(7)).unwrap());
        drop(Stores::create(&dir, node.settings(), &identity).unwrap());
        identity::write(&dir, &identity).unwrap();
        let found = looks(&node).await;
        assert!(found.pristine && found.node_id == 7, "{found:?}");
        let fault = node.adopt(adoption(8)).await.expect_err("it has an identity");
        assert_eq!(fault.reason, Reason::Unsafe, "{fault:?}");
        node.adopt(adoption(7)).await.expect("it goes on");
        node.stop().await;
    }

    #[tokio::test]
    async fn stopping_ends_an_adoption_that_is_under_way_and_lets_none_begin() {
        let folder = tempfile::tempdir().unwrap();
        let node = empty_node(&folder).await;
        ask_and_leave(&node, 7).await;
        node.stop().await;
        let fault = node.adopt(adoption(7)).await.expect_err("it stops");
        assert_eq!(fault.reason, Reason::Unreachable, "{fault:?}");
        assert!(node.replica().is_err() && !looks(&node).await.pristine);
    }
}
