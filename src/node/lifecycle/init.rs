//! Creates a cluster of one voter in an empty data directory.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::StartError;
use crate::{
    node::{
        Identity, Node, Settings,
        consensus::{Elections, Replica, Stores},
        disk_record,
        identity::{self, FIRST_NODE_ID},
    },
    storage::DataDir,
};

/// How long the one-voter cluster may take to elect itself.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(10);

impl Node {
    /// Creates a one-voter cluster in the empty data directory of `settings`, and stops again.
    pub async fn init(settings: Settings) -> Result<Identity, StartError> {
        let dir = DataDir::create_or_open(&settings.config.data_dir)?;
        Self::init_on(settings, dir).await
    }

    /// Like [`Node::init`], in a directory that the caller opened.
    ///
    /// The identity is written last. After a crash before that, the directory holds stores without an identity: `start`
    /// and `init` refuse it, and the operator clears it.
    pub async fn init_on(settings: Settings, dir: DataDir) -> Result<Identity, StartError> {
        if !dir.is_empty()? {
            return Err(StartError::NotEmpty);
        }
        let identity = new_identity(&settings)?;
        let stores = Stores::create(&dir, &settings, &identity)?;
        disk_record::create(&dir, &identity)?;
        let node = Self::assemble(settings, dir.clone());
        let (start, hub) = (disk_record::Start::default(), &node.inner.hub);
        let replica = Replica::start(identity.clone(), stores, start, node.settings(), hub, Elections::AtOnce).await?;
        let members = BTreeMap::from([(FIRST_NODE_ID, identity::as_member(&identity))]);
        let failed = |error: &dyn fmt::Display| StartError::Consensus(format!("the cluster was not made: {error}"));
        replica.raft.initialize(members).await.map_err(|error| failed(&error))?;
        // Entry 0 is the initial membership, entry 1 the blank entry of the first term.
        let leading =
            replica.raft.wait(Some(ELECTION_TIMEOUT)).applied_index_at_least(Some(1), "the first node leads").await;
        leading.map_err(|error| failed(&error))?;
        replica.stop(node.settings(), Duration::ZERO).await;
        identity::write(&dir, &identity)?;
        Ok(identity)
    }
}

/// The identity of the first node of a new cluster.
pub fn new_identity(settings: &Settings) -> Result<Identity, StartError> {
    let config = &settings.config;
    let listen = config.listen.as_ref().ok_or(StartError::Missing("--listen HOST:PORT"))?;
    let advertise = config.advertise.as_ref().unwrap_or(listen);
    let name = config.name.as_ref().ok_or(StartError::Missing("--name NAME"))?;
    let id = uuid::Builder::from_random_bytes(settings.entropy.bytes()).into_uuid();
    Ok(Identity {
        cluster_id: id.to_string(),
        epoch: 1,
        node_id: FIRST_NODE_ID,
        name: name.to_string(),
        address: advertise.to_string(),
        zone: config.zone.as_ref().map(ToString::to_string).unwrap_or_default(),
        removed: false,
        create_time_ms: settings.clock.now_ms(),
        listen: listen.to_string(),
        directory_id: identity::new_directory_id(&settings.entropy),
    })
}
