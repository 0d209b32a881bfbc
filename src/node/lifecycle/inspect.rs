//! Inspects the data of a stopped node.

use prost_types::Timestamp;

use super::{StartError, leftovers::refuse_leftovers};
use crate::{
    node::{Settings, consensus::Stores, disk_record::LOG, identity},
    raft::{LogStore, StateMeta, convert},
    storage::{DataDir, archive},
    wire::store::Inspection,
};

/// Reports what the data directory of `settings` holds. Only reads; fails with `Locked` while the node runs.
pub async fn inspect(settings: Settings) -> Result<Inspection, StartError> {
    let dir = DataDir::open(&settings.config.data_dir)?;
    let Some(identity) = identity::read(&dir)? else {
        refuse_leftovers(&dir, &settings)?;
        return Ok(Inspection::default());
    };
    let stores = Stores::open(&dir, &settings, &identity)?;
    let log = LogStore::new(stores.log.clone());
    let damaged = |error: std::io::Error| StartError::Consensus(error.to_string());
    let (vote, bounds) = (log.vote().map_err(damaged)?, log.bounds().map_err(damaged)?);
    let view = stores.slot.current().view()?;
    let meta = StateMeta::read(&view)?;
    // A log that was purged to its end begins with the next entry to come.
    let after_purged = bounds.last_purged_log_id.as_ref().map_or(0, |id| id.index().saturating_add(1));
    let seconds = i64::try_from(identity.create_time_ms / 1_000).unwrap_or(i64::MAX);
    let inspection = Inspection {
        vote: vote.as_ref().map(convert::vote),
        first_log_index: stores.log.bounds().map_or(after_purged, |(first, _)| first),
        last_log_id: bounds.last_log_id.as_ref().map(convert::log_id),
        applied: meta.applied.as_ref().map(convert::log_id),
        membership: Some(convert::stored_membership(&meta.membership)),
        log_bytes: std::fs::metadata(dir.path(LOG)).map_or(0, |file| file.len()),
        state_bytes: view.size_bytes(),
        digest: archive::digest(&view)?.to_vec().into(),
        create_time: Some(Timestamp { seconds, nanos: 0 }),
        identity: Some(identity),
    };
    stores.log.close()?;
    Ok(inspection)
}
