//! A recovery of what an attack has left.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use prost::Message;
use quorate::{
    config::NodeConfig,
    node::{Node, Recovery, Settings, inspect},
    storage::{Blocking, DataDir, LogFile, Open},
    types::NodeName,
    wire::raft::{Blank, Entry, LogId, Vote, entry::Payload},
};

use crate::common::eventually;

fn settings(folder: &Path) -> Settings {
    let config = NodeConfig {
        name: NodeName::new("n1").ok(),
        listen: "127.0.0.1:1".parse().ok(),
        election_timeout_min: Duration::from_millis(250),
        election_timeout_max: Duration::from_millis(500),
        ..NodeConfig::defaults(folder.join("data"))
    };
    Settings::production(config)
}

/// Changes the log of a stopped node.
fn with_log(settings: &Settings, change: impl FnOnce(&LogFile)) {
    let dir = DataDir::open(&settings.config.data_dir).expect("a data directory");
    let log = LogFile::open(&dir, "log.redb", Open::Existing, Blocking::Inline).expect("a log");
    change(&log);
    log.close().expect("it is durable");
}

/// What older versions kept of one forged append.
fn forge_vote(log: &LogFile) {
    let vote = Vote { term: u64::MAX, node_id: 7, committed: true };
    log.set("vote", Bytes::from(vote.encode_to_vec()), Box::new(|done| done.expect("written")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vote_of_the_greatest_term_is_reset_by_a_recovery_and_the_node_leads_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = settings(folder.path());
    Node::init(settings.clone()).await.expect("a cluster of one");
    with_log(&settings, forge_vote);
    let stuck = Node::start(settings.clone()).await.err().expect("it could never elect itself");
    assert!(stuck.to_string().contains("chat-node recover"), "{stuck}");

    let recovery = Recovery::open(settings.clone(), &[]).await.expect("a survivor");
    let before = recovery.survivor.last;
    recovery.carry_out().await.expect("recovered");
    let found = inspect(settings.clone()).await.expect("a directory of a node");
    let (vote, last) = (found.vote.expect("a vote"), found.last_log_id.expect("an entry"));
    assert_eq!((vote.term, vote.committed), (before.0 + 1, false));
    assert_eq!((last.term, last.index), (before.0 + 1, before.1 + 1));

    let node = Node::start(settings).await.expect("it starts");
    eventually("it leads", async || match node.membership() {
        known if known.has_quorum && known.leader_id == known.answered_by_id => Ok(()),
        known => Err(format!("{known:?}")),
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_ends_in_the_greatest_term_is_refused_by_a_recovery_and_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = settings(folder.path());
    Node::init(settings.clone()).await.expect("a cluster of one");
    with_log(&settings, |log| {
        forge_vote(log);
        let next = log.bounds().map_or(0, |(_, last)| last + 1);
        let log_id = Some(LogId { term: u64::MAX, index: next });
        let entry = Entry { log_id, payload: Some(Payload::Blank(Blank {})) };
        log.append(vec![(next, entry.encode_to_vec().into())], Box::new(|done| done.expect("written")));
    });
    let before = inspect(settings.clone()).await.expect("it can be looked at");
    let refused = match Recovery::open(settings.clone(), &[]).await {
        Ok(recovery) => recovery.carry_out().await.map(drop).expect_err("there is no later term"),
        Err(error) => error,
    };
    assert!(refused.to_string().contains("term"), "{refused}");
    let after = inspect(settings).await.expect("it can be looked at");
    assert_eq!((after.identity, after.vote, after.last_log_id), (before.identity, before.vote, before.last_log_id));
}
