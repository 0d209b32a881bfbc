//! Writes in a session that is none.

use std::time::Duration;

use quorate::{
    config::{Rate, Rates},
    wire::{
        Fault, Reason,
        chat::{
            ChangePasswordRequest, DeleteSessionRequest, SendMessageRequest,
            account_service_client::AccountServiceClient, message_service_client::MessageServiceClient,
            send_message_request::Recipient,
        },
        metadata,
    },
};
use tonic::Request;

use crate::common::Cluster;

/// A retry of a write that has ended its own session must pass. So a session that is over is no reason to refuse.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_session_with_a_known_request_id_puts_nothing_into_the_log() {
    let cluster = Cluster::of(1).start().await;
    let [alice, _bob] = cluster.accounts(["alice", "bob"]).await;
    let id = alice.request_id();
    alice.try_send(id, "bob", "once").await.expect("a message");
    let before = cluster.membership(1).nodes[0].matched_index;
    let mut messages = MessageServiceClient::new(cluster.channel(1));
    for number in 0..200 {
        let mut request = Request::new(SendMessageRequest {
            request_id: id.to_string(),
            recipient: Some(Recipient::Username("bob".into())),
            body: "once".into(),
        });
        let forged = format!("Bearer forged-{number}").parse().expect("ASCII");
        request.metadata_mut().insert(metadata::AUTHORIZATION, forged);
        let status = messages.send_message(request).await.expect_err("it has no session");
        assert_eq!(Fault::from_status(&status).reason, Reason::SessionInvalid, "{status:?}");
    }
    assert_eq!(cluster.membership(1).nodes[0].matched_index, before, "the log did not grow");
}

/// A retry of a change of password passes without the old one, which is no longer right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_request_id_does_not_stand_for_a_password() {
    let cluster = Cluster::of(1).start().await;
    let [alice, mallory] = cluster.accounts(["alice", "mallory"]).await;
    let id = alice.request_id();
    alice.try_send(id, "mallory", "once").await.expect("a message");
    let before = cluster.membership(1).nodes[0].matched_index;
    let request = ChangePasswordRequest {
        request_id: id.to_string(),
        old_password: "a guess at it".into(),
        new_password: "something quite else".into(),
    };
    let asked = AccountServiceClient::new(cluster.channel(1)).change_password(mallory.signed(request)).await;
    let fault = Fault::from_status(&asked.expect_err("the old password is wrong"));
    assert_eq!(fault.reason, Reason::BadCredentials, "{fault:?}");
    assert_eq!(cluster.membership(1).nodes[0].matched_index, before, "the log did not grow");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn true_repeats_in_a_session_that_is_over_count_against_the_address() {
    const BURST: u32 = 50;
    let slow = Rate { interval: Duration::from_secs(3_600), burst: BURST };
    let cluster = Cluster::of(1).rates(Rates { writes: Some(slow), ..Rates::UNLIMITED }).start().await;
    let [alice] = cluster.accounts(["alice"]).await;
    let request_id = alice.request_id().to_string();
    let sign_out = async || {
        let request = DeleteSessionRequest { request_id: request_id.clone(), ..Default::default() };
        AccountServiceClient::new(cluster.channel(1)).delete_session(alice.signed(request)).await.map(drop)
    };
    sign_out().await.expect("signed out");
    // A node remembers for a while which account a session was of.
    cluster.stop(1).await;
    cluster.restart(1).await.expect("it starts again");
    cluster.wait_for_leader().await;
    for _ in 0..BURST {
        sign_out().await.expect("a retry has the first outcome");
    }
    let fault = Fault::from_status(&sign_out().await.expect_err("enough of that"));
    assert_eq!(fault.reason, Reason::RateLimited, "{fault:?}");
}
