//! Nodes that are made to dial.

use std::{net::TcpListener, time::Instant};

use quorate::wire::{
    Fault, Reason,
    raft::{InspectRequest, join_service_client::JoinServiceClient},
};

use crate::common::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_tells_no_more_of_an_address_than_whether_a_node_answers_there() {
    let cluster = Cluster::of(1).start().await;
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = { TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address") };
    let dial = vec![silent.local_addr().expect("its address").to_string(), closed.to_string(), "no address".into()];
    let asked = JoinServiceClient::new(cluster.channel(1)).inspect(InspectRequest { dial }).await;
    for result in asked.expect("an answer").into_inner().dialled {
        assert!(!result.reachable && result.node_id == 0 && result.cluster_id.is_empty(), "{result:?}");
        assert_eq!(result.detail, "no answer", "an open port, a closed one and nonsense look the same");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_does_not_scan_for_a_stranger_and_can_still_be_grown() {
    let cluster = Cluster::of(1).spare(1).start().await;
    let [alice, _bob] = cluster.accounts(["alice", "bob"]).await;
    let closed = { TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address") };
    let calls = (0..100).map(|_| {
        let mut client = JoinServiceClient::new(cluster.channel(1));
        let dial = vec![closed.to_string(); 64];
        async move { client.inspect(InspectRequest { dial }).await }
    });
    let begun = Instant::now();
    let answers = futures::future::join_all(calls).await;
    let refused = answers.iter().filter(|answer| {
        answer
            .as_ref()
            .is_err_and(|status| matches!(Fault::from_status(status).reason, Reason::RateLimited | Reason::Overloaded))
    });
    let refused = refused.count();
    assert!(refused >= 90, "{refused} of 100 scans refused in {:?}", begun.elapsed());
    alice.send("bob", "after").await;
    cluster.add_node(2).await.expect("the operator waits until the rate lets the check through");
}
