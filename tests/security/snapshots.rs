//! Snapshots that are not of this cluster, or not what they say.

use bytes::Bytes;
use quorate::wire::{
    Reason,
    admin::{CreateBackupRequest, admin_service_client::AdminServiceClient},
    raft::{LogId, SnapshotHeader, StoredMembership},
};

use crate::{
    attacker::{Attacker, refused},
    common::{Cluster, User},
};

/// The state of a node, as it sends it to peers and to backups.
async fn archive(cluster: &Cluster, number: usize) -> Vec<Bytes> {
    let mut admin = AdminServiceClient::new(cluster.channel(number));
    let mut frames = admin.create_backup(CreateBackupRequest {}).await.expect("a backup").into_inner();
    let mut archive = Vec::new();
    while let Some(frame) = frames.message().await.expect("whole") {
        archive.push(frame.data);
    }
    archive
}

/// What a header must say of the state of a node, which is stopped for the look.
async fn described(cluster: &Cluster, number: usize) -> (LogId, StoredMembership) {
    cluster.stop(number).await;
    let found = cluster.inspect(number).await;
    cluster.restart(number).await.expect("it starts again");
    (found.applied.expect("it has applied something"), found.membership.expect("it has a membership"))
}

/// A cluster whose users can tell whether it still has what they wrote.
async fn victim() -> (Cluster, [User; 2]) {
    let cluster = Cluster::of(3).start().await;
    let users = cluster.accounts(["alice", "bob"]).await;
    users[0].send("bob", "kept").await;
    (cluster, users)
}

async fn is_unharmed(cluster: &Cluster, [alice, bob]: &[User; 2]) {
    alice.send("bob", "after").await;
    bob.eventually_sees("alice", &["kept", "after"]).await;
    cluster.wait_for_voters(3).await;
    cluster.assert_replicas_agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_another_cluster_is_refused_whoever_sends_it() {
    let (cluster, users) = victim().await;
    let other = Cluster::of(1).start().await;
    let [mallory] = other.accounts(["mallory"]).await;
    // Its log is longer, so that the snapshot is newer by number.
    let behind = cluster.membership(1).commit_index;
    while other.membership(1).commit_index < behind + 50 {
        mallory.send("mallory", "mine").await;
    }
    // The archive first: a node that starts again begins a term, with an entry.
    let frames = archive(&other, 1).await;
    let (applied, membership) = described(&other, 1).await;
    let (leader, followers) = cluster.roles().await;
    let term = cluster.membership(leader).term;
    for target in followers {
        let attacker = Attacker::new(&cluster, leader, target);
        for forged in [applied, LogId { term, ..applied }] {
            let header = SnapshotHeader {
                vote: attacker.vote(term, true),
                last_log_id: Some(forged),
                last_membership: Some(membership.clone()),
                ..Default::default()
            };
            refused("a foreign state", attacker.install(header, &frames).await, Reason::InvalidArgument);
        }
    }
    is_unharmed(&cluster, &users).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_verified_as_a_whole_before_anything_is_replaced() {
    let (cluster, users) = victim().await;
    let (leader, followers) = cluster.roles().await;
    let frames = archive(&cluster, leader).await;
    let (_, membership) = described(&cluster, followers[1]).await;
    let leader = cluster.wait_for_leader().await;
    let target = *followers.iter().find(|number| **number != leader).expect("a follower");
    let attacker = Attacker::new(&cluster, leader, target);
    let term = cluster.membership(leader).term;
    let far = LogId { term, index: cluster.membership(leader).commit_index + 1_000 };
    let header = |last_log_id| SnapshotHeader {
        vote: attacker.vote(term, true),
        last_log_id: Some(last_log_id),
        last_membership: Some(membership.clone()),
        ..Default::default()
    };
    let refused_as_invalid = async |what: &str, archive: &[Bytes]| {
        refused(what, attacker.install(header(far), archive).await, Reason::InvalidArgument);
    };
    refused_as_invalid("a header that does not match", &frames).await;
    refused_as_invalid("no archive", &[]).await;
    refused_as_invalid("half an archive", &frames[..1]).await;
    let mut bent = frames.clone();
    let mut last = bent.pop().expect("a frame").to_vec();
    let middle = last.len() / 2;
    last[middle] ^= 1;
    bent.push(last.into());
    refused_as_invalid("a bent archive", &bent).await;
    let foreign = SnapshotHeader { cluster_id: "another".into(), epoch: 1, ..header(far) };
    refused("a header of another cluster", attacker.install(foreign, &frames).await, Reason::InvalidArgument);
    let own = cluster.membership(leader).cluster_id;
    let later = SnapshotHeader { cluster_id: own, epoch: 2, ..header(far) };
    refused("a header of another epoch", attacker.install(later, &frames).await, Reason::InvalidArgument);
    is_unharmed(&cluster, &users).await;
}
