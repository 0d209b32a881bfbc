//! Listens to what a node and its peers say to each other, and writes down what the node promises.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{Stream, StreamExt};
use quorate::{
    raft::PeerService,
    types::limits,
    wire::raft::{
        AppendRequest, AppendResponse, ReadIndexRequest, ReadIndexResponse, SnapshotChunk, SnapshotResponse,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse, raft_service_server::RaftService,
    },
};
use tonic::{
    Request, Response, Status, Streaming,
    codec::{Codec, EncodeBody},
};
use tonic_prost::ProstCodec;

use crate::promises::Promises;

/// The service for peers of one node, listened to.
#[derive(Clone)]
pub struct Tap {
    service: PeerService,
    promises: Arc<Promises>,
    node: Arc<str>,
}

/// What one stream of appends has brought and is not acknowledged yet.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<(u64, BTreeMap<u64, u64>)>>);

impl Tap {
    pub fn new(service: PeerService, promises: Arc<Promises>, node: &str) -> Self {
        Self { service, promises, node: node.into() }
    }

    fn heard(&self, sent: &Sent, request: &AppendRequest) {
        self.promises.heard(&self.node, request);
        let mut sent = sent.0.lock().unwrap_or_else(PoisonError::into_inner);
        sent.0 = request.vote.unwrap_or_default().term;
        sent.1.extend(request.entries.iter().filter_map(|entry| entry.log_id).map(|id| (id.index, id.term)));
    }

    fn answered(&self, sent: &Sent, response: &AppendResponse) {
        let (None, Some(matched)) = (response.refusal, response.matched) else { return };
        let mut sent = sent.0.lock().unwrap_or_else(PoisonError::into_inner);
        let later = sent.1.split_off(&(matched.index + 1));
        let synced = std::mem::replace(&mut sent.1, later);
        self.promises.acknowledged(&self.node, sent.0, synced.into_iter().chain([(matched.index, matched.term)]));
    }
}

#[tonic::async_trait]
impl RaftService for Tap {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<AppendResponse, Status>> + Send>>;

    async fn append(&self, request: Request<Streaming<AppendRequest>>) -> Result<Response<Self::AppendStream>, Status> {
        let (metadata, extensions, requests) = request.into_parts();
        let (sent, tap) = (Sent::default(), self.clone());
        let (heard, hearing) = (sent.clone(), self.clone());
        let requests = requests.inspect(move |request| {
            if let Ok(request) = request {
                hearing.heard(&heard, request);
            }
        });
        let response = self.service.append(Request::from_parts(metadata, extensions, again(requests))).await?;
        Ok(response.map(|answers| -> Self::AppendStream {
            Box::pin(answers.inspect(move |answer| {
                if let Ok(answer) = answer {
                    tap.answered(&sent, answer);
                }
            }))
        }))
    }

    async fn vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        let asked = *request.get_ref();
        if let Some(vote) = asked.vote.filter(|_| !asked.pre_vote) {
            self.promises.stood(vote);
        }
        let response = self.service.vote(request).await?;
        if response.get_ref().granted && !asked.pre_vote {
            let vote = asked.vote.unwrap_or_default();
            self.promises.voted(&self.node, vote.term, vote.node_id);
        }
        Ok(response)
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<SnapshotResponse>, Status> {
        self.service.install_snapshot(request).await
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        self.service.transfer_leader(request).await
    }

    async fn read_index(&self, request: Request<ReadIndexRequest>) -> Result<Response<ReadIndexResponse>, Status> {
        self.service.read_index(request).await
    }
}

/// The service takes what comes from a connection: the messages are encoded and decoded once more.
fn again(messages: impl Stream<Item = Result<AppendRequest, Status>> + Send + 'static) -> Streaming<AppendRequest> {
    let mut codec = ProstCodec::<AppendRequest, AppendRequest>::default();
    let limit = Some(limits::PEER_RPC_BYTES);
    let body = EncodeBody::new_client(codec.encoder(), messages, None, limit);
    Streaming::new_request(codec.decoder(), body, None, limit)
}
