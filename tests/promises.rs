//! The promises, attacked from outside: a whole cluster, its real client, and a network that fails.

mod common;

use common::Cluster;

/// P1, P2, P8.
#[tokio::test]
async fn an_acknowledged_message_survives_a_deposed_leader() {
    let cluster = Cluster::of(5).start().await;
    let [alice, bob] = cluster.accounts(["alice", "bob"]).await;
    let (leader, followers) = cluster.roles().await;
    cluster.partition(&[leader, followers[0]], &followers[1..]);
    alice.send("bob", "kept").await;
    cluster.heal();
    cluster.kill([leader]).await;
    bob.eventually_sees("alice", &["kept"]).await;
    cluster.assert_replicas_agree().await;
}
