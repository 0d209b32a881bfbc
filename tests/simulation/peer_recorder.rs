//! Records what a node and its peers say to each other, for the checks of [`Promises`].
//!
//! It stands between the network and the node's own peer service and passes everything on unchanged. It records votes
//! and appends; snapshots, transfers of leadership and read indexes bind nobody, so they pass without a record.

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

/// The peer service of one node, with a record of what goes in and out.
///
/// Invariant: a promise is recorded before the peer can see it, and after the node has made it. So a node that crashes
/// in between is never blamed for a promise that it did not give.
#[derive(Clone)]
pub struct PeerRecorder {
    service: PeerService,
    promises: Arc<Promises>,
    node: Arc<str>,
}

/// The entries of one append stream that the node has not acknowledged yet.
#[derive(Clone, Default)]
struct Unacknowledged(Arc<Mutex<SentEntries>>);

#[derive(Default)]
struct SentEntries {
    /// The term of the leader that sends.
    leader_term: u64,
    /// Index and term of each entry.
    terms: BTreeMap<u64, u64>,
}

impl PeerRecorder {
    pub fn new(service: PeerService, promises: Arc<Promises>, node: &str) -> Self {
        Self { service, promises, node: node.into() }
    }

    fn received(&self, sent: &Unacknowledged, request: &AppendRequest) {
        self.promises.append_received(&self.node, request);
        let mut sent = sent.0.lock().unwrap_or_else(PoisonError::into_inner);
        sent.leader_term = request.vote.unwrap_or_default().term;
        sent.terms.extend(request.entries.iter().filter_map(|entry| entry.log_id).map(|id| (id.index, id.term)));
    }

    /// An answer acknowledges every entry up to `matched`, not only the last one.
    fn answered(&self, sent: &Unacknowledged, response: &AppendResponse) {
        let (None, Some(matched)) = (response.refusal, response.matched) else { return };
        let mut sent = sent.0.lock().unwrap_or_else(PoisonError::into_inner);
        let later = sent.terms.split_off(&(matched.index + 1));
        let synced = std::mem::replace(&mut sent.terms, later).into_iter().chain([(matched.index, matched.term)]);
        self.promises.append_acknowledged(&self.node, sent.leader_term, synced);
    }
}

#[tonic::async_trait]
impl RaftService for PeerRecorder {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<AppendResponse, Status>> + Send>>;

    async fn append(&self, request: Request<Streaming<AppendRequest>>) -> Result<Response<Self::AppendStream>, Status> {
        let (metadata, extensions, requests) = request.into_parts();
        let (sent, on_answer) = (Unacknowledged::default(), self.clone());
        let (sent_in, on_request) = (sent.clone(), self.clone());
        let requests = requests.inspect(move |request| {
            if let Ok(request) = request {
                on_request.received(&sent_in, request);
            }
        });
        let response = self.service.append(Request::from_parts(metadata, extensions, reencoded(requests))).await?;
        Ok(response.map(|answers| -> Self::AppendStream {
            Box::pin(answers.inspect(move |answer| {
                if let Ok(answer) = answer {
                    on_answer.answered(&sent, answer);
                }
            }))
        }))
    }

    async fn vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        // A pre-vote promises nothing: it asks whether an election could be won (Ongaro's thesis, section 9.6).
        let asked = *request.get_ref();
        if let Some(vote) = asked.vote.filter(|_| !asked.pre_vote) {
            self.promises.vote_requested(vote);
        }
        let response = self.service.vote(request).await?;
        if response.get_ref().granted && !asked.pre_vote {
            let vote = asked.vote.unwrap_or_default();
            self.promises.vote_granted(&self.node, vote.term, vote.node_id);
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

/// Encodes and decodes the messages once more, because the service accepts only what looks like a connection's stream.
fn reencoded(messages: impl Stream<Item = Result<AppendRequest, Status>> + Send + 'static) -> Streaming<AppendRequest> {
    let mut codec = ProstCodec::<AppendRequest, AppendRequest>::default();
    let limit = Some(limits::PEER_RPC_BYTES);
    let body = EncodeBody::new_client(codec.encoder(), messages, None, limit);
    Streaming::new_request(codec.decoder(), body, None, limit)
}
